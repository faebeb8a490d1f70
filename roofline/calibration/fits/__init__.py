"""Measurements into parameters: one kernel, its transfer to other devices, whole passes, profiles."""
