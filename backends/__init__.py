"""Backends: runtimes that run a network and return raw timed samples.

A backend's runtime is imported when the backend is first used, never by this package.
"""

from __future__ import annotations

if __name__ != "latkit.backends":
    raise ImportError(
        f"import this package as latkit.backends, not as {__name__}: a second copy of its "
        "classes would not be recognised by the rest of latkit"
    )

from latkit.backends.base import Backend, Probe
from latkit.backends.registry import BACKENDS, default_backend_name, probe_backend, probe_backends
from latkit.backends.runner import Clock, Runner, Samples
from latkit.backends.timing import CpuRunner, EventRunner, cpu_clock

__all__ = [
    "BACKENDS",
    "Backend",
    "Clock",
    "CpuRunner",
    "EventRunner",
    "Probe",
    "Runner",
    "Samples",
    "cpu_clock",
    "default_backend_name",
    "probe_backend",
    "probe_backends",
]
