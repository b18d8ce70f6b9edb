"""Backends: runtimes that run a network and return raw timed samples.

A backend's runtime is imported when the backend is first asked for, never by this package.
"""

from __future__ import annotations

if __name__ != "latkit.backends":
    raise ImportError(
        f"import this package as latkit.backends, not as {__name__}: a second copy of its "
        "classes would not be recognised by the rest of latkit"
    )

import difflib
import importlib

from latkit.backends.base import Backend, Probe, Runner, Samples
from latkit.errors import InputError

__all__ = [
    "Backend",
    "Probe",
    "Runner",
    "Samples",
    "backend_names",
    "default_backend_name",
    "get_backend_class",
]

# In order of preference when no backend is named.
_BACKENDS = {
    "torch-cuda": "latkit.backends.torch_cuda:TorchCudaBackend",
    "torch-cpu": "latkit.backends.torch_cpu:TorchCpuBackend",
}


def backend_names() -> list[str]:
    """Names of all backends, whether usable here or not."""
    return list(_BACKENDS)


def get_backend_class(name: str) -> type[Backend]:
    """The class of a backend.

    Raises:
        InputError: there is no backend of that name.
    """
    if name not in _BACKENDS:
        close = difflib.get_close_matches(name, _BACKENDS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(
            f"unknown backend {name!r}",
            f"{hint}use one of: {', '.join(_BACKENDS)} (see latkit backends list)",
        )
    module, _, attribute = _BACKENDS[name].partition(":")
    cls: type[Backend] = getattr(importlib.import_module(module), attribute)
    return cls


def default_backend_name() -> tuple[str, str]:
    """The backend used when none is named, and one line that says why.

    ``torch-cuda`` where a GPU is present that this PyTorch build can run on, else ``torch-cpu``.
    """
    probe = get_backend_class("torch-cuda").probe()
    if probe.usable:
        return "torch-cuda", f"using torch-cuda ({probe.reason})"
    return "torch-cpu", f"using torch-cpu, because torch-cuda is {probe.status}: {probe.reason}"
