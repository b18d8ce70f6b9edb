"""What the machine is: doctor's answers, the fingerprint, and what the GPU is doing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.gpu_parts.part import Context

PACKAGES = (
    "torch", "torchvision", "triton", "numpy", "scipy", "scikit-learn", "onnx", "onnxruntime",
    "onnxruntime-gpu", "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "pycuda", "cuda-python",
    "cuda-bindings", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-ml-py",
    "onnxruntime-ep-nv-tensorrt-rtx-cu12", "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "onnxruntime-ep-webgpu", "pyarrow", "safetensors",
)  # fmt: skip


def doctor(context: Context) -> None:
    """``latkit doctor``, versions, the fingerprint, NVML's facts and throttle reasons."""
    context.record(packages=_versions(), python=sys.version.split()[0])
    # Its exit code is 1 where something is broken, and its table is then worth having all the more.
    done = subprocess.run(
        context.command("doctor", "--json"), stdout=subprocess.PIPE, text=True, check=False
    )
    rows = json.loads(done.stdout)
    context.record(doctor=rows)
    broken = [row["part"] for row in rows if row["status"] == "broken"]
    context.check("nothing is broken", not broken, ", ".join(broken))

    from latkit.backends.base import fingerprint

    backend = context.backend_class()
    probe = backend.probe()
    context.check(f"{backend.name} is usable", probe.usable, probe.reason)
    with backend() as opened:
        facts = dict(fingerprint(opened))
        context.record(fingerprint=facts, hardware=opened.hardware_name())
        context.figure(opened.hardware_name())
    if context.cuda:
        _nvml(context)


def _nvml(context: Context) -> None:
    import torch

    from latkit.backends.torch_cuda import current_gpu_uuid
    from latkit.meters.nvml import GpuWatch, ask, find_gpu, gpu_state, load_nvml

    nvml = load_nvml()
    gpu = find_gpu(nvml, current_gpu_uuid())
    idle = gpu_state(nvml, gpu)
    x = torch.randn(8192, 8192, device="cuda")
    for _ in range(20):
        x = (x @ x).div_(x.norm())
    busy = gpu_state(nvml, gpu)  # launches return before their kernels have run
    torch.cuda.synchronize()
    states = {"idle": idle, "busy": busy}
    watch, looks_ms = GpuWatch(nvml, gpu), []
    for _ in range(50):
        started = time.perf_counter()
        watch.look()
        looks_ms.append(1e3 * (time.perf_counter() - started))
    context.record(
        uuid_known_to_nvml=str(ask(nvml, "nvmlDeviceGetUUID", gpu)),
        calls_not_answered=unanswered(nvml, gpu),
        look_ms={"median": statistics.median(looks_ms), "max": max(looks_ms)},
        gpus=torch.cuda.device_count(),
        gpu_states={name: dataclasses.asdict(state) for name, state in states.items()},
        other_processes=busy.other_processes(own=1),
    )
    context.check(
        "no other process computes on the GPU", not busy.other_processes(own=1),
        f"{busy.processes} processes",
    )  # fmt: skip


def unanswered(nvml: Any, gpu: Any) -> dict[str, str]:
    """The calls about a GPU that this release of the package, the driver or the card lacks."""
    from latkit.core.errors import BackendError
    from latkit.meters.nvml import CALLS, CLOCK_SM, TEMPERATURE_OF_GPU, ask

    arguments = {
        "nvmlDeviceGetMaxClockInfo": (CLOCK_SM,),
        "nvmlDeviceGetApplicationsClock": (CLOCK_SM,),
        "nvmlDeviceGetClockInfo": (CLOCK_SM,),
        "nvmlDeviceGetTemperatureV": (TEMPERATURE_OF_GPU,),
    }
    silent = {}
    for call in CALLS:
        if call.startswith("nvmlDeviceGet") and "Handle" not in call:
            try:
                ask(nvml, call, gpu, *arguments.get(call, ()))
            except BackendError as error:
                silent[call] = error.cause
    return silent


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
