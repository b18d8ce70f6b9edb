"""CUDA by the packages that are here, and plug-in execution providers on this machine's GPU."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from benchmarks.gpu_parts.part import Context
from benchmarks.gpu_parts.profiles import setting_text, summarise

# Two packages time the same work: so far apart, relative, may an event's times be.
SAME_TIME = 0.05


def packages() -> dict[str, Any]:
    """The packages for CUDA that import here, ready to be called, and why others do not."""
    from latkit.backends.tensorrt_cuda import CudaPython, PyCuda

    found: dict[str, Any] = {}
    for kind in (PyCuda, CudaPython):
        reasons = []
        for name in kind.modules:
            try:
                found[kind.package] = kind(importlib.import_module(name))
                break
            except Exception as error:  # a broken binary can raise anything
                reasons.append(f"{name}: {type(error).__name__}: {error}"[:200])
        else:
            found[kind.package] = "; ".join(reasons)
    return found


def cuda_packages(context: Context) -> None:
    """Each package: the GPU it shows, a copy there and back, and its events beside PyTorch's."""
    found = packages()
    there = {name: cuda for name, cuda in found.items() if not isinstance(cuda, str)}
    context.record(packages={n: c if isinstance(c, str) else c.facts() for n, c in found.items()})
    context.figure(", ".join(there) or "none of them is here")
    if not there:
        context.skip("neither pycuda nor cuda-python imports here")
    if not context.cuda:
        return
    gpus, told = {}, []
    for name, cuda in there.items():
        with cuda.errors():
            gpus[name] = cuda.gpu()
            times = try_package(cuda)
        context.record(**{name: {"gpu": vars(gpus[name]), **times}})
        context.check(f"{name} copies there and back", times["copied"])
        ratio = times["ours_ms"] / times["torch_ms"]
        context.check(f"{name} and PyTorch time alike", abs(ratio - 1) < SAME_TIME, f"{ratio:.3f}")
        told.append(f"{name} {ratio:.3f} of PyTorch's time")
    context.check("both show the same GPU", len(set(gpus.values())) == 1, f"{gpus}")
    context.figure("; ".join(told))


def try_package(cuda: Any, runs: int = 20) -> dict[str, Any]:
    """A copy to the device and back, and products timed by its events and by PyTorch's at once."""
    import torch

    cuda.enter()
    try:
        sent = np.arange(1024, dtype=np.float32)
        received = np.zeros_like(sent)
        address = cuda.allocate(sent.nbytes)
        cuda.to_device(address, sent)
        cuda.to_host(received, address)
        cuda.free(address)
        stream = cuda.stream()
        torch_stream = torch.cuda.ExternalStream(stream.handle)
        x = torch.randn(2048, 2048, device="cuda")
        torch.cuda.synchronize()
        ours: list[float] = []
        theirs: list[float] = []
        with torch.cuda.stream(torch_stream):
            for run in range(runs + 5):
                start, end = cuda.event(), cuda.event()
                begin, finish = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                start.record(stream)
                for _ in range(10):
                    x @ x
                end.record(stream)
                finish.record()
                end.synchronize()
                finish.synchronize()
                if run >= 5:
                    ours.append(cuda.elapsed_ms(start, end))
                    theirs.append(begin.elapsed_time(finish))
        return {
            "copied": bool((received == sent).all()),
            "ours_ms": float(np.median(ours)),
            "torch_ms": float(np.median(theirs)),
        }
    finally:
        cuda.exit()


def provider_names(context: Context) -> tuple[list[str], list[str]]:
    """Backends of plug-in providers that have a GPU here, and why others have none.

    On a CPU, ONNX Runtime's own provider stands for them.
    """
    from latkit.backends import BACKENDS
    from latkit.backends.provider_packages import STEM, find_packages

    if not context.cuda:
        return ["onnxruntime-cpu"], []
    installed, reasons = find_packages()
    usable = []
    for package in installed:
        for provider in package.providers:
            # Where a provider has a CPU too, the name without a device is refused.
            for name in (f"{STEM}:{provider}", f"{STEM}:{provider}:GPU", f"{STEM}:{provider}:GPU0"):
                backend = BACKENDS.get(name)
                probe = backend.probe()
                if not probe.usable:
                    reasons.append(f"{name}: {probe.reason}")
                elif backend().gpu_identity() is not None:
                    usable.append(name)
                    break
    return usable, reasons


def plug_ins(context: Context) -> None:
    """A few architectures profiled with each plug-in provider that finds a GPU."""
    names, reasons = provider_names(context)
    context.record(providers=names, others=reasons)
    if not names:
        context.skip("; ".join(reasons) or "no plug-in execution provider is installed")
    told = []
    for name in names:
        folder = context.work / name.replace(":", "-")
        context.latkit(
            "profile", "--backend", name, "--device", "gpu-proof", "--n", context.size(8, 2),
            "--setting", setting_text(context, 1), "--protocol", "fast", "--out", folder,
        )  # fmt: skip
        summary = summarise(folder, 1.0)
        facts = {"cudnn", "gpu_driver", "provider_package", "provider_options", "inexact_fp32"}
        context.record(**{name: summary, f"{name} facts": known(folder, facts)})
        told.append(f"{name}: median {summary['medians_ms']['latency']:.2f} ms")
        context.figure("; ".join(told))


def known(folder: Any, names: set[str]) -> dict[str, Any]:
    """Facts of a dataset's fingerprint."""
    from latkit.dataset import LatencyDataset

    fingerprint = LatencyDataset.open(folder).manifest.fingerprint
    return {name: fingerprint[name] for name in sorted(names) if name in fingerprint}
