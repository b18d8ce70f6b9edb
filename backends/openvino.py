"""OpenVINO on the CPU, in fp32."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.registry import BACKENDS
from latkit.backends.timing import CpuRunner, cpu_clock
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError
from latkit.networks.onnx_model import INPUT, IR_VERSION, OPSET, OUTPUT, build_onnx
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import random_input, random_network


class OpenvinoCpuRunner(CpuRunner):
    """A compiled model with its input in place."""

    def __init__(self, compiled: Any, images: npt.NDArray[np.float32], clock: Clock) -> None:
        super().__init__(clock)
        self._request = compiled.create_infer_request()
        self._images = images  # the tensor only points to it
        self._request.set_input_tensor(_import().Tensor(images, shared_memory=True))

    def _bind(self) -> Callable[[], object]:
        infer: Callable[[], object] = self._request.infer
        return infer

    def _logits(self) -> npt.NDArray[np.float32]:
        self._request.infer()
        return np.array(self._request.get_output_tensor().data)

    def _close(self) -> None:
        self._request = None


@BACKENDS.register("openvino-cpu")
class OpenvinoCpuBackend(Backend):
    """``openvino-cpu``: precision pinned, because OpenVINO takes bf16 by itself on some CPUs."""

    name = "openvino-cpu"
    memory_formats = ("nchw",)

    @classmethod
    def probe(cls) -> Probe:
        if importlib.util.find_spec("openvino") is None:
            fix = BACKEND_SUPPORT[cls.name].install
            return Probe("missing", "openvino is not installed", fix)
        try:
            version = _import().__version__
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            return Probe("unusable", f"openvino does not import: {reason}", "install it again")
        return Probe("ok", f"OpenVINO {version} on {cpu_name()}")

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def fingerprint(self) -> Facts:
        return {
            "openvino": _import().__version__,
            "threads": self.threads,
            "precision_active": "fp32",
        }

    def hardware_name(self) -> str:
        return cpu_name()

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        network = build_onnx(
            random_network(architecture, setting, seed),
            setting.batch,
            setting.resolution,
            setting.classes,
        )
        compiled = self._load(network.serialized())
        active = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if active != "f32":
            raise BackendError(
                f"OpenVINO runs the network in {active} and not in fp32", "report this defect"
            )
        return OpenvinoCpuRunner(compiled, random_input(setting, seed).numpy(), self.clock)

    def _load(self, model: bytes) -> Any:
        """An ONNX file compiled for the CPU."""
        return self._core.compile_model(
            self._core.read_model(model, b""),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": str(self.threads),
            },
        )

    def _parallel_width(self) -> int:
        # OpenVINO takes fewer threads than requested where it finds fewer cores.
        images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1])
        logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1])
        graph = helper.make_graph(
            [helper.make_node("Relu", [INPUT], [OUTPUT])], "relu", [images], [logits]
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        compiled = self._load(model.SerializeToString())
        return int(compiled.get_property("INFERENCE_NUM_THREADS"))

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        self._host.enter_context(beside_torch(self.threads))
        try:
            self._core = _import().Core()
        except BaseException:
            self._host.close()
            raise

    def _exit(self) -> None:
        del self._core
        self._host.close()


def _import() -> Any:
    return importlib.import_module("openvino")
