"""How many threads of this process work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Of the busiest thread's time: less is no work of a run.
LEAST_SHARE = 0.1
_TASKS = Path("/proc/self/task")


def working_threads(run: Callable[[], object]) -> int | None:
    """Threads that use a core while something runs; None where the system does not count that.

    Args:
        run: takes some milliseconds at least.
    """
    before = _used_ns()
    run()
    used = [ns - before.get(thread, 0) for thread, ns in _used_ns().items()]
    if not before or not max(used, default=0):
        return None
    return sum(ns >= LEAST_SHARE * max(used) for ns in used)


def _used_ns() -> dict[str, int]:
    """What each thread has used of cores since it began, in nanoseconds."""
    used: dict[str, int] = {}
    if not _TASKS.exists():
        return used
    for thread in os.listdir(_TASKS):
        try:
            used[thread] = int((_TASKS / thread / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):  # it has ended, or the kernel counts nothing
            continue
    return used
