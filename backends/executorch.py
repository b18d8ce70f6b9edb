"""ExecuTorch with XNNPACK on the CPU, in fp32."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.registry import BACKENDS
from latkit.backends.timing import CpuRunner, cpu_clock
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts, cpu_name
from latkit.networks.models import Model
from latkit.networks.onnx_model import build_onnx
from latkit.networks.pte import METHOD, build_pte
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_network

DELEGATE = "XnnpackBackend"


class Program:
    """A program that is loaded and ready to run.

    Args:
        content: of its file.
    """

    def __init__(self, content: bytes) -> None:
        # The program points into the content, and the method into the program.
        self._content = content
        with quiet():
            self._program: Any = import_runtime()._load_program_from_buffer(content)
            self.method: Any = self._program.load_method(METHOD)

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What it computes of an input, which is copied."""
        return np.array(self.method([torch.from_numpy(images)])[0].numpy())

    def close(self) -> None:
        """Free it, the method first."""
        del self.method
        del self._program


class ExecutorchRunner(CpuRunner):
    """A program with its inputs in place.

    Args:
        content: of the program's file.
        inputs: of every run.
        clock: of the samples.
        in_place: whether the program leaves its inputs as they are, so that they are set once;
            else every run copies them.
    """

    def __init__(
        self, content: bytes, inputs: tuple[torch.Tensor, ...], clock: Clock, in_place: bool
    ) -> None:
        super().__init__(clock)
        self._program = Program(content)
        self._inputs: tuple[torch.Tensor, ...] = inputs
        self._in_place = in_place
        if in_place:
            self._program.method.set_inputs(inputs)

    def _bind(self) -> Callable[[], object]:
        if self._in_place:
            execute: Callable[[], object] = self._program.method.execute
            return execute
        return functools.partial(self._program.method, self._inputs, False)

    def _logits(self) -> npt.NDArray[np.float32]:
        self._bind()()
        return np.array(self._program.method.get_outputs()[0].numpy(), dtype=np.float32)

    def _close(self) -> None:
        self._program.close()
        self._inputs = ()


@BACKENDS.register("executorch-xnnpack")
class ExecutorchXnnpackBackend(Backend):
    """``executorch-xnnpack``: networks as one call of XNNPACK; modules by ExecuTorch's lowering."""

    name = "executorch-xnnpack"
    memory_formats = ("nchw",)
    model_kinds = ("module",)

    @classmethod
    def probe(cls) -> Probe:
        if importlib.util.find_spec("executorch") is None:
            fix = BACKEND_SUPPORT[cls.name].install
            return Probe("missing", "executorch is not installed", fix)
        try:
            runtime = import_runtime()
            version = importlib.metadata.version("executorch")
            backends = runtime._get_registered_backend_names()
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            fix = f"install it again: {BACKEND_SUPPORT[cls.name].install}"
            return Probe("unusable", f"executorch's runtime does not import: {reason}", fix)
        if DELEGATE not in backends:
            fix = "install the wheel of PyPI, or build it with EXECUTORCH_BUILD_XNNPACK"
            return Probe("unusable", f"ExecuTorch {version} was built without XNNPACK", fix)
        return Probe("ok", f"ExecuTorch {version} with XNNPACK on {cpu_name()}")

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def fingerprint(self) -> Facts:
        return {
            "executorch": importlib.metadata.version("executorch"),
            "delegate": DELEGATE,
            "threads": self.threads,
            "precision_active": "fp32",
        }

    def hardware_name(self) -> str:
        return cpu_name()

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        network = random_network(architecture, setting, seed)
        onnx = build_onnx(network, setting.batch, setting.resolution, setting.classes)
        images = random_input(setting, seed)
        return ExecutorchRunner(build_pte(onnx).serialized(), (images,), self.clock, True)

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        from latkit.backends.executorch_lowering import lowered

        assert model.module is not None
        inputs = model.tensors(seed)
        with quiet():
            content = lowered(model.module, inputs, model.name)
        # ExecuTorch's plan may give the memory of an input that is used no more to something else.
        return ExecutorchRunner(content, inputs, self.clock, False)

    def _parallel_width(self) -> int:
        return int(import_runtime()._threadpool_get_thread_count())

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        try:
            self._host.enter_context(beside_torch(self.threads))
            self._host.enter_context(_threads(self.threads))
        except BaseException:
            self._host.close()
            raise

    def _exit(self) -> None:
        self._host.close()


@contextlib.contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Give ExecuTorch's pool a number of threads, that of the caller among them.

    Programs that are loaded keep the pool that was there when they were.
    """
    runtime = import_runtime()
    with quiet():
        before = runtime._threadpool_get_thread_count()
        runtime._unsafe_reset_threadpool(threads)
    try:
        yield
    finally:
        with quiet():
            runtime._unsafe_reset_threadpool(before)


def quiet() -> contextlib.AbstractContextManager[object]:
    """Keep from standard error what ExecuTorch writes there unasked, by way of Python's stream."""
    return contextlib.redirect_stderr(io.StringIO())


def import_runtime() -> Any:
    """ExecuTorch's runtime for Python.

    The library itself: the modules around it import all that lowers networks, which takes seconds
    and a dozen packages that running needs not.
    """
    return importlib.import_module("executorch.extension.pybindings._C")
