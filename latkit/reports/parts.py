"""What reports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Line:
    """A line, or a drawing, that belongs to the result."""

    text: str


@dataclass(frozen=True)
class Note:
    """A remark beside the result."""

    text: str


@dataclass(frozen=True)
class Caution:
    """A remark that nobody should miss."""

    text: str


Part: TypeAlias = Table | Line | Note | Caution


def number(value: float | int | None, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
