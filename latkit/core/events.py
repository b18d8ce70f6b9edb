"""What long tasks report while they run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a task is.

    Attributes:
        unit: what is counted, e.g. ``measurements``.
        done: how many are done.
        total: how many there will be, as far as is known now.
        done_before: how many of ``done`` an earlier run did.
        detail: the latest numbers, as one line.
    """

    unit: str
    done: int
    total: int
    done_before: int = 0
    detail: str = ""


class Listener:
    """Receives what a task reports; a subclass overrides what it needs, and this class nothing."""

    def note(self, text: str) -> None:
        """Receive a remark: what was chosen, what comes next."""

    def warn(self, text: str) -> None:
        """Receive what nobody should miss, although the task goes on."""

    def progress(self, now: Progress) -> None:
        """Receive the progress, after every step of the task."""

    def end_progress(self) -> None:
        """Receive that no more of this progress comes, whether the task is done or failed."""


SILENT = Listener()
