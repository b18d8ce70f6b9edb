"""Profiling by several workers, each with a device of one kind."""
