"""ONNX Runtime on NVIDIA's GPUs: which builds run there, in which precision, by which options."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Any

from latkit.backends.base import Probe
from latkit.backends.hardware import TF32, architecture, gpu_generation

TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"


def decide_gpu(capability: tuple[int, int], version: str, tensorrt: bool) -> Probe | None:
    """What keeps a build from a GPU, if anything.

    Args:
        capability: the GPU's (major, minor).
        version: of ONNX Runtime.
        tensorrt: whether TensorRT is to run the network.
    """
    generation = gpu_generation(capability)
    release, name = _release(version), architecture(capability)
    last = generation.tensorrt_onnxruntime
    if tensorrt and last is not None and release > last:
        return Probe(
            "unusable",
            f"ONNX Runtime {version} goes with a TensorRT that has no code for {name}",
            f"use an environment with {generation.tensorrt_environment}",
        )
    if generation.onnxruntime is not None and release > generation.onnxruntime:
        return Probe(
            "unusable",
            f"ONNX Runtime {version} has no code for {name}",
            f"pip install '{generation.onnxruntime_requirement}'",
        )
    return None


def decide_tf32(capability: tuple[int, int], override: str | None) -> Probe | None:
    """What lets TensorRT compute fp32 in TF32 through ONNX Runtime, if anything.

    TensorRT takes TF32 by itself where a GPU has it, and the provider has no option against that:
    the library of onnxruntime-gpu 1.31.1 has 46 names ``trt_*`` and no ``tf32``
    (microsoft/onnxruntime, issue 26029). The variable does rule it out: TensorRT then logs
    "NVIDIA_TF32_OVERRIDE=0 but BuilderFlag::kTF32 is set. Disabling TF32" (issue 28177; not yet run
    here). NVIDIA's libraries read it once, so it must be set before the process begins.

    Args:
        capability: the GPU's (major, minor).
        override: the value of ``NVIDIA_TF32_OVERRIDE``; None: unset.
    """
    if capability < TF32 or override == "0":
        return None
    return Probe(
        "unusable",
        "TensorRT computes fp32 in TF32 on this GPU, and ONNX Runtime has no option against it",
        f"set {TF32_OVERRIDE}=0 for the whole process, or use --backend tensorrt",
    )


def loaded_cudnn() -> int | str | None:
    """The version of the cuDNN that this process has loaded, e.g. 91002 for 9.10.2.

    Returns:
        ``none`` where none is loaded: ONNX Runtime on CUDA can do without from 1.28 on, by other
        kernels. None where a system cannot tell.
    """
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    for name in ("libcudnn.so.9", "libcudnn.so.8"):
        # Not loaded by this: only one that is there already may be asked.
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            library.cudnnGetVersion.restype = ctypes.c_size_t
            return int(library.cudnnGetVersion())
    return "none"


def cuda_options(version: str) -> dict[str, Any]:
    """Options of the CUDA provider of a version of ONNX Runtime: fp32 without TF32.

    Versions refuse options they do not know; before 1.18 there is no switch for TF32, and none is
    needed on the Pascal cards they are for.
    """
    options = {"device_id": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}
    return {**options, "use_tf32": "0"} if _release(version) >= (1, 18) else options


def tensorrt_options(version: str, cache: Path) -> dict[str, Any]:
    """Options of the TensorRT provider of a version of ONNX Runtime."""
    options = {"device_id": "0", "trt_fp16_enable": "0", "trt_int8_enable": "0"}
    if _release(version) < (1, 17):
        return options
    return {**options, "trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache)}


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
