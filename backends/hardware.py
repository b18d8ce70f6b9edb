"""What runs on which hardware: the one table that probes, doctor and docs/hardware.md read.

Sources: ``torch.cuda.get_arch_list()`` and the indices of PyTorch's wheels, the machine code in
``onnxruntime-gpu`` wheels, the support matrices in TensorRT's release notes. ``python
benchmarks/hardware.py`` writes the page's tables from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Capability = tuple[int, int]
Release = tuple[int, int]

# The first releases whose API latkit uses.
FIRST_ONNXRUNTIME: Release = (1, 15)
FIRST_TENSORRT: Release = (8, 6)
# Least compute capabilities of what is not a matter of releases.
TRITON: Capability = (7, 0)
BF16: Capability = (8, 0)
TF32: Capability = (8, 0)
ENERGY_COUNTER: Capability = (7, 0)


@dataclass(frozen=True)
class GpuGeneration:
    """NVIDIA GPUs from one compute capability up to the next generation's, and their releases.

    ``None`` of a release: the newest there is.

    Attributes:
        name: of the generation; of the newest with all that follow.
        examples: cards of it.
        capability: the least.
        torch: the last PyTorch release with code for them.
        cuda: the CUDA version that such PyTorch builds are for; None: any current one.
        onnxruntime: the last ``onnxruntime-gpu`` with code for them.
        tensorrt: the last TensorRT with code for them.
        tensorrt_onnxruntime: the last ``onnxruntime-gpu`` that goes with that TensorRT, where it
            needs an environment of its own.
    """

    name: str
    examples: str
    capability: Capability
    torch: Release | None = None
    cuda: Release | None = None
    onnxruntime: Release | None = None
    tensorrt: Release | None = None
    tensorrt_onnxruntime: Release | None = None

    @property
    def torch_build(self) -> str:
        """The PyTorch build to install, e.g. ``torch <= 2.14 built for CUDA 12.6 (cu126)``."""
        if self.torch is None or self.cuda is None:
            return "a PyTorch build that lists this architecture in torch.cuda.get_arch_list()"
        return (
            f"torch <= {dotted(self.torch)} built for CUDA {dotted(self.cuda)} "
            f"({cuda_tag(self.cuda)})"
        )

    @property
    def onnxruntime_requirement(self) -> str:
        """For pip, e.g. ``onnxruntime-gpu<=1.26``."""
        if self.onnxruntime is None:
            return f"onnxruntime-gpu>={dotted(FIRST_ONNXRUNTIME)}"
        return f"onnxruntime-gpu<={dotted(self.onnxruntime)}"

    @property
    def tensorrt_install(self) -> str:
        """How to install a TensorRT for them."""
        if self.tensorrt_onnxruntime is not None:  # 8.6.1 loads cuDNN 8, unlike PyTorch's builds
            return (
                "use an environment of its own, with a CPU build of PyTorch: "
                f"pip install 'tensorrt=={dotted(self.tensorrt or FIRST_TENSORRT)}.1' "
                "'nvidia-cudnn-cu12==8.9.*' 'cuda-python<13' (or pycuda)"
            )
        if self.tensorrt is not None:
            return (
                f"pip install 'tensorrt<{dotted(_next(self.tensorrt))}' 'cuda-python<13' "
                "(or pycuda)"
            )
        return (
            "pip install 'latkit[tensorrt-cuda-python]' (or 'latkit[tensorrt]', whose pycuda is "
            "built with your CUDA toolkit)"
        )

    @property
    def tensorrt_environment(self) -> str:
        """The releases that go together in TensorRT's environment of its own; empty: none."""
        if self.tensorrt is None or self.tensorrt_onnxruntime is None:
            return ""
        return (
            f"TensorRT {dotted(self.tensorrt)}.1 and onnxruntime-gpu {dotted(FIRST_ONNXRUNTIME)} "
            f"to {dotted(self.tensorrt_onnxruntime)}"
        )

    @property
    def advice(self) -> str:
        """What a user must know before installing; empty where current releases run."""
        parts = []
        if self.torch is not None:
            parts.append(f"use {self.torch_build}")
        if self.onnxruntime is not None:
            parts.append(self.onnxruntime_requirement)
        if self.tensorrt_environment:
            parts.append(f"for TensorRT an environment of its own with {self.tensorrt_environment}")
        elif self.tensorrt is not None:
            parts.append(f"TensorRT before {dotted(_next(self.tensorrt))}")
        return f"{'; '.join(parts)} (docs/hardware.md)" if parts else ""


