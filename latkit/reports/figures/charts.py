"""Charts as pictures: axes, and what is drawn between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latkit.reports.figures.picture import (
    Box,
    Disc,
    Label,
    Line,
    Picture,
    Shape,
    series_colour,
    text_width,
)

WIDTH, HEIGHT = 660.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 16.0, 26.0, 50.0
ROW, LEGEND_ROW = 30.0, 18.0


@dataclass(frozen=True)
class Axis:
    """A range of values and what they are; with ``log`` equal ratios are equally long."""

    label: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def around(
        cls, label: str, values: Sequence[float], zero: bool = False, log: bool = False
    ) -> Axis:
        """An axis that shows all values with some room; with ``zero`` it begins there."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if log:
            ratio = max((high / low) ** 0.05, 1.1)
            return cls(label, low / ratio, high * ratio, log)
        room = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
        return cls(label, 0.0 if zero else low - room, high + room)

    def share(self, value: float) -> float:
        """How far along the axis a value lies, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers within the range."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**power for power in powers for m in (1, 2, 5)]
            return [value for value in found if self.low <= value <= self.high]
        step = _round_up((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def _round_up(step: float) -> float:
    size: float = 10.0 ** math.floor(math.log10(step))
    return next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= step * 0.999)


def short_number(value: float) -> str:
    """A number as axes have it: ``1.5``, ``40``, ``12,000``, ``3M``."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value:,.0f}"
    return f"{0 if size < 1e-12 else float(f'{value:.6g}'):g}"


@dataclass
class Plot:
    """A picture with axes, which begin ``top`` pixels below its edge."""

    picture: Picture
    x: Axis
    y: Axis
    top: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pair of values lies."""
        wide = self.picture.width - LEFT - RIGHT
        high = self.picture.height - self.top - BOTTOM
        return (
            LEFT + wide * self.x.share(x),
            self.top + high * (1 - self.y.share(y)),
        )


def plot(x: Axis, y: Axis, traces: Sequence[Trace] = (), height: float = HEIGHT) -> Plot:
    """Empty axes with a grid, and above them the names of the lines that come."""
    names = _legend([trace.name for trace in traces])
    lower = LEGEND_ROW * max(0, max((row for row, *_ in names), default=0))
    height += lower
    made = Plot(Picture(WIDTH, height), x, y, TOP + lower)
    picture = made.picture
    for row, across, name, number in names:
        level, trace = TOP - 10 + LEGEND_ROW * row, traces[number]
        colour = series_colour(number)
        picture.add(
            Line([(across, level), (across + 18, level)], colour, 3, dashed=trace.dashed),
            Label(across + 24, level, name, size=12, anchor="start"),
        )
    floor, end = height - BOTTOM, WIDTH - RIGHT
    for value in y.ticks():
        _, level = made.at(x.low, value)
        picture.add(
            Line([(LEFT, level), (end, level)], "grid", 1),
            Label(LEFT - 8, level, short_number(value), colour="muted", anchor="end"),
        )
    for value in x.ticks():
        across, _ = made.at(value, y.low)
        picture.add(
            Line([(across, floor), (across, floor + 5)], "muted", 1),
            Label(across, floor + 17, short_number(value), colour="muted"),
        )
    picture.add(
        Line([(LEFT, floor), (end, floor)], "muted", 1),
        Label((LEFT + end) / 2, height - 12, x.label),
        Label(14, (made.top + floor) / 2, y.label, turned=True),
    )
    return made


def _legend(names: Sequence[str]) -> list[tuple[int, float, str, int]]:
    """Of each name its row, its place in that, itself, cut if need be, and its number."""
    found, row, x = [], 0, LEFT + 8
    for number, name in enumerate(names):
        if not name:
            continue
        short = _cut(name, WIDTH - LEFT - RIGHT - 60)
        needed = 44 + text_width(short, 12)
        if x + needed > WIDTH - RIGHT and x > LEFT + 8:
            row, x = row + 1, LEFT + 8
        found.append((row, x, short, number))
        x += needed
    return found


def histogram(
    edges: Sequence[float], counts: Sequence[int], label: str, marks: Sequence[tuple[str, float]]
) -> Picture:
    """Bars, and named lines at some values."""
    up = Axis("architectures", 0, 1.12 * max([*counts, 1]))
    axes = plot(Axis.around(label, edges), up, height=300)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            left, top = axes.at(low, count)
            right, floor = axes.at(high, 0)
            width = max(1.0, right - left - 1)
            axes.picture.add(Box(left + 0.5, top, width, floor - top, "mass", 1.5))
    for number, (name, value) in enumerate(marks):
        across, top = axes.at(value, axes.y.high)
        _, floor = axes.at(value, 0)
        axes.picture.add(Line([(across, top), (across, floor)], "series1", 1.5, dashed=True))
        _named(axes, across, top + 9 + 16 * number, name, "series1")
    return axes.picture


def _named(axes: Plot, x: float, y: float, name: str, colour: str) -> None:
    """A name beside a point, on the side where there is room."""
    fits = x + 8 + text_width(name, 12) < axes.picture.width - RIGHT
    anchor, shift = ("start", 7) if fits else ("end", -7)
    axes.picture.add(
        Label(x + shift, y, name, size=12, colour=colour, anchor=anchor, bold=True)  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Hexagon:
    """A bin of a plane and how many points it holds; ``x`` and ``y`` are its middle."""

    x: float
    y: float
    count: int


@dataclass(frozen=True)
class Trace:
    """A line of a chart, with a band around it where ``low`` and ``high`` are given."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    points: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Spot:
    """A point of a chart; ``low`` and ``high`` are the ends of its interval."""

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


