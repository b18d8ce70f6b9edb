"""LiteRT (TensorFlow Lite) on the CPU, in fp32: the interpreter with XNNPACK, as phones run it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.registry import BACKENDS
from latkit.backends.threads import working_threads
from latkit.backends.timing import CpuRunner, cpu_clock
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError
from latkit.networks.tflite_model import tflite_model
from latkit.spaces import Architecture, Setting, get_preset
from latkit.spaces.build import random_input, random_onnx
from latkit.spaces.darts.zoo import get_genotype

PACKAGE = "ai-edge-litert"
# How the interpreter lists what it gave to XNNPACK.
_DELEGATED = "DELEGATE"


class LitertRunner(CpuRunner):
    """An interpreter with its input in place, which it does not overwrite.

    Args:
        model: a LiteRT model of one input and one output.
        images: ``B x C x H x W``.
        threads: of a run.
    """

    def __init__(self, model: bytes, images: npt.NDArray[np.float32], threads: int) -> None:
        super().__init__(cpu_clock(threads))
        self._interpreter: Any = _import().Interpreter(model_content=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        (taken,) = self._interpreter.get_input_details()
        (given,) = self._interpreter.get_output_details()
        self._logits_at = given["index"]
        channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        self._interpreter.set_tensor(taken["index"], channels_last)

    @property
    def delegated(self) -> bool:
        """Whether XNNPACK has a part of the network."""
        operators = self._interpreter._get_ops_details()
        return any(operator["op_name"] == _DELEGATED for operator in operators)

    def _bind(self) -> Callable[[], object]:
        invoke: Callable[[], object] = self._interpreter.invoke
        return invoke

    def _logits(self) -> npt.NDArray[np.float32]:
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._logits_at), dtype=np.float32)

    def _close(self) -> None:
        self._interpreter = None


@BACKENDS.register("litert-cpu")
class LitertCpuBackend(Backend):
    """``litert-cpu``: models made without Google's converter; what XNNPACK takes, it runs."""

    name = "litert-cpu"
    memory_formats = ("nchw",)

    @classmethod
    def probe(cls) -> Probe:
        fix = BACKEND_SUPPORT[cls.name].install
        if importlib.util.find_spec("ai_edge_litert") is None:
            return Probe("missing", f"{PACKAGE} is not installed", fix)
        try:
            _import()
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            return Probe("unusable", f"{PACKAGE} does not import: {reason}", f"{fix} again")
        return Probe("ok", f"LiteRT {_version()} on {cpu_name()}")

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def fingerprint(self) -> Facts:
        return {"litert": _version(), "delegate": "xnnpack", "threads": self.threads}

    def hardware_name(self) -> str:
        return cpu_name()

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        model = tflite_model(random_onnx(architecture, setting, seed))
        return LitertRunner(model, random_input(setting, seed).numpy(), self.threads)

    def _parallel_width(self) -> int | None:
        return self._width

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        self._host.enter_context(beside_torch(self.threads))
        try:
            self._width = self._check_first_network()
        except BaseException:
            self._exit()
            raise

    def _check_first_network(self) -> int | None:
        """The threads that a first network runs on, if those are too many.

        Raises:
            BackendError: XNNPACK takes no part of it.
        """
        setting = get_preset("tiny").replace(memory_format="nchw")
        model = tflite_model(random_onnx(get_genotype("darts_v2"), setting, 0))
        with LitertRunner(model, random_input(setting, 0).numpy(), self.threads) as runner:
            if not runner.delegated:
                raise BackendError(
                    "this LiteRT runs networks without XNNPACK",
                    f"install PyPI's package: pip install {PACKAGE}",
                )
            counts = [working_threads(lambda: runner.run(20)) or 1 for _ in range(2)]
        # Fewer may be a matter of a small network on a busy machine.
        return min(counts) if min(counts) > self.threads else None

    def _exit(self) -> None:
        self._host.close()


def _import() -> Any:
    return importlib.import_module("ai_edge_litert.interpreter")


def _version() -> str:
    return importlib.metadata.version(PACKAGE)
