"""Measurements as they come: operator tables, benchmark output, and the work that a row stands for."""
