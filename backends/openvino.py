"""OpenVINO on the CPU, in fp32."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.layers import LayerTimes, from_openvino
from latkit.backends.registry import BACKENDS
from latkit.backends.timing import CpuRunner, cpu_clock
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError
from latkit.networks.inputs import Array
from latkit.networks.models import Model
from latkit.networks.onnx_model import INPUT, IR_VERSION, OPSET, OUTPUT
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_onnx


class OpenvinoCpuRunner(CpuRunner):
    """A compiled model with its inputs in place.

    Args:
        load: compiles the model; with True, for OpenVINO to count what each layer takes.
        inputs: by name.
        clock: of the samples.
    """

    def __init__(self, load: Callable[[bool], Any], inputs: dict[str, Array], clock: Clock) -> None:
        super().__init__(clock)
        self._load: Any = load
        self._inputs = inputs  # the tensors only point to them
        self._request = self._make_request(False)

    def _make_request(self, counting: bool) -> Any:
        request = self._load(counting).create_infer_request()
        for name, array in self._inputs.items():
            request.set_tensor(name, _import().Tensor(array, shared_memory=True))
        return request

    def _layer_times(self, runs: int) -> LayerTimes:
        request = self._make_request(True)
        request.infer()
        infos, whole_ms = [], 0.0
        for _ in range(runs):
            started = time.perf_counter()
            request.infer()
            whole_ms += (time.perf_counter() - started) * 1000 / runs
            infos.append(list(request.get_profiling_info()))
        return from_openvino(infos, whole_ms)

    def _bind(self) -> Callable[[], object]:
        infer: Callable[[], object] = self._request.infer
        return infer

    def _logits(self) -> npt.NDArray[np.float32]:
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)

    def _close(self) -> None:
        self._request = self._load = None


@BACKENDS.register("openvino-cpu")
class OpenvinoCpuBackend(Backend):
    """``openvino-cpu``: precision pinned, because OpenVINO takes bf16 by itself on some CPUs."""

    name = "openvino-cpu"
    memory_formats = ("nchw",)
    model_kinds = ("module", "onnx")

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
        def content() -> bytes:
            return random_onnx(architecture, setting, seed).serialized()

        images = {INPUT: random_input(setting, seed).numpy()}
        return OpenvinoCpuRunner(
            lambda counting: self._load(content(), counting), images, self.clock
        )

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        # The content is made anew where it is needed again: it is as large as the network.
        return OpenvinoCpuRunner(
            lambda counting: self._load(model.onnx(), counting), model.arrays(seed), self.clock
        )

    def _load(self, model: bytes, counting: bool = False) -> Any:
        """An ONNX file compiled for the CPU.

        Args:
            model: the file's content.
            counting: whether requests report what each layer took.
        """
        compiled = self._core.compile_model(
            self._core.read_model(model, b""),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": str(self.threads),
                "PERF_COUNT": "YES" if counting else "NO",
            },
        )
        active = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if active != "f32":
            raise BackendError(
                f"OpenVINO runs the network in {active} and not in fp32", "report this defect"
            )
        return compiled

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
