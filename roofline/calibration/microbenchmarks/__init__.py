"""Measure this machine with torch and fio: kernels, memory, host, links, collectives and storage."""
