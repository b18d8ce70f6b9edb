"""Progress of long tasks on stderr, and what they report beside it."""

from __future__ import annotations

import sys
import time

import click

from latkit.cli.output import note, warn
from latkit.core.events import Listener, Progress
from latkit.core.streams import columns_of, is_rewritable

# Seconds between progress lines where stderr is no terminal.
LINE_SECONDS = 15.0


class Terminal(Listener):
    """Prints what a task reports, on stderr."""

    def __init__(self) -> None:
        self._line: ProgressLine | None = None

    def note(self, text: str) -> None:
        self._break_line()
        note(text)

    def warn(self, text: str) -> None:
        self._break_line()
        warn(text)

    def progress(self, now: Progress) -> None:
        if self._line is None or self._line.label != now.unit:
            self.end_progress()
            self._line = ProgressLine(now.unit, now.total, now.done_before)
        self._line.total, self._line.done_before = now.total, now.done_before
        self._line.update(now.done, now.detail)

    def end_progress(self) -> None:
        self._break_line()
        self._line = None

    def _break_line(self) -> None:
        if self._line is not None:
            self._line.close()


class ProgressLine:
    """Progress of a long task with rate and remaining time, on stderr.

    On a terminal one line that is rewritten, elsewhere a line every ``LINE_SECONDS``.

    Args:
        label: what is counted.
        total: how many there are.
        done: how many were done before.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label = label
        self.total = total
        self.done_before = done
        self._started = self._shown = time.monotonic()
        self._terminal = is_rewritable(sys.stderr)
        self._width = 0

    def remaining_seconds(self, done: int, elapsed: float) -> float | None:
        """What is left at the rate of this run; None: nothing is done yet."""
        worked = done - self.done_before
        return (self.total - done) * elapsed / worked if worked > 0 else None

    def update(self, done: int, detail: str = "") -> None:
        """Tell how many are done now."""
        now = time.monotonic()
        if now - self._shown < (0.1 if self._terminal else LINE_SECONDS) and done < self.total:
            return
        self._shown = now
        elapsed = now - self._started
        rate = (done - self.done_before) / elapsed if elapsed else 0.0
        seconds = self.remaining_seconds(done, elapsed)
        remaining = "?" if seconds is None else _duration(seconds)
        text = (
            f"{self.label} {done}/{self.total} ({100 * done // self.total} %)  "
            f"{_duration(elapsed)} elapsed, {remaining} left, {rate:.3g}/s  {detail}"
        ).rstrip()
        if self._terminal:
            # A line that wraps cannot be rewritten.
            text = text[: columns_of(sys.stderr) - 1]
            click.echo("\r" + text.ljust(self._width), err=True, nl=False)
            self._width = len(text)
        else:
            note(text)

    def close(self) -> None:
        """Leave the line."""
        if self._terminal and self._width:
            click.echo(err=True)
            self._width = 0


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"
