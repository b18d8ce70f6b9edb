"""Prints what long tasks report."""

from __future__ import annotations

from latkit.cli.output import ProgressLine, note, warn
from latkit.core.events import Listener, Progress


class Terminal(Listener):
    """Prints what a task reports, on stderr."""

    def __init__(self) -> None:
        self._line: ProgressLine | None = None
        self._before = 0

    def note(self, text: str) -> None:
        self.end_progress()
        note(text)

    def warn(self, text: str) -> None:
        self.end_progress()
        warn(text)

    def progress(self, now: Progress) -> None:
        if self._line is None:
            self._line, self._before = ProgressLine(now.unit, now.total, now.done_before), 0
            self._before = now.done_before
        self._line.found_done(now.done_before - self._before)
        self._before = now.done_before
        self._line.update(now.done, now.detail)

    def end_progress(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
