"""Pebble as a backend of latkit: a worked example, from the ONNX graph to the clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pebble
from threadpoolctl import threadpool_info, threadpool_limits

from latkit.backends import Backend, Clock, CpuRunner, Probe, Runner, cpu_clock
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError
from latkit.networks.onnx_model import INPUT, OUTPUT, OnnxNetwork
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import random_input, random_onnx

# Operators whose attributes are nothing to Pebble.
PLAIN = {
    "Add": "add", "Concat": "concat", "Flatten": "same", "Gemm": "linear",
    "GlobalAveragePool": "mean", "Identity": "same", "Relu": "relu", "Slice": "crop",
}  # fmt: skip


def to_pebble(network: OnnxNetwork) -> list[pebble.Operation]:
    """The operations of latkit's graph, each node of which is one.

    Raises:
        BackendError: Pebble lacks one, which is named.
    """
    constants = {
        i.name: onnx.numpy_helper.to_array(i)
        for i in network.model.graph.initializer
        if i.name not in network.weights
    }
    operations = []
    for node in network.model.graph.node:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = [name for name in node.input if name not in constants]
        kind, options = PLAIN.get(node.op_type, ""), dict[str, Any]()
        if node.op_type == "Conv":
            grouped = given["group"] > 1
            if not grouped or given["group"] == network.weights[node.input[1]].shape[0]:
                kind = "convolution"
                options = {name: given[name] for name in ("strides", "pads", "dilations")}
                options["depthwise"] = grouped
        elif node.op_type in ("MaxPool", "AveragePool"):
            kind = "max_pool" if node.op_type == "MaxPool" else "mean_pool"
            options = {"kernel": given["kernel_shape"]}
            options |= {name: given[name] for name in ("strides", "pads")}
        elif node.op_type == "BatchNormalization":
            kind, options = "norm", {"epsilon": given["epsilon"]}
        elif node.op_type == "Mul":
            kind, options = "scale", {"factor": float(constants[node.input[1]])}
        if not kind:
            lacking = f"Pebble has no {node.op_type} of this form"
            raise BackendError(lacking, "use another --backend")
        operations.append(pebble.Operation(kind, inputs, node.output[0], options))
    return operations


class PebbleRunner(CpuRunner):
    """A network with its input in place."""

    def __init__(self, session: Any, images: npt.NDArray[np.float32], clock: Clock) -> None:
        super().__init__(clock)
        self._session = session
        self._images = images

    def _bind(self) -> Callable[[], object]:
        return partial(self._session.run, INPUT, self._images, OUTPUT)

    def _logits(self) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = self._session.run(INPUT, self._images, OUTPUT)
        return logits

    def _close(self) -> None:
        self._session = self._images = None


class PebbleBackend(Backend):
    """``pebble-cpu``: fp32, as the base class assumes where nothing is said."""

    name = "pebble-cpu"
    memory_formats = ("nchw",)

    @classmethod
    def probe(cls) -> Probe:
        return Probe("ok", f"Pebble {pebble.__version__} on {cpu_name()}")

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def fingerprint(self) -> Facts:
        return {
            "pebble": pebble.__version__,
            "numpy": np.__version__,
            "threads": self.threads,
            "precision_active": "fp32",
        }

    def hardware_name(self) -> str:
        return cpu_name()

    def check_setting(self, setting: Setting) -> None:
        super().check_setting(setting)
        if setting.space == "fbnet":
            reason = "Pebble has no grouped convolutions, which fbnet's networks have"
            raise BackendError(reason, "use a setting of another space")

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        network = random_onnx(architecture, setting, seed)
        session = pebble.Session(to_pebble(network), network.weights)
        return PebbleRunner(session, random_input(setting, seed).numpy(), self.clock)

    def _parallel_width(self) -> int:
        return max(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas")

    def _enter(self) -> None:
        self._limits = threadpool_limits(self.threads, user_api="blas")

    def _exit(self) -> None:
        self._limits.restore_original_limits()
