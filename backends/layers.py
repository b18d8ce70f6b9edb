"""What a runtime's own profiler reports of a network's layers, brought to one table by operator.

Every runtime writes its profile in a form of its own; the functions here read them, and nothing
else, so that each can be shown to be right on what a runtime once wrote.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layer:
    """All layers of one operator.

    Attributes:
        operator: the runtime's own name of it.
        count: how many there are in a run.
        ms: what they take together in a run.
    """

    operator: str
    count: float
    ms: float


@dataclass(frozen=True)
class LayerTimes:
    """The layers of a network, from the one that takes longest.

    Attributes:
        layers: by operator.
        whole_ms: one run while it was profiled, which takes longer than one that is not.
    """

    layers: tuple[Layer, ...]
    whole_ms: float

    @property
    def explained(self) -> float:
        """The share of the whole that the layers add up to."""
        return sum(layer.ms for layer in self.layers) / self.whole_ms


def layer_times(calls: Iterable[tuple[str, float]], runs: int, whole_ms: float) -> LayerTimes:
    """A table by operator.

    Args:
        calls: operator and milliseconds of each layer of each run.
        runs: how many there were.
        whole_ms: one of them.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for operator, ms in calls:
        times[operator].append(ms)
    layers = [Layer(name, len(ms) / runs, sum(ms) / runs) for name, ms in times.items()]
    return LayerTimes(tuple(sorted(layers, key=lambda layer: -layer.ms)), whole_ms)


def from_onnxruntime(events: Iterable[Mapping[str, Any]], runs: int) -> LayerTimes:
    """Of the events in ONNX Runtime's profile; the last ``runs`` runs count, not those before.

    Newer releases have an event ``Conv_kernel_time`` for each node with ``op_name`` among its
    arguments, and before and after it others of the same node that are not its work.
    """
    whole = sorted(
        (e["ts"], e["dur"])
        for e in events
        if e.get("cat") == "Session" and e.get("name") == "model_run"
    )[-runs:]
    if not whole:
        raise ValueError("the profile has no run")
    begin = whole[0][0]
    calls = [
        (str(e["args"]["op_name"]), e["dur"] / 1000)
        for e in events
        if e.get("cat") == "Node"
        and e["ts"] >= begin
        and "op_name" in e.get("args", {})
        and str(e.get("name", "")).endswith("_kernel_time")
    ]
    return layer_times(calls, len(whole), sum(d for _, d in whole) / 1000 / len(whole))


def from_openvino(runs: Iterable[Iterable[Any]], whole_ms: float) -> LayerTimes:
    """Of what OpenVINO's requests report: ``node_type``, ``real_time`` and whether it ran."""
    infos = [list(run) for run in runs]
    calls = [
        (str(info.node_type), info.real_time.total_seconds() * 1000)
        for run in infos
        for info in run
        if str(info.status).rpartition(".")[2] == "EXECUTED"
    ]
    return layer_times(calls, len(infos), whole_ms)


def from_torch(rows: Iterable[tuple[str, int, float]], runs: int, whole_ms: float) -> LayerTimes:
    """Of PyTorch's profiler.

    Args:
        rows: operator, how often it was called and its own microseconds, without those of the
            operators it calls.
        runs: how many there were.
        whole_ms: one of them.
    """
    layers = [Layer(name, calls / runs, us / 1000 / runs) for name, calls, us in rows if us > 0]
    return LayerTimes(tuple(sorted(layers, key=lambda layer: -layer.ms)), whole_ms)


def from_tensorrt(reported: Iterable[tuple[str, float]], runs: int, whole_ms: float) -> LayerTimes:
    """Of what TensorRT reports to a profiler: the name of each layer, and its milliseconds."""
    calls = [(tensorrt_operator(name), ms) for name, ms in reported]
    return layer_times(calls, runs, whole_ms)


def tensorrt_operator(name: str) -> str:
    """The operators that TensorRT fused into a layer, from its name: ``Conv + Relu``.

    Layers are called like the nodes of the ONNX file (``/features/0/Conv + /features/1/Relu``,
    ``Conv_12``), and what TensorRT itself adds like ``Reformatting CopyNode for Input Tensor 0``.
    """
    if name.startswith("Reformatting"):
        return "Reformatting"
    operators = []
    for part in re.split(r"\s*(?:\+|\|\||,)\s*", re.sub(r"\{.*\}|\[\w+\]:", "", name)):
        word = part.strip().rpartition("/")[2].split(" ")[0]
        word = re.sub(r"[_\d]+$", "", word.split("(")[-1].rstrip(")"))
        if word:
            operators.append(word)
    return " + ".join(operators[:3]) or name
