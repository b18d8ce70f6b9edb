"""A listener that keeps what it receives."""

from __future__ import annotations

from latkit.core.events import Listener, Progress


class Kept(Listener):
    """Attributes: notes, warnings, steps of the progress, and how often that has ended."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.steps: list[Progress] = []
        self.ends = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, now: Progress) -> None:
        self.steps.append(now)

    def end_progress(self) -> None:
        self.ends += 1