_OLD = {"torch": (2, 14), "cuda": (12, 6)}
_OLDER = {**_OLD, "onnxruntime": (1, 26), "tensorrt": (8, 6), "tensorrt_onnxruntime": (1, 17)}
# The newest first.
GPU_GENERATIONS = (
    GpuGeneration("Ampere and newer", "A100, L4, H100", (8, 0)),
    GpuGeneration("Turing", "Tesla T4, RTX 20", (7, 5)),
    GpuGeneration("Volta", "Tesla V100", (7, 0), tensorrt=(10, 4), **_OLD),
    GpuGeneration("Pascal", "Tesla P100, GTX 10", (6, 0), **_OLDER),
    GpuGeneration("Maxwell", "Tesla M40, GTX 900", (5, 0), **_OLDER),
)


def gpu_generation(capability: Capability) -> GpuGeneration:
    """The generation of a compute capability; the oldest for one that is older still."""
    for generation in GPU_GENERATIONS:
        if generation.capability <= capability:
            return generation
    return GPU_GENERATIONS[-1]


def least_tensorrt_capability(release: Release) -> Capability:
    """The least compute capability that a TensorRT release has code for."""
    return min(
        generation.capability
        for generation in GPU_GENERATIONS
        if generation.tensorrt is None or release <= generation.tensorrt
    )


@dataclass(frozen=True)
class BackendSupport:
    """A backend of latkit's: what it runs on, and what shows that it does.

    Attributes:
        vendor: of the hardware.
        hardware: the part of the machine that networks run on.
        extra: latkit's optional dependencies that it needs; empty: none.
        needs: what else must be there.
        run_with: the release that its tests have been run with on such hardware. What has been run
            on GPUs follows from the committed results alone, and is empty here.
    """

    vendor: str
    hardware: Literal["CPU", "GPU"]
    extra: str = ""
    needs: str = ""
    run_with: str = ""

    @property
    def install(self) -> str:
        """How to install what the backend needs beside latkit; empty where nothing is."""
        return f"pip install 'latkit[{self.extra}]'" if self.extra else ""


_CUDA_BUILD = "a CUDA build of PyTorch"
BACKEND_SUPPORT = {
    "torch-cuda": BackendSupport("NVIDIA", "GPU", needs=_CUDA_BUILD),
    "torch-cuda-graph": BackendSupport("NVIDIA", "GPU", needs=_CUDA_BUILD),
    "torch-cuda-compile": BackendSupport("NVIDIA", "GPU", needs=f"{_CUDA_BUILD}, triton"),
    "torch-cpu": BackendSupport("any", "CPU", run_with="PyTorch 2.14"),
    "torch-cpu-compile": BackendSupport("any", "CPU", "", "a C++ compiler", "PyTorch 2.14"),
    "onnxruntime-cpu": BackendSupport(
        "any", "CPU", "onnxruntime", "", "ONNX Runtime 1.32; fp32, int8"
    ),
    "onnxruntime-cuda": BackendSupport("NVIDIA", "GPU", "onnxruntime-gpu"),
    "onnxruntime-tensorrt": BackendSupport("NVIDIA", "GPU", "onnxruntime-gpu", "TensorRT"),
    "tensorrt": BackendSupport("NVIDIA", "GPU", "tensorrt"),
    "tensorrt-graph": BackendSupport("NVIDIA", "GPU", "tensorrt", _CUDA_BUILD),
    "openvino-cpu": BackendSupport("any", "CPU", "openvino", "", "OpenVINO 2026.4"),
    "executorch-xnnpack": BackendSupport("any", "CPU", "executorch", "", "ExecuTorch 1.5"),
    "litert-cpu": BackendSupport("any", "CPU", "litert", "", "LiteRT 2.3"),
    "ncnn-cpu": BackendSupport("any", "CPU", "ncnn", "", "ncnn 1.0.20261020"),
    "onnxruntime-ep:OpenVINOExecutionProvider": BackendSupport(
        "Intel",
        "CPU",
        "onnxruntime-ep-openvino",
        run_with="onnxruntime-ep-openvino 1.8.1, its check for Intel's hardware taken out",
    ),
}


def dotted(release: Release) -> str:
    """A release or a capability as text: ``2.14``."""
    return f"{release[0]}.{release[1]}"


def cuda_tag(cuda: Release) -> str:
    """The tag of PyTorch's wheels for a CUDA version, e.g. ``cu126``."""
    return f"cu{cuda[0]}{cuda[1]}"


def architecture(capability: Capability) -> str:
    """The name of a capability's machine code, e.g. ``sm_60``."""
    return f"sm_{capability[0]}{capability[1]}"


def _next(release: Release) -> Release:
    return release[0], release[1] + 1
