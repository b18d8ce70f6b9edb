"""What latkit uses of TensorRT, and what it decides by version: nothing here needs TensorRT.

TensorRT 8.6, 10.x and 11.x differ: 8.6 wants networks flagged as having an explicit batch and
takes the precision from builder flags; 11 knows neither, and types networks strongly, by their
ONNX file. latkit uses only what all three have (:data:`REQUIRED`) and decides the rest here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from latkit.backends.base import Probe
from latkit.backends.hardware import (
    FIRST_TENSORRT,
    GPU_GENERATIONS,
    architecture,
    dotted,
    gpu_generation,
    least_tensorrt_capability,
)
from latkit.core.device import Facts
from latkit.core.errors import BackendError
from latkit.networks.onnx_model import INPUT, OUTPUT

# Every name of TensorRT's Python API that latkit uses, by class.
REQUIRED: dict[str, tuple[str, ...]] = {
    "Builder": ("create_network", "create_builder_config", "build_serialized_network"),
    "BuilderFlag": ("TF32",),
    "DataType": ("FLOAT",),
    "IBuilderConfig": (
        "builder_optimization_level",
        "clear_flag",
        "create_timing_cache",
        "get_timing_cache",
        "set_flag",
        "set_memory_pool_limit",
        "set_timing_cache",
    ),
    "ICudaEngine": (
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_shape",
        "num_io_tensors",
    ),
    "IExecutionContext": ("execute_async_v3", "set_tensor_address"),
    "ILogger": ("ERROR", "INTERNAL_ERROR"),
    "ITimingCache": ("serialize",),
    "MemoryPoolType": ("WORKSPACE",),
    "NetworkDefinitionCreationFlag": (),
    "OnnxParser": ("get_error", "num_errors", "parse"),
    "ParserError": ("desc",),
    "Runtime": ("deserialize_cuda_engine",),
    "TensorIOMode": ("INPUT", "OUTPUT"),
}

# An upper limit of the scratch memory of a layer's kernel. Fixed, because kernels that need more
# are not chosen, and a share of the free memory would make the choice depend on the day.
WORKSPACE_MB = 2048
# How long the builder looks for fast kernels, 0 to 5; TensorRT's own default, written down.
OPTIMIZATION_LEVEL = 3

NO_GPU = "check nvidia-smi, or use another backend (latkit backends list)"


def missing_names(tensorrt: Any) -> list[str]:
    """What of :data:`REQUIRED` an imported TensorRT lacks, as ``Class.name``."""
    missing = []
    for cls, names in REQUIRED.items():
        owner = getattr(tensorrt, cls, None)
        if owner is None:
            missing.append(cls)
        else:
            missing += [f"{cls}.{name}" for name in names if not hasattr(owner, name)]
    return missing


def decide_tensorrt(
    version: str, missing: Sequence[str], gpu: str, capability: tuple[int, int]
) -> Probe:
    """Whether an installed TensorRT can be used on a GPU.

    Args:
        version: of TensorRT.
        missing: :func:`missing_names` of it.
        gpu: the GPU's name, for the reason.
        capability: the GPU's (major, minor).
    """
    release = release_of(version)
    if release < FIRST_TENSORRT:
        first = dotted(FIRST_TENSORRT)
        reason = f"TensorRT {version} is older than {first}, the first with the API latkit uses"
        return Probe("unusable", reason, f"pip install 'tensorrt>={first}'")
    if missing:
        reason = f"TensorRT {version} lacks {', '.join(missing)}, which latkit uses"
        return Probe("unusable", reason, "install a release that latkit's docs/hardware.md lists")
    if release[0] == 9:
        reason = f"TensorRT {version} has not been run with latkit"
        return Probe("unusable", reason, "pip install 'tensorrt>=10', or 'tensorrt==8.6.1'")
    least = least_tensorrt_capability(release)
    if capability < least:
        reason = (
            f"TensorRT {version} has no code for {gpu} ({architecture(capability)}, it needs "
            f"{architecture(least)} or newer)"
        )
        return Probe("unusable", reason, gpu_generation(capability).tensorrt_install)
    return Probe("ok", f"TensorRT {version} on {gpu}, capability {dotted(capability)}")


def release_of(version: str) -> tuple[int, int]:
    """(major, minor) of a version such as ``10.16.1.11``."""
    numbers = re.findall(r"\d+", version)
    return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0


def strongly_typed(tensorrt: Any) -> bool:
    """Whether the ONNX file alone decides the precision: from TensorRT 10 on."""
    return hasattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(tensorrt: Any) -> int:
    """The bits of ``Builder.create_network`` for an ONNX network with its batch in its shapes.

    ``EXPLICIT_BATCH`` is needed in 8.x, without effect in 10.x and gone in 11.
    """
    flag = tensorrt.NetworkDefinitionCreationFlag
    if strongly_typed(tensorrt):
        return 1 << int(flag.STRONGLY_TYPED)
    return 1 << int(flag.EXPLICIT_BATCH)


def precision_flags(tensorrt: Any, precision: str) -> list[Any]:
    """Builder flags that a precision needs beside the types of the ONNX file.

    Only weakly typed networks (8.x) need one; TensorRT then may still run single layers in more.
    """
    if precision == "fp16" and not strongly_typed(tensorrt):
        return [tensorrt.BuilderFlag.FP16]
    return []


_TIMING_FACTS = ("gpu", "gpu_capability", "gpu_memory_mb", "gpu_multiprocessors", "cuda_driver")


def timing_cache_name(version: str, device: Facts, settings: Mapping[str, Any]) -> str:
    """The file name of the timing cache that holds for a device, version and builder settings.

    TensorRT's caches are good for one of each only.

    Args:
        version: of TensorRT.
        device: facts of the GPU and its driver; what a user can switch does not count.
        settings: of the builder.
    """
    fixed = {name: device.get(name) for name in _TIMING_FACTS}
    parts = [f"{k}={v}" for facts in (fixed, settings) for k, v in sorted(facts.items())]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return f"tensorrt-{version}-{digest}.cache"


def explain_import(reason: str) -> str:
    """What to do about packages that do not import."""
    if "libcuda.so" in reason:
        return NO_GPU
    if "libcudnn" in reason:
        return "pip install 'nvidia-cudnn-cu12==8.9.*', the cuDNN that TensorRT 8.6 loads"
    return "install it again for your CUDA"


def explain_driver(reason: str) -> str:
    """What to do where CUDA does not start."""
    if "insufficient for CUDA runtime" in reason:  # which cuda-python has of no driver at all, too
        return f"{NO_GPU}; where the driver is too old for it, pip install 'cuda-python<13'"
    return NO_GPU


def check_tensors(modes: Mapping[str, str], types: Mapping[str, str]) -> None:
    """Fail unless an engine takes images and returns logits, both fp32.

    Args:
        modes: ``INPUT`` or ``OUTPUT``, by tensor.
        types: element types, by tensor.

    Raises:
        BackendError: it has other tensors.
    """
    if modes != {INPUT: "INPUT", OUTPUT: "OUTPUT"} or set(types.values()) != {"FLOAT"}:
        found = ", ".join(f"{name} ({modes[name]}, {types[name]})" for name in modes) or "none"
        raise BackendError(
            f"the engine's tensors are {found}, not {INPUT} and {OUTPUT} in fp32",
            "report this defect of the backend",
        )


# Signs in TensorRT's log, and what to do about it; the first that occurs is taken.
_CURES = (
    (
        ("out of memory", "outofmemory", "cudaErrorMemoryAllocation"),
        "free the GPU's memory (nvidia-smi), or use a smaller setting, e.g. batch=1",
    ),
    (
        ("target gpu sm", "is not supported by this tensorrt"),
        GPU_GENERATIONS[-1].tensorrt_install,
    ),
    (
        ("cuda initialization failure", "insufficient for cuda runtime", "no cuda-capable device"),
        "check nvidia-smi: the driver must be as new as the CUDA that TensorRT was built for",
    ),
    (
        ("could not find any implementation for node",),
        f"use a smaller setting: no kernel for it needs less than {WORKSPACE_MB} MiB of workspace",
    ),
    (
        ("magictag", "serialization version", "serialized engine plan", "different version"),
        "build the engine again: plans are good for one GPU and one version of TensorRT",
    ),
)


def explain(what: str, messages: Sequence[str]) -> BackendError:
    """A failure of TensorRT's, which returns nothing and logs the reason, as one line.

    Args:
        what: what failed.
        messages: errors of its log, oldest first.
    """
    log = " ".join(" ".join(messages).split()).lower()
    fix = "report this defect with the output of latkit doctor"
    for signs, cure in _CURES:
        if any(sign.lower() in log for sign in signs):
            fix = cure
            break
    reason = " ".join(messages[0].split())[:300] if messages else "TensorRT gives no reason"
    return BackendError(f"{what} ({reason})", fix)
