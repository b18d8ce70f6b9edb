"""What the flags of a row mean, and what a plan needs of the rows that are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# Of rows that other work on the machine disturbed; their other flags are the reasons.
DISTURBED = "disturbed"
# Flags of rows that belong to the fixed panel and not to the requested list.
PANEL_START, PANEL_END = "panel-start", "panel-end"


def is_panel(flags: Iterable[str]) -> bool:
    """Whether a row with these flags belongs to the fixed panel."""
    return not {PANEL_START, PANEL_END}.isdisjoint(flags)


class Done(NamedTuple):
    """A finished row: its estimate (the ratio to the anchor where there is one) and flags."""

    value: float
    flags: tuple[str, ...]
