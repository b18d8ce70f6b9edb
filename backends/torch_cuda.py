"""PyTorch on an NVIDIA GPU, timed by device events on a stream of its own.

Eager, compiled by inductor, and eager but launched as one CUDA graph.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.hardware import BF16, architecture, dotted, gpu_generation
from latkit.backends.layers import LayerTimes
from latkit.backends.registry import BACKENDS
from latkit.backends.timing import EventRunner
from latkit.backends.torch_modes import (
    autocast,
    compile_whole,
    decide_triton,
    has_triton,
    in_memory_format,
    profile_module,
)
from latkit.core.device import Facts
from latkit.core.errors import BackendError
from latkit.meters.energy import EnergyMeter, open_meter
from latkit.meters.nvml import known_facts
from latkit.networks.models import Model, first_tensor
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_network


def decide_support(
    name: str, capability: tuple[int, int], arch_list: Sequence[str], torch_version: str
) -> Probe:
    """Whether a PyTorch build has code for a GPU.

    ``torch.cuda.is_available()`` is true even where it has none (a Tesla P100 under builds for
    CUDA 12.8 or newer), and the first kernel then fails. Machine code ``sm_XY`` runs on the same
    major capability and an equal or higher minor one; ``compute_XY`` is compiled on the device
    for any capability from XY on.

    Args:
        name: the GPU's name, for the reason.
        capability: the GPU's (major, minor).
        arch_list: ``torch.cuda.get_arch_list()``.
        torch_version: for the reason.
    """
    for arch in arch_list:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", arch)
        if match is None:
            continue
        kind, built = match[1], (int(match[2]), int(match[3]))
        exact_only = arch[-1] in "af"
        if exact_only:
            runs = built == capability
        elif kind == "sm":
            runs = built[0] == capability[0] and built[1] <= capability[1]
        else:
            runs = built <= capability
        if runs:
            return Probe("ok", f"{name}, capability {dotted(capability)}")
    return Probe(
        "unusable",
        f"PyTorch {torch_version} has no code for {name} "
        f"({architecture(capability)}; it has {', '.join(arch_list) or 'none'})",
        f"install {gpu_generation(capability).torch_build}",
    )


def check_precision(precision: str, capability: tuple[int, int]) -> None:
    """Refuse what a GPU would only emulate: bf16 arithmetic.

    Raises:
        BackendError: names what it can run.
    """
    if precision == "bf16" and capability < BF16:
        raise BackendError(
            f"this GPU, of capability {dotted(capability)}, has no bf16 arithmetic",
            "use a setting with precision=fp16",
        )


def current_gpu_uuid() -> str:
    """Of the current CUDA device."""
    return str(_current_gpu().uuid)


def gpu_fingerprint() -> Facts:
    """What decides how fast the current CUDA device is, as far as it is known."""
    properties = _current_gpu()
    facts: Facts = {
        "gpu": properties.name,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "gpu_memory_mb": properties.total_memory // 2**20,
        "gpu_multiprocessors": properties.multi_processor_count,
    }
    return {**facts, **known_facts(current_gpu_uuid())}


def _current_gpu() -> Any:
    return torch.cuda.get_device_properties(torch.cuda.current_device())


class TorchCudaRunner(EventRunner):
    """A module on the GPU in eval mode with its inputs resident there.

    Args:
        network: on the CPU.
        inputs: of every run, on the CPU.
        precision: fp32, or what autocast is to take.
    """

    def __init__(
        self, network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], precision: str
    ) -> None:
        super().__init__(torch.cuda.Stream())
        torch.cuda.reset_peak_memory_stats()
        self._memory_before = torch.cuda.memory_allocated()
        self._precision = precision
        self._network: Any = network.cuda()
        self._inputs: tuple[torch.Tensor, ...] = tuple(tensor.cuda() for tensor in inputs)
        torch.cuda.synchronize()
        self._prepare()

    def _prepare(self) -> None:
        """Make of the network what is to run."""

    def _bind(self) -> Callable[[], object]:
        return partial(self._network, *self._inputs)

    def _make_event(self) -> torch.cuda.Event:
        return torch.cuda.Event(enable_timing=True)

    def _elapsed_ms(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end))

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        with (
            torch.inference_mode(),
            torch.cuda.stream(self._stream),
            autocast("cuda", self._precision),
        ):
            yield

    def peak_memory_mb(self) -> float:
        return (torch.cuda.max_memory_allocated() - self._memory_before) / 2**20

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.asarray(first_tensor(self._network(*self._inputs)).float().cpu().numpy())

    def _layer_times(self, runs: int) -> LayerTimes:
        return profile_module(self._bind(), runs, on_gpu=True)

    def _close(self) -> None:
        self._network, self._inputs = None, ()


class TorchCudaCompileRunner(TorchCudaRunner):
    """The network compiled by inductor as one graph."""

    def _prepare(self) -> None:
        with torch.cuda.stream(self._stream):
            self._network = compile_whole(self._network, *self._inputs)

    def _close(self) -> None:
        super()._close()
        gc.collect()  # a compiled network is in cycles, and would count as its successor's memory


class TorchCudaGraphRunner(TorchCudaRunner):
    """Replays a CUDA graph of an eager run: the same kernels, without the host's work."""

    def _prepare(self) -> None:
        for _ in range(3):  # libraries choose and allocate in the first runs
            with self._modes():
                self._network(*self._inputs)
        torch.cuda.synchronize()
        self._graph: Any = torch.cuda.CUDAGraph()
        with self._modes(), torch.cuda.graph(self._graph, stream=self._stream):
            self._output: Any = self._network(*self._inputs)

    def _bind(self) -> Callable[[], object]:
        replay: Callable[[], object] = self._graph.replay
        return replay

    def _logits(self) -> npt.NDArray[np.float32]:
        self._graph.replay()
        return np.asarray(first_tensor(self._output).float().cpu().numpy())

    def _close(self) -> None:
        self._graph = self._output = None
        super()._close()