def density(
    hexagons: Sequence[Hexagon],
    size: tuple[float, float],
    x_label: str,
    y_label: str,
    traces: Sequence[Trace] = (),
    diagonal: bool = False,
) -> Picture:
    """Hexagons, the stronger the more points they hold, with lines above them.

    Args:
        hexagons: the bins.
        size: half the width and half the height of one, in the axes' units.
        x_label, y_label: of the axes.
        traces: lines, named in a legend.
        diagonal: whether the line of equal values is drawn.
    """
    across, up = size
    xs = [h.x + side * across for h in hexagons for side in (-1, 1)]
    ys = [h.y + side * up for h in hexagons for side in (-1, 1)]
    axes = plot(Axis.around(x_label, xs), Axis.around(y_label, ys), traces)
    most = max((h.count for h in hexagons), default=1)
    for h in hexagons:
        corners = [
            (h.x, h.y + up), (h.x + across, h.y + up / 2), (h.x + across, h.y - up / 2),
            (h.x, h.y - up), (h.x - across, h.y - up / 2), (h.x - across, h.y + up / 2),
        ]  # fmt: skip
        opacity = 0.22 + 0.78 * math.log1p(h.count) / math.log1p(most)
        axes.picture.add(Shape([axes.at(*corner) for corner in corners], "mass", opacity))
    if diagonal:
        _diagonal(axes)
    _traces(axes, traces)
    return axes.picture


def lines(
    traces: Sequence[Trace], x_label: str, y_label: str, zero: bool = False, log: bool = False
) -> Picture:
    """Lines with their bands, named above them; ``log`` is of the x axis."""
    xs = [x for trace in traces for x in trace.x]
    ys = [y for trace in traces for y in (*trace.y, *trace.low, *trace.high)]
    axes = plot(Axis.around(x_label, xs, log=log), Axis.around(y_label, ys, zero), traces)
    _traces(axes, traces)
    return axes.picture


