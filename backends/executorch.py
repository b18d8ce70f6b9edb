"""ExecuTorch with XNNPACK on the CPU, in fp32."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.executorch_program import (
    DELEGATE,
    ExecutorchRunner,
    import_runtime,
    pool_threads,
    program_facts,
    quiet,
    set_pool_threads,
)
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.registry import BACKENDS
from latkit.backends.timing import cpu_clock
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts, cpu_name
from latkit.networks.models import Model
from latkit.networks.pte import build_pte
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_onnx


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
            delegates = import_runtime()._get_registered_backend_names()
            version = importlib.metadata.version("executorch")
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            fix = f"install it again: {BACKEND_SUPPORT[cls.name].install}"
            return Probe("unusable", f"executorch's runtime does not import: {reason}", fix)
        if DELEGATE not in delegates:
            fix = "install PyPI's package, or build it with EXECUTORCH_BUILD_XNNPACK"
            return Probe("unusable", f"ExecuTorch {version} was built without XNNPACK", fix)
        return Probe("ok", f"ExecuTorch {version} with XNNPACK on {cpu_name()}")

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def fingerprint(self) -> Facts:
        return program_facts(importlib.metadata.version("executorch"), self.threads)

    def hardware_name(self) -> str:
        return cpu_name()

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        content = build_pte(random_onnx(architecture, setting, seed)).serialized()
        return ExecutorchRunner(content, [random_input(setting, seed).numpy()], self.clock)

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        from latkit.backends.executorch_lowering import lowered

        assert model.module is not None
        with quiet():
            content = lowered(model.module, model.tensors(seed), model.name)
        # ExecuTorch's plan may give the memory of an input that is used no more to something else.
        inputs = list(model.arrays(seed).values())
        return ExecutorchRunner(content, inputs, self.clock, in_place=False)

    def _parallel_width(self) -> int:
        return pool_threads()

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        try:
            self._host.enter_context(beside_torch(self.threads))
            self._host.enter_context(_pool(self.threads))
        except BaseException:
            self._host.close()
            raise

    def _exit(self) -> None:
        self._host.close()


@contextlib.contextmanager
def _pool(threads: int) -> Iterator[None]:
    """Give ExecuTorch's pool a number of threads."""
    before = pool_threads()
    set_pool_threads(threads)
    try:
        yield
    finally:
        set_pool_threads(before)
