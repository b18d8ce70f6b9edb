"""The parts of ``benchmarks/gpu.py``: a module a subject, each run in a process of its own."""
