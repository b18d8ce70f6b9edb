"""Runtimes' profiles, read from what they once wrote."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from latkit.backends.layers import (
    from_onnxruntime,
    from_openvino,
    from_tensorrt,
    from_torch,
    tensorrt_operator,
)


def event(cat: str, name: str, ts: int, dur: int, op: str | None = None) -> dict[str, Any]:
    return {"cat": cat, "name": name, "ts": ts, "dur": dur, "args": {"op_name": op} if op else {}}


def test_onnxruntime_counts_the_last_runs_alone() -> None:
    events = [event("Session", "model_loading_uri", 0, 900)]
    for start, conv in ((1000, 9000), (20000, 600), (30000, 800)):  # the first run warms up
        events += [
            event("Node", "c1_fence_before", start + 1, 50, "Conv"),
            event("Node", "c1_kernel_time", start + 2, conv, "Conv"),
            event("Node", "c2_kernel_time", start + 3, 100, "Conv"),
            event("Node", "r_kernel_time", start + 4, 50, "Relu"),
            event("Session", "model_run", start, conv + 250),
        ]
    times = from_onnxruntime(events, 2)
    assert [(layer.operator, layer.count) for layer in times.layers] == [("Conv", 2), ("Relu", 1)]
    assert [layer.ms for layer in times.layers] == pytest.approx([0.8, 0.05])
    assert times.whole_ms == pytest.approx(0.95)
    assert times.explained == pytest.approx(0.85 / 0.95)
    with pytest.raises(ValueError, match="no run"):
        from_onnxruntime([], 2)


def test_openvino_counts_what_was_executed() -> None:
    def info(kind: str, us: int, status: str = "Status.EXECUTED") -> SimpleNamespace:
        return SimpleNamespace(node_type=kind, real_time=timedelta(microseconds=us), status=status)

    runs = [
        [info("Convolution", 900), info("Relu", 70, "Status.OPTIMIZED_OUT")],
        [info("Convolution", 1100), info("Relu", 70, "Status.NOT_RUN")],
    ]
    times = from_openvino(runs, 1.25)
    assert [(layer.operator, layer.count, layer.ms) for layer in times.layers] == [
        ("Convolution", 1, pytest.approx(1.0))
    ]
    assert times.explained == pytest.approx(0.8)


def test_torch_takes_each_operators_own_time() -> None:
    rows = [("aten::relu", 4, 100.0), ("aten::conv", 2, 3000.0), ("aten::view", 2, 0.0)]
    times = from_torch(rows, 2, 2.0)
    assert [(layer.operator, layer.count, layer.ms) for layer in times.layers] == [
        ("aten::conv", 1.0, 1.5), ("aten::relu", 2.0, 0.05)
    ]  # fmt: skip
    assert times.explained == pytest.approx(0.775)


def test_tensorrt_is_grouped_by_the_operators_in_its_names() -> None:
    names = {
        "Conv_0 + Relu_1": "Conv + Relu",
        "/features/features.0/Conv + /features/features.2/Clip": "Conv + Clip",
        "Reformatting CopyNode for Input Tensor 0 to Conv_0": "Reformatting",
        "node_of_12": "node_of",
    }
    for name, operator in names.items():
        assert tensorrt_operator(name) == operator
    reported = [("Conv_0 + Relu_1", 0.2), ("Conv_3 + Relu_4", 0.4)] * 2
    (layer,) = from_tensorrt(reported, 2, 1.0).layers
    assert (layer.operator, layer.count, layer.ms) == ("Conv + Relu", 2, pytest.approx(0.6))