def spots(
    points: Sequence[Spot],
    x_label: str,
    y_label: str,
    traces: Sequence[Trace] = (),
    diagonal: bool = False,
    named: bool = False,
) -> Picture:
    """Points with their intervals."""
    xs = [p.x for p in points]
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    if diagonal:
        xs = ys = [*xs, *ys]
    axes = plot(Axis.around(x_label, xs), Axis.around(y_label, ys), traces)
    if diagonal:
        _diagonal(axes)
    _traces(axes, traces)
    few = len(points) <= 60
    for p in points:
        if p.low is not None and p.high is not None:
            ends = [axes.at(p.x, p.low), axes.at(p.x, p.high)]
            axes.picture.add(Line(ends, "mass", 1.2, opacity=0.45 if few else 0.2))
    for p in points:
        x, y = axes.at(p.x, p.y)
        axes.picture.add(Disc(x, y, 4.5 if few else 2.5, "mass", opacity=0.95 if few else 0.7))
        if named:
            _named(axes, x, y - 11, p.name, "ink")
    return axes.picture


def intervals(
    rows: Sequence[tuple[str, Sequence[Spot]]], x_label: str, width: float = WIDTH
) -> Picture:
    """For each row values on one scale: filled where measured, hollow where not.

    Args:
        rows: a name and its values, whose ``name`` is what kind of number they are; ``x`` is the
            value, ``low`` and ``high`` its interval.
        x_label: of the scale.
        width: of the picture.
    """
    longest = max((text_width(name) for name, _ in rows), default=0.0)
    left = min(0.38 * width, longest + 24)
    count = sum(max(1, len(values)) for _, values in rows)
    height = TOP + ROW * count + BOTTOM
    picture = Picture(width, height)
    ends = [v for _, values in rows for s in values for v in (s.x, s.low, s.high) if v is not None]
    axis = Axis(x_label, 0.0, 1.08 * max([*ends, 1e-9]))
    note_width = 92.0

    def at(value: float) -> float:
        return left + (width - RIGHT - note_width - left) * value / axis.high

    floor = height - BOTTOM
    for tick in axis.ticks():
        picture.add(
            Line([(at(tick), TOP), (at(tick), floor)], "grid", 1),
            Label(at(tick), floor + 17, short_number(tick), colour="muted"),
        )
    picture.add(Label((left + width - RIGHT - note_width) / 2, height - 12, x_label))
    y = TOP + ROW / 2
    for name, values in rows:
        picture.add(Label(left - 12, y, _cut(name, left - 20), anchor="end"))
        for spot in values:
            colour = "series4" if spot.name == "measured" else "series1"
            picture.add(Line([(left, y), (at(spot.x), y)], colour, 3, opacity=0.25))
            if spot.low is not None and spot.high is not None:
                picture.add(Line([(at(max(0, spot.low)), y), (at(spot.high), y)], colour, 2))
            fill = colour if spot.name == "measured" else "paper"
            picture.add(
                Disc(at(spot.x), y, 5, fill, outline=colour),
                Label(width - RIGHT - note_width + 8, y, spot.name, size=12, colour=colour,
                      anchor="start"),
            )  # fmt: skip
            y += ROW
        if not values:
            y += ROW
    return picture


def _cut(text: str, width: float) -> str:
    letters = max(4, int(width / text_width("x")))
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _diagonal(axes: Plot) -> None:
    low, high = max(axes.x.low, axes.y.low), min(axes.x.high, axes.y.high)
    if high > low:
        ends = [axes.at(low, low), axes.at(high, high)]
        axes.picture.add(Line(ends, "muted", 1.2, dashed=True))


def _traces(axes: Plot, traces: Sequence[Trace]) -> None:
    for number, trace in enumerate(traces):
        alone = len(traces) == 1 and not trace.name
        colour = "mass" if alone else series_colour(number)
        if trace.low:
            around = [axes.at(*p) for p in zip(trace.x, trace.low, strict=True)]
            around += [axes.at(*p) for p in zip(trace.x, trace.high, strict=True)][::-1]
            axes.picture.add(Shape(around, colour, 0.18))
        way = [axes.at(*p) for p in zip(trace.x, trace.y, strict=True)]
        if len(way) > 1:
            axes.picture.add(Line(way, colour, 2, dashed=trace.dashed))
        if trace.points or len(way) == 1:
            axes.picture.add(*(Disc(px, py, 3.5, colour) for px, py in way))
