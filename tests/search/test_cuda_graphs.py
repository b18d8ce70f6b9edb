"""Decisions about CUDA graphs, and their calls of torch.cuda by the real package's signatures."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from latkit.search.cuda_graphs import WARM_UP_CALLS, CudaGraphs, call, next_action, reason_of

GPU = torch.device("cuda")


def test_a_function_is_warmed_up_then_captured_then_replayed() -> None:
    actions, captured = [], False
    for calls in range(WARM_UP_CALLS + 3):
        actions.append(next_action(calls, captured, given_up=False))
        captured |= actions[-1] == "capture"
    assert actions == ["warm up"] * WARM_UP_CALLS + ["capture", "replay", "replay"]


def test_after_a_failure_everything_is_called() -> None:
    assert {next_action(calls, False, given_up=True) for calls in range(9)} == {"call"}


def test_the_reason_is_one_line() -> None:
    error = RuntimeError("CUDA error: operation not permitted\nCUDA kernel errors might be ...")
    assert reason_of(error) == "CUDA error: operation not permitted"
    assert reason_of(RuntimeError()) == "RuntimeError"


class SimulatedCuda:
    """What torch.cuda is asked for, by its own signatures; a capture runs nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
        self.events: list[str] = []
        self.failure = failure
        self.current = "default"
        simulated, real = self, torch.cuda

        signatures = {
            name: inspect.signature(getattr(real, name))
            for name in ("graph", "current_stream", "stream", "set_stream", "graph_pool_handle")
        }
        replays, waits = real.CUDAGraph.replay, real.Stream.wait_stream

        class Stream:
            def __init__(self, device: torch.device) -> None:
                self.name = "side"

            def wait_stream(self, stream: Any) -> None:
                inspect.signature(waits).bind(self, stream)
                simulated.events.append(f"{self.name} waits")

        class Default(Stream):
            def __init__(self) -> None:
                self.name = "default"

        class Graph:
            def replay(self) -> None:
                inspect.signature(replays).bind(self)
                simulated.events.append("replay")

        @contextlib.contextmanager
        def graph(*args: Any, **kwargs: Any) -> Iterator[None]:
            signatures["graph"].bind(*args, **kwargs)
            simulated.events.append("capture")
            simulated.current = "side"
            yield
            if simulated.failure is not None:
                raise simulated.failure  # as the end of a capture does, which leaves its stream
            simulated.current = "default"

        @contextlib.contextmanager
        def stream(*args: Any, **kwargs: Any) -> Iterator[None]:
            signatures["stream"].bind(*args, **kwargs)
            simulated.current = "side"
            yield
            simulated.current = "default"

        def current_stream(*args: Any, **kwargs: Any) -> Stream:
            signatures["current_stream"].bind(*args, **kwargs)
            return Default()

        def set_stream(*args: Any, **kwargs: Any) -> None:
            signatures["set_stream"].bind(*args, **kwargs)
            simulated.current = args[0].name

        fakes = {
            "Stream": Stream, "CUDAGraph": Graph, "graph": graph, "stream": stream,
            "current_stream": current_stream, "set_stream": set_stream,
            "graph_pool_handle": lambda: (0, 1),
        }  # fmt: skip
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)


def test_functions_become_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, warnings, seen = SimulatedCuda(monkeypatch), [], []
    graphs = CudaGraphs(GPU, warnings.append)
    for _ in range(WARM_UP_CALLS + 2):
        graphs("name", lambda: seen.append(cuda.current))
    assert seen == ["side"] * (WARM_UP_CALLS + 1)
    assert cuda.events == [
        *["side waits", "default waits"] * WARM_UP_CALLS, "capture", "replay", "replay",
    ]  # fmt: skip
    assert graphs.captured == {"name"}
    assert not warnings
    graphs("other", lambda: seen.append(cuda.current))
    assert graphs.captured == {"name"}


def test_a_capture_that_fails_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, warnings, seen = SimulatedCuda(monkeypatch), [], []
    graphs = CudaGraphs(GPU, warnings.append)
    for name in ("first", "second"):
        for _ in range(WARM_UP_CALLS + 1):
            graphs(name, lambda: seen.append(cuda.current))
        cuda.failure = RuntimeError("CUDA error: capture was invalidated\nmore")
    assert graphs.given_up
    assert not graphs.captured
    assert len(warnings) == 1
    assert "capture was invalidated" in warnings[0]
    assert "\n" not in warnings[0]
    # What failed to be captured has been called once more, on the usual stream.
    assert seen[-1] == cuda.current == "default"
    assert len(seen) == 2 * (WARM_UP_CALLS + 1) + 1
    replays = cuda.events.count("replay")
    graphs("first", lambda: seen.append(cuda.current))
    assert seen[-1] == "default"
    assert cuda.events.count("replay") == replays


def test_an_error_of_the_function_itself_is_raised_by_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    SimulatedCuda(monkeypatch)
    warnings: list[str] = []
    graphs = CudaGraphs(GPU, warnings.append)
    for _ in range(WARM_UP_CALLS):
        graphs("name", lambda: None)

    def fails() -> None:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        graphs("name", fails)
    assert len(warnings) == 1


def test_a_call_is_a_call() -> None:
    seen: list[int] = []
    call("name", lambda: seen.append(1))
    assert seen == [1]
