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
import functools
import importlib
import inspect
from importlib.metadata import EntryPoint, entry_points

from latkit.backends.base import Backend, Probe, Runner, Samples
from latkit.core.errors import BackendError, InputError

__all__ = [
    "Backend",
    "Probe",
    "Runner",
    "Samples",
    "backend_names",
    "default_backend_name",
    "get_backend_class",
    "probe_backend",
]

# Distributions add backends by an entry point of this group: the backend's name = its class.
PLUG_IN_GROUP = "latkit.backends"

# In order of preference when no backend is named.
_BACKENDS = {
    "torch-cuda": "latkit.backends.torch_cuda:TorchCudaBackend",
    "torch-cuda-graph": "latkit.backends.torch_cuda:TorchCudaGraphBackend",
    "torch-cuda-compile": "latkit.backends.torch_cuda:TorchCudaCompileBackend",
    "torch-cpu": "latkit.backends.torch_cpu:TorchCpuBackend",
    "torch-cpu-compile": "latkit.backends.torch_cpu:TorchCpuCompileBackend",
    "onnxruntime-cpu": "latkit.backends.onnxruntime:OnnxRuntimeCpuBackend",
    "onnxruntime-cuda": "latkit.backends.onnxruntime:OnnxRuntimeCudaBackend",
    "onnxruntime-tensorrt": "latkit.backends.onnxruntime:OnnxRuntimeTensorrtBackend",
    "tensorrt": "latkit.backends.tensorrt:TensorrtBackend",
    "tensorrt-graph": "latkit.backends.tensorrt:TensorrtGraphBackend",
    "openvino-cpu": "latkit.backends.openvino:OpenvinoCpuBackend",
}


def backend_names() -> list[str]:
    """Names of all backends, whether usable here or not: latkit's own, then the plug-ins'."""
    return [*_BACKENDS, *sorted(_plug_ins())]


def get_backend_class(name: str) -> type[Backend]:
    """The class of a backend.

    Raises:
        InputError: there is no backend of that name.
        BackendError: it is a plug-in that does not load.
    """
    if name in _BACKENDS:
        module, _, attribute = _BACKENDS[name].partition(":")
        cls: type[Backend] = getattr(importlib.import_module(module), attribute)
        return cls
    if name in _plug_ins():
        return _load(_plug_ins()[name])
    known = backend_names()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(
        f"unknown backend {name!r}",
        f"{hint}use one of: {', '.join(known)} (see latkit backends list)",
    )


def probe_backend(name: str) -> Probe:
    """Whether a backend works here; a plug-in that does not load or probe is ``unusable``.

    Raises:
        InputError: there is no backend of that name.
    """
    try:
        return get_backend_class(name).probe()
    except BackendError as error:
        return Probe("unusable", error.cause, error.fix)
    except Exception as error:
        if name in _BACKENDS:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Probe("unusable", f"its probe fails: {reason}", "mend or uninstall the plug-in")


@functools.cache
def _plug_ins() -> dict[str, EntryPoint]:
    """Entry points of other distributions; they cannot take the name of a backend of latkit's."""
    found = entry_points(group=PLUG_IN_GROUP)
    return {point.name: point for point in found if point.name not in _BACKENDS}


def _load(point: EntryPoint) -> type[Backend]:
    origin = f"plug-in {point.name} ({point.value}"
    origin += f" of {point.dist.name} {point.dist.version})" if point.dist else ")"
    fix = "mend or uninstall the plug-in"
    try:
        cls = point.load()
    except Exception as error:  # anything at all may go wrong in somebody else's module
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BackendError(f"{origin} does not load: {reason}", fix) from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendError(f"{origin} is not a latkit.backends.Backend", fix)
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(cls.__abstractmethods__))
        raise BackendError(f"{origin} lacks {lacking}", fix)
    if getattr(cls, "name", None) != point.name:
        raise BackendError(f"{origin} calls itself {getattr(cls, 'name', None)!r}", fix)
    return cls


def default_backend_name() -> tuple[str, str]:
    """The backend used when none is named, and one line that says why.

    ``torch-cuda`` where a GPU is present that this PyTorch build can run on, else ``torch-cpu``.
    """
    probe = probe_backend("torch-cuda")
    if probe.usable:
        return "torch-cuda", f"using torch-cuda ({probe.reason})"
    return "torch-cpu", f"using torch-cpu, because torch-cuda is {probe.status}: {probe.reason}"
