"""The NAS-Bench-201 space: cells and networks."""