@BACKENDS.register("torch-cuda")
class TorchCudaBackend(Backend):
    """``torch-cuda``: eager PyTorch on the current CUDA device; fp32 without TF32, or autocast."""

    name = "torch-cuda"
    metrics = ("peak_memory_mb",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "bf16")
    model_kinds = ("module",)
    runner_class: ClassVar[type[TorchCudaRunner]] = TorchCudaRunner

    @classmethod
    def probe(cls) -> Probe:
        if torch.version.cuda is None:
            return Probe(
                "missing",
                f"PyTorch {torch.__version__} was built without CUDA",
                "install a CUDA build of PyTorch, or use --backend torch-cpu",
            )
        if not torch.cuda.is_available():
            return Probe(
                "missing",
                "no CUDA GPU or no working NVIDIA driver",
                "check nvidia-smi, or use --backend torch-cpu",
            )
        try:
            name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            fix = "check nvidia-smi, or use --backend torch-cpu"
            return Probe("unusable", f"CUDA does not start ({reason})", fix)
        return decide_support(name, capability, torch.cuda.get_arch_list(), torch.__version__)

    def fingerprint(self) -> Facts:
        return {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32": False,
            "cudnn_benchmark": False,
            "reduced_precision_reduction": True,
            **gpu_fingerprint(),
        }

    def open_meter(self) -> EnergyMeter:
        return open_meter("gpu", current_gpu_uuid())

    @property
    def clock(self) -> Clock:
        return "event"

    def hardware_name(self) -> str:
        return torch.cuda.get_device_name()

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        network = random_network(architecture, setting, seed)
        return self.runner_class(network, (random_input(setting, seed),), setting.precision)

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        module, inputs = in_memory_format(model, run.memory_format, seed)
        return self.runner_class(module, inputs, run.precision)

    def gpu_identity(self) -> str:
        return current_gpu_uuid()

    def check_run(self, run: RunConfig) -> None:
        super().check_run(run)
        if torch.cuda.is_available():
            check_precision(run.precision, torch.cuda.get_device_capability())

    def _enter(self) -> None:
        self._modes_before = (
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.benchmark,
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        )
        # Products in half precision may be summed in it: PyTorch's own default, written down.
        self._set_modes(False, False, False, True, True)

    def _exit(self) -> None:
        self._set_modes(*self._modes_before)

    @staticmethod
    def _set_modes(
        cudnn_tf32: bool, matmul_tf32: bool, benchmark: bool, fp16_sums: bool, bf16_sums: bool
    ) -> None:
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = fp16_sums
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = bf16_sums
        torch.backends.cudnn.allow_tf32 = cudnn_tf32
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
        torch.backends.cudnn.benchmark = benchmark


@BACKENDS.register("torch-cuda-graph")
class TorchCudaGraphBackend(TorchCudaBackend):
    """``torch-cuda-graph``: the kernels of ``torch-cuda``, launched as one CUDA graph.

    At batch 1 an eager network often takes what its launches take; this is what its kernels and one
    launch take.
    """

    name = "torch-cuda-graph"
    runner_class = TorchCudaGraphRunner


@BACKENDS.register("torch-cuda-compile")
class TorchCudaCompileBackend(TorchCudaBackend):
    """``torch-cuda-compile``: one graph compiled by inductor, half a minute a network."""

    name = "torch-cuda-compile"
    precisions = ("fp32",)
    runner_class = TorchCudaCompileRunner

    @classmethod
    def probe(cls) -> Probe:
        probe = super().probe()
        if not probe.usable:
            return probe
        return decide_triton(torch.cuda.get_device_capability(), has_triton()) or probe

    def fingerprint(self) -> Facts:
        triton = importlib.import_module("triton")
        return {**super().fingerprint(), "compiler": "inductor", "triton": triton.__version__}
