"""What is left of a task, told from the work of this run alone."""

from __future__ import annotations

import pytest

from latkit.cli.progress import ProgressLine
from latkit.core.events import Listener, Progress
from latkit.search.epochs import SearchProgress
from latkit.search.run import SweepProgress


def test_what_was_done_before_is_no_work() -> None:
    line = ProgressLine("steps", 100, 40)
    assert line.remaining_seconds(40, 3.0) is None
    assert line.remaining_seconds(60, 10.0) == pytest.approx(20.0)  # 40 at 2/s


def test_searches_that_go_on() -> None:
    """Of three searches of 100 steps one was over before, one is half done, one is new."""

    class Last(Listener):
        def progress(self, now: Progress) -> None:
            self.now = now

    def step(number: int, before: int) -> SearchProgress:
        return SearchProgress(1, number, 100, 1, before, 0.1, None, None, "ms")

    last = Last()
    sweep = SweepProgress(last, 3, 100)

    def remaining(elapsed: float) -> float | None:
        line = ProgressLine("steps", last.now.total, last.now.done_before)
        return line.remaining_seconds(last.now.done, elapsed)

    sweep.end("a")
    sweep.update("b", step(51, 50))
    sweep.update("c", step(1, 0))
    # Two steps of this run, 148 left.
    assert remaining(4.0) == pytest.approx(296.0)
    sweep.update("b", step(60, 50))
    assert remaining(11.0) == pytest.approx(139.0)
    # One that ends early has not done the rest.
    sweep.end("b")
    sweep.update("c", step(1, 0))
    assert last.now.done == 201
    assert remaining(11.0) == pytest.approx(99 * 11 / 11)
