"""What the flags of a row mean, and what a plan needs of the rows that are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# Of rows that other work on the machine disturbed; their other flags are the reasons.
DISTURBED = "disturbed"
# Flags of rows that belong to the fixed panel and not to the requested list.
PANEL_START, PANEL_END = "panel-start", "panel-end"

# Beginnings of flags that tell what state a GPU was in; they do not make a row disturbed.
THROTTLED, OTHER_PROCESSES = "throttled", "other-processes"


def gpu_flags(slowed_by: Iterable[str], others: int) -> tuple[str, ...]:
    """``throttled: REASON`` for each reason, and ``other-processes: N``.

    Args:
        slowed_by: what slowed the GPU.
        others: processes of others that had a context on it.
    """
    flags = tuple(f"{THROTTLED}: {reason}" for reason in slowed_by)
    return (*flags, f"{OTHER_PROCESSES}: {others}") if others else flags


def is_gpu_flag(flag: str) -> bool:
    """Whether a flag tells what state a GPU was in."""
    return flag.startswith((f"{THROTTLED}: ", f"{OTHER_PROCESSES}: "))


def is_panel(flags: Iterable[str]) -> bool:
    """Whether a row with these flags belongs to the fixed panel."""
    return not {PANEL_START, PANEL_END}.isdisjoint(flags)


class Done(NamedTuple):
    """A finished row: its estimate (the ratio to the anchor where there is one) and flags."""

    value: float
    flags: tuple[str, ...]
