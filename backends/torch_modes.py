"""What PyTorch's backends share: autocast, and compiling a network as one graph."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from latkit.backends.base import Probe
from latkit.backends.hardware import TRITON, dotted
from latkit.backends.layers import LayerTimes, from_torch
from latkit.core.cores import unbound
from latkit.core.errors import BackendError
from latkit.networks.models import Model

_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def autocast(device: str, precision: str) -> Any:
    """A context in which operations run in a precision; nothing changes for ``fp32``.

    Args:
        device: ``cpu`` or ``cuda``.
        precision: a setting's.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    # Casts of weights are not kept: every run pays for them, as a user's forward does, and a
    # captured graph does not read what was freed.
    return torch.autocast(device, dtype=_TYPES[precision], cache_enabled=False)


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Give PyTorch's operations a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def beside_torch(threads: int) -> Iterator[None]:
    """Let another runtime compute what PyTorch only makes the weights of.

    More threads of PyTorch's would wait for those of the runtime; and where PyTorch's OpenMP has
    bound this thread to one core, all threads that the runtime starts would be bound to it too.
    """
    with torch_threads(threads), unbound():
        yield


def find_compiler() -> str | None:
    """The C++ compiler that inductor takes on the CPU, or None."""
    named = shlex.split(os.environ.get("CXX", ""))
    command = named or (["clang++"] if sys.platform == "darwin" else ["g++"])
    return " ".join(command) if shutil.which(command[0]) else None


def decide_compiler(compiler: str | None, torch_version: str) -> Probe:
    """Whether inductor can compile for the CPU.

    Args:
        compiler: :func:`find_compiler`'s.
        torch_version: for the reason.
    """
    if compiler is None:
        return Probe("missing", "no C++ compiler, which torch.compile needs", "install g++")
    return Probe("ok", f"inductor of PyTorch {torch_version} with {compiler}")


def decide_triton(capability: tuple[int, int], has_triton: bool) -> Probe | None:
    """What keeps inductor from a GPU, if anything.

    Args:
        capability: the GPU's (major, minor).
        has_triton: whether the package is installed.
    """
    if not has_triton:
        reason = "triton, which torch.compile needs on a GPU, is not installed"
        return Probe("missing", reason, "pip install triton")
    if capability < TRITON:
        return Probe(
            "unusable",
            f"torch.compile needs compute capability {dotted(TRITON)}, this GPU has "
            f"{dotted(capability)}",
            "use --backend torch-cuda or torch-cuda-graph",
        )
    return None


def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def in_memory_format(
    model: Model, memory_format: str, seed: int
) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """A copy of a model's module and random inputs, images and weights of convolutions in a layout.

    A copy, so that networks of one model share no weights and the model stays as it is.
    """
    assert model.module is not None
    layout = torch.contiguous_format
    if memory_format == "channels_last":
        layout = torch.channels_last
    module = copy.deepcopy(model.module).to(memory_format=layout)
    inputs = tuple(
        tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor
        for tensor in model.tensors(seed)
    )
    return module, inputs


def profile_module(run: Callable[[], object], runs: int, on_gpu: bool = False) -> LayerTimes:
    """What each operator takes in runs of a module, by PyTorch's profiler.

    Args:
        run: one run.
        runs: how many are profiled, after one that is not.
        on_gpu: whether the work is that of kernels, and not of the thread that calls.
    """
    from torch.autograd.profiler import profile

    run()
    # The profiler's library writes to stderr what nobody asked for.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with profile(use_device="cuda" if on_gpu else None) as profiler:
        started = time.perf_counter()
        for _ in range(runs):
            run()
        if on_gpu:
            torch.cuda.synchronize()
        whole_ms = (time.perf_counter() - started) * 1000 / runs
    clock = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = [(e.key, e.count, float(getattr(e, clock))) for e in profiler.key_averages()]
    return from_torch(rows, runs, whole_ms)


def compile_whole(network: torch.nn.Module, *inputs: torch.Tensor) -> Any:
    """A network compiled by inductor as one graph, with all its shapes fixed, in inference mode.

    Each network becomes a graph module with code of its own. (Networks that share their code share
    one list of compiled versions as well: after eight PyTorch would stop compiling and run eagerly,
    with no more than a warning.)

    Args:
        network: on its device.
        inputs: of it.

    Raises:
        BackendError: PyTorch did not make exactly one compiled graph of it.
        RuntimeError: inductor cannot compile it.
    """
    from torch._inductor.compile_fx import compile_fx

    compiled = 0

    def count(graph: torch.fx.GraphModule, given: list[torch.Tensor]) -> Any:
        nonlocal compiled
        compiled += 1
        return compile_fx(graph, given)

    traced = torch.fx.symbolic_trace(network)
    run = torch.compile(traced, backend=count, fullgraph=True, dynamic=False)
    with torch.inference_mode():
        run(*inputs)
        run(*inputs)
    if compiled != 1:
        raise BackendError(
            f"PyTorch compiled the network {compiled} times instead of once",
            "report this defect of the backend",
        )
    return run
