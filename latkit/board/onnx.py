"""ONNX graphs without weights, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from latkit.backends.failures import runtime_errors
from latkit.backends.onnxruntime_session import (
    CPU,
    OnnxRuntimeRunner,
    check_int8,
    cpu_session,
    session_facts,
)
from latkit.board.runtime import BoardRuntime
from latkit.networks.inputs import TensorSpec, random_arrays
from latkit.networks.pool import DrawnWeight, uniform_pool

if TYPE_CHECKING:
    from latkit.backends.runner import Runner
    from latkit.board.runtime import Read
    from latkit.core.device import Facts

# Endings of a network's files.
GRAPH, TENSORS = "onnx", "json"


class Runtime(BoardRuntime):
    """What ``onnxruntime-cpu`` runs, from graphs that were built elsewhere."""

    def __init__(self, threads: int, seed: int) -> None:
        super().__init__(threads, seed)
        self._pool = uniform_pool(seed)
        self._runs_int8 = False

    def load(self, read: Read) -> Runner:
        inputs, weights = tensors_from_json(read(TENSORS))
        arrays = {name: weight.draw(self._pool) for name, weight in weights.items()}
        session = partial(cpu_session, read(GRAPH), arrays, self.threads)
        with runtime_errors("onnxruntime cannot build a network"):
            runner = OnnxRuntimeRunner(session, random_arrays(inputs, self.seed), self.clock)
        if not self._runs_int8 and any(weight.dtype == "int8" for weight in weights.values()):
            check_int8(runner)
            self._runs_int8 = True
        return runner

    def facts(self) -> Facts:
        # cpu_session refuses a session that has another provider.
        return session_facts([CPU], self.threads)


def tensors_to_json(inputs: list[TensorSpec], weights: Mapping[str, DrawnWeight]) -> bytes:
    """What a graph lacks: the shapes of its inputs, and how its weights are drawn."""
    content: dict[str, Any] = {
        "inputs": {spec.name: list(spec.shape) for spec in inputs},
        "weights": {name: weight.to_list() for name, weight in weights.items()},
    }
    return json.dumps(content).encode()


def tensors_from_json(content: bytes) -> tuple[list[TensorSpec], dict[str, DrawnWeight]]:
    """The inverse of :func:`tensors_to_json`."""
    tensors = json.loads(content)
    inputs = [TensorSpec(name, tuple(shape)) for name, shape in tensors["inputs"].items()]
    drawn = {name: DrawnWeight.from_list(values) for name, values in tensors["weights"].items()}
    return inputs, drawn
