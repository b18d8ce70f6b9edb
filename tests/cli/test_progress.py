"""What is left of a task, told from the work of this run alone."""

from __future__ import annotations

import pytest

from latkit.cli.progress import ProgressLine, SharedProgress


def test_what_was_done_before_is_no_work() -> None:
    line = ProgressLine("steps", 100, 40)
    assert line.remaining_seconds(40, 3.0) is None
    assert line.remaining_seconds(60, 10.0) == pytest.approx(20.0)  # 40 at 2/s


def test_tasks_that_go_on() -> None:
    """Of three searches of 100 steps one was over before, one is half done, one is new."""
    progress = SharedProgress("steps", ["a", "b", "c"], 100)
    progress.end("a")
    progress.update("b", 51, 50)
    progress.update("c", 1, 0)
    # Two steps of this run, 148 left.
    assert progress.line.remaining_seconds(sum(progress.done.values()), 4.0) == pytest.approx(296.0)
    progress.update("b", 60, 50)
    assert progress.line.remaining_seconds(sum(progress.done.values()), 11.0) == pytest.approx(
        139 * 11 / 11
    )
    # One that ends early has not done the rest.
    progress.end("b")
    assert sum(progress.done.values()) == 201
    assert progress.line.remaining_seconds(201, 11.0) == pytest.approx(99 * 11 / 11)
