"""PyTorch on the CPU: eager, and compiled by inductor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.layers import LayerTimes
from latkit.backends.openmp import exact_regions, region_width
from latkit.backends.registry import BACKENDS
from latkit.backends.timing import CpuRunner, cpu_clock
from latkit.backends.torch_modes import (
    autocast,
    compile_whole,
    decide_compiler,
    find_compiler,
    in_memory_format,
    profile_module,
    torch_threads,
)
from latkit.core.device import Facts, cpu_name
from latkit.networks.models import Model, first_tensor
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_network


class TorchCpuRunner(CpuRunner):
    """A module in eval mode; thread CPU time where one thread does all the work.

    Args:
        network: what computes logits from its inputs.
        inputs: of every run.
        precision: fp32, or what autocast is to take.
        clock: of the samples.
    """

    def __init__(
        self, network: Any, inputs: tuple[torch.Tensor, ...], precision: str, clock: Clock
    ) -> None:
        super().__init__(clock)
        self._network: Any = network
        self._inputs: tuple[torch.Tensor, ...] = inputs
        self._precision = precision

    def _bind(self) -> Callable[[], object]:
        return partial(self._network, *self._inputs)

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.asarray(first_tensor(self._network(*self._inputs)).float().numpy())

    def _layer_times(self, runs: int) -> LayerTimes:
        return profile_module(self._bind(), runs)

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        with torch.inference_mode(), autocast("cpu", self._precision):
            yield

    def _close(self) -> None:
        self._network, self._inputs = None, ()


@BACKENDS.register("torch-cpu")
class TorchCpuBackend(Backend):
    """``torch-cpu``: eager; works wherever PyTorch does. bf16 is autocast."""

    name = "torch-cpu"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    model_kinds = ("module",)
    thread_limits = (
        "OMP_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS", "KMP_ALL_THREADS", "GOMP_CPU_AFFINITY",
        "OMP_PLACES",
    )  # fmt: skip

    @classmethod
    def probe(cls) -> Probe:
        return Probe("ok", f"PyTorch {torch.__version__} on {cpu_name()}")

    def fingerprint(self) -> Facts:
        return {
            "torch": torch.__version__,
            "threads": self.threads,
            "interop_threads": torch.get_num_interop_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "mkl": bool(torch.backends.mkl.is_available()),
            "onednn": bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
            # Anything but "highest" lets fp32 convolutions and products be computed in less.
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def hardware_name(self) -> str:
        return cpu_name()

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        images = random_input(setting, seed)
        network = self._prepare(random_network(architecture, setting, seed), (images,))
        return TorchCpuRunner(network, (images,), setting.precision, self.clock)

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        module, inputs = in_memory_format(model, run.memory_format, seed)
        return TorchCpuRunner(self._prepare(module, inputs), inputs, run.precision, self.clock)

    def _prepare(self, network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        """What runs in the network's place."""
        return network

    def _parallel_width(self) -> int | None:
        return region_width()

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        self._host.enter_context(torch_threads(self.threads))
        self._host.enter_context(exact_regions())

    def _exit(self) -> None:
        self._host.close()


@BACKENDS.register("torch-cpu-compile")
class TorchCpuCompileBackend(TorchCpuBackend):
    """``torch-cpu-compile``: one graph compiled by inductor, half a minute a network."""

    name = "torch-cpu-compile"
    precisions = ("fp32",)

    @classmethod
    def probe(cls) -> Probe:
        return decide_compiler(find_compiler(), torch.__version__)

    def fingerprint(self) -> Facts:
        return {**super().fingerprint(), "compiler": "inductor", "cxx": find_compiler()}

    def _prepare(self, network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        return compile_whole(network, *inputs)
