"""What pictures are made of.

Coordinates are pixels from the top left. A colour is a code of six digits, or one of ``ROLES``,
which a web page takes from its style (dark or light) and a file has fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Point: TypeAlias = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

# On white.
ROLES = {
    "ink": "#1b1f24",
    "muted": "#5b6470",
    "grid": "#d9dee4",
    "paper": "#ffffff",
    "mass": "#2b7fb8",
    "series1": "#c04f00",
    "series2": "#007a5a",
    "series3": "#a3386f",
    "series4": "#0072b2",
    "series5": "#7a5c00",
    "series6": "#3b6ea5",
}
SERIES = tuple(role for role in ROLES if role.startswith("series"))
TEXT_PX = 13.0


def series_colour(index: int) -> str:
    """The colour of a chart's n-th series; they repeat after the last."""
    return SERIES[index % len(SERIES)]


@dataclass(frozen=True)
class Line:
    """A line through points, or with ``smooth`` a curve that is level at each of them."""

    points: Sequence[Point]
    colour: str = "ink"
    width: float = 1.5
    dashed: bool = False
    smooth: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Shape:
    """A filled polygon."""

    points: Sequence[Point]
    colour: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Box:
    """A rectangle with round corners."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    radius: float = 0.0
    outline: str | None = None
    opacity: float = 1.0


@dataclass(frozen=True)
class Disc:
    """A circle; hollow where it has an outline."""

    x: float
    y: float
    radius: float
    colour: str
    outline: str | None = None
    opacity: float = 1.0


@dataclass(frozen=True)
class Label:
    """A line of text whose middle is at the height ``y``; ``turned`` reads upwards."""

    x: float
    y: float
    text: str
    size: float = TEXT_PX
    colour: str = "ink"
    anchor: Anchor = "middle"
    bold: bool = False
    turned: bool = False


Item: TypeAlias = Line | Shape | Box | Disc | Label


@dataclass
class Picture:
    """Shapes on a surface; later ones lie on earlier ones."""

    width: float
    height: float
    items: list[Item] = field(default_factory=list)

    def add(self, *items: Item) -> None:
        self.items.extend(items)

    def place(self, other: Picture, x: float, y: float) -> None:
        """Put another picture's shapes here, moved by ``x`` and ``y``."""
        self.items.extend(_moved(item, x, y) for item in other.items)


def _moved(item: Item, x: float, y: float) -> Item:
    if isinstance(item, (Line, Shape)):
        return replace(item, points=[(px + x, py + y) for px, py in item.points])
    return replace(item, x=item.x + x, y=item.y + y)


def contrasting(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour (by the ratio of WCAG 2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"


def text_width(text: str, size: float = TEXT_PX) -> float:
    """About how wide a text of a usual sans-serif font is."""
    return 0.56 * size * len(text)
