"""The timing loops: what lies between two readings of a clock, and which clock counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from latkit.backends import Clock, CpuRunner, EventRunner, cpu_clock


class Logged:
    """Keeps in order what is called of it; a method returns nothing."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.calls.append(" ".join([name, *map(str, arguments)]))


class Host(CpuRunner):
    """Burns CPU time and then waits."""

    def _bind(self) -> Callable[[], object]:
        def run() -> None:
            spent = time.thread_time_ns()
            while time.thread_time_ns() - spent < 2e6:
                pass
            time.sleep(0.004)

        return run

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.empty((1, 0), dtype=np.float32)

    def _close(self) -> None:
        pass


class Device(EventRunner):
    """Logs what the loop does; its runs take one millisecond more each by its own clock."""

    def __init__(self) -> None:
        super().__init__("stream")
        self.log = Logged()
        self.events = 0
        self.bound = 0

    @contextmanager
    def _modes(self) -> Iterator[None]:
        self.log.enter()
        yield
        self.log.leave()

    def _bind(self) -> Callable[[], object]:
        self.bound += 1
        return self.log.launch

    def _make_event(self) -> Any:
        self.events += 1
        return self.log

    def _elapsed_ms(self, start: Any, end: Any) -> float:
        self.log.read()
        return self.events / 2

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.empty((1, 0), dtype=np.float32)

    def _close(self) -> None:
        pass


@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_the_host_has_two_clocks(clock: Clock) -> None:
    samples = Host(clock).run(2)
    assert min(samples.wall_ms) >= 6  # a sleep is never shorter than asked for
    if clock == "wall":
        assert samples.clock_ms == samples.wall_ms
    else:
        for cpu_ms, wall_ms in zip(samples.clock_ms, samples.wall_ms, strict=True):
            assert 2 <= cpu_ms <= wall_ms


def test_cpu_time_counts_for_one_thread_alone() -> None:
    assert [cpu_clock(threads) for threads in (1, 2, 8)] == ["cpu", "wall", "wall"]


def test_events_enclose_the_run_alone() -> None:
    with Device() as runner:
        samples = runner.run(3)
        one = ["record stream", "launch", "record stream", "synchronize", "read"]
        assert runner.log.calls == ["enter", *(3 * one), "leave"]
        assert samples.clock_ms == (1.0, 2.0, 3.0)
        assert all(ms > 0 for ms in samples.wall_ms)
        assert runner.bound == 1
        assert runner.events == 6  # two new ones a run
        assert runner.clock == "event"
