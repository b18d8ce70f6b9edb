"""The backends by name, and which of them work on this machine."""

from __future__ import annotations

from latkit.backends.base import Backend, Probe
from latkit.backends.provider_packages import ProviderBackends
from latkit.core.errors import BackendError
from latkit.core.plugins import Plugins

# latkit's own in the order in which they are listed; other distributions add theirs by an entry
# point of this group: the backend's name = its class.
BACKENDS: Plugins[Backend] = Plugins(
    "backend",
    "latkit.backends",
    Backend,  # type: ignore[type-abstract]
    {
        "torch-cuda": "latkit.backends.torch_cuda",
        "torch-cuda-graph": "latkit.backends.torch_cuda",
        "torch-cuda-compile": "latkit.backends.torch_cuda",
        "torch-cpu": "latkit.backends.torch_cpu",
        "torch-cpu-compile": "latkit.backends.torch_cpu",
        "onnxruntime-cpu": "latkit.backends.onnxruntime",
        "onnxruntime-cuda": "latkit.backends.onnxruntime",
        "onnxruntime-tensorrt": "latkit.backends.onnxruntime",
        "tensorrt": "latkit.backends.tensorrt",
        "tensorrt-graph": "latkit.backends.tensorrt",
        "openvino-cpu": "latkit.backends.openvino",
        "executorch-xnnpack": "latkit.backends.executorch",
        "litert-cpu": "latkit.backends.litert",
        "ncnn-cpu": "latkit.backends.ncnn",
        "onnxruntime-ep:OpenVINOExecutionProvider": "latkit.backends.onnxruntime_ep",
    },
    error=BackendError,
    listed_by="latkit backends list",
    variants=ProviderBackends(),
)


def probe_backend(name: str) -> Probe:
    """Whether a backend works here; a plug-in that does not load or probe is ``unusable``.

    Raises:
        InputError: there is no backend of that name.
    """
    try:
        return BACKENDS.get(name).probe()
    except BackendError as error:
        return Probe("unusable", error.cause, error.fix)
    except Exception as error:
        if BACKENDS.is_own(name):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Probe("unusable", f"its probe fails: {reason}", "mend or uninstall the plug-in")


def probe_backends() -> dict[str, Probe]:
    """Of every backend, whether it works here, by its name (see :func:`probe_backend`)."""
    return {name: probe_backend(name) for name in BACKENDS.names()}


def default_backend_name() -> tuple[str, str]:
    """The backend used when none is named, and one line that gives the reason.

    ``torch-cuda`` where a GPU is present that this PyTorch build can run on, else ``torch-cpu``.
    """
    probe = probe_backend("torch-cuda")
    if probe.usable:
        return "torch-cuda", f"using torch-cuda ({probe.reason})"
    return "torch-cpu", f"using torch-cpu, because torch-cuda is {probe.status}: {probe.reason}"
