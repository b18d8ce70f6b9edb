"""What a report is made of: sections of texts, tables and figures, all of them numbers still."""

from __future__ import annotations

import csv
import io
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from latkit.reports.figures import charts
from latkit.reports.figures.cells import Shares, graph_picture
from latkit.reports.figures.charts import Hexagon, Spot, Trace
from latkit.reports.figures.picture import Picture
from latkit.spaces.graph import Graph

# What a number is known from. ``counted`` ones follow from the architecture, as MACs do.
Evidence = Literal["measured", "predicted", "published", "simulated", "scaled down", "counted"]
Cell: TypeAlias = str | float | int | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: with the unit, where it has numbers.
        evidence: what its numbers are known from.
        digits: after the point; None: it has texts.
    """

    name: str
    evidence: tuple[Evidence, ...] = ()
    digits: int | None = None

    def show(self, value: Cell) -> str:
        """A cell as people read it."""
        if value is None:
            return "–"
        return value if isinstance(value, str) else f"{value:,.{self.digits or 0}f}"


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Attributes:
        shaded: whether numbers are shaded by how much they exceed the least of their column.
        folded: whether a page shows it only on demand.
        note: a line below it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shaded: bool = False
    folded: bool = False
    note: str = ""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What all of its numbers are known from, if that is the same."""
        kinds = {column.evidence for column in self.columns if column.evidence}
        return kinds.pop() if len(kinds) == 1 else ()

    def shade(self, row: int, column: int) -> int:
        """0 for the least of the column, up to 4 for far more; -1: not shaded."""
        value = self.rows[row][column]
        numbers = [r[column] for r in self.rows if isinstance(r[column], (int, float))]
        if not self.shaded or not column or isinstance(value, str) or value is None:
            return -1
        least = min(float(number) for number in numbers if number is not None)
        if value == least:
            return 0
        return (min(4, int(8 * (float(value) / least - 1) + 0.5)) or -1) if least > 0 else -1

    def to_dict(self) -> dict[str, Any]:
        columns = [{"name": c.name, "evidence": list(c.evidence)} for c in self.columns]
        rows = [list(row) for row in self.rows]
        return {"type": "table", "title": self.title, "columns": columns, "rows": rows}


@dataclass(frozen=True)
class Remark:
    """A sentence; one that nobody should miss has ``warns``."""

    text: str
    evidence: tuple[Evidence, ...] = ()
    warns: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"type": "remark", **vars(self), "evidence": list(self.evidence)}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure; its data are the rows of :meth:`data`.

    Attributes:
        title: what it shows.
        description: what there is to see in it, for those who cannot.
        evidence: what its numbers are known from.
        caption: below it; None: the description.
    """

    title: str
    description: str
    evidence: tuple[Evidence, ...]
    caption: str | None = None

    @abstractmethod
    def picture(self) -> Picture:
        """It, drawn."""

    @abstractmethod
    def data(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        """Names of columns, and rows."""

    def csv(self) -> str:
        """The data as comma-separated values."""
        columns, rows = self.data()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([["" if c is None else _rounded(c) for c in row] for row in rows])
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        columns, rows = self.data()
        return {
            "type": "figure",
            "title": self.title,
            "description": self.description,
            "evidence": list(self.evidence),
            "columns": list(columns),
            "rows": [list(row) for row in rows],
        }


def _rounded(value: Cell) -> Cell:
    return float(f"{value:.6g}") if isinstance(value, float) else value


@dataclass(frozen=True, kw_only=True)
class HistogramFigure(Figure):
    """How many architectures have which value; ``marks`` are named values."""

    label: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    marks: tuple[tuple[str, float], ...] = ()

    def picture(self) -> Picture:
        return charts.histogram(self.edges, self.counts, self.label, self.marks)

    def data(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        rows = zip(self.edges, self.edges[1:], self.counts, strict=False)
        return ("from", "to", "architectures"), [tuple(row) for row in rows]


@dataclass(frozen=True, kw_only=True)
class DensityFigure(Figure):
    """How many points there are in the hexagons of a plane, with lines on it."""

    x_label: str
    y_label: str
    hexagons: tuple[Hexagon, ...]
    size: tuple[float, float]
    traces: tuple[Trace, ...] = ()
    diagonal: bool = False

    def picture(self) -> Picture:
        return charts.density(
            self.hexagons, self.size, self.x_label, self.y_label, self.traces, self.diagonal
        )

    def data(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        return (self.x_label, self.y_label, "points"), [(h.x, h.y, h.count) for h in self.hexagons]


@dataclass(frozen=True, kw_only=True)
class LinesFigure(Figure):
    """Lines, each with its band; ``zero`` is of the y axis, ``log`` of the x axis."""

    x_label: str
    y_label: str
    traces: tuple[Trace, ...]
    zero: bool = False
    log: bool = False

    def picture(self) -> Picture:
        return charts.lines(self.traces, self.x_label, self.y_label, self.zero, self.log)

    def data(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        rows: list[tuple[Cell, ...]] = []
        for trace in self.traces:
            for i, (x, y) in enumerate(zip(trace.x, trace.y, strict=True)):
                band = (trace.low[i], trace.high[i]) if trace.low else (None, None)
                rows.append((trace.name, x, y, *band))
        return ("line", self.x_label, self.y_label, "low", "high"), rows


@dataclass(frozen=True, kw_only=True)
class SpotsFigure(Figure):
    """Points with their intervals, with lines below them."""

    x_label: str
    y_label: str
    spots: tuple[Spot, ...]
    traces: tuple[Trace, ...] = ()
    diagonal: bool = False
    named: bool = False

    def picture(self) -> Picture:
        return charts.spots(
            self.spots, self.x_label, self.y_label, self.traces, self.diagonal, self.named
        )

    def data(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        return ("name", self.x_label, self.y_label, "low", "high"), [
            (s.name, s.x, s.y, s.low, s.high) for s in self.spots
        ]


@dataclass(frozen=True, kw_only=True)
class IntervalsFigure(Figure):
    """Values with their intervals, row by row; ``name`` of a spot says what it is known from."""

    x_label: str
    rows: tuple[tuple[str, tuple[Spot, ...]], ...]
    width: float = charts.WIDTH

    def picture(self) -> Picture:
        return charts.intervals(self.rows, self.x_label, self.width)

    def data(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        return ("of", "known from", self.x_label, "low", "high"), [
            (name, s.name, s.x, s.low, s.high) for name, spots in self.rows for s in spots
        ]


@dataclass(frozen=True, kw_only=True)
class CellFigure(Figure):
    """A drawn architecture's cell; ``shares`` are of the prediction, by the space's edges."""

    graph: Graph
    shares: Shares | None = None

    def picture(self) -> Picture:
        return graph_picture(self.graph, self.shares, titled=False)

    def data(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        nodes, shares = self.graph.nodes, self.shares or {}
        return ("from", "to", "operation", "share"), [
            (
                nodes[link.source],
                nodes[link.target],
                link.operation or "as it is",
                None if link.edge is None else shares.get(link.edge),
            )
            for link in self.graph.links
        ]


Block: TypeAlias = Table | Remark | Figure


@dataclass(frozen=True)
class Section:
    """A part of a report under a heading.

    Attributes:
        key: of its heading, for links.
        title: the heading.
        blocks: what is in it.
    """

    key: str
    title: str
    blocks: tuple[Block, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "title": self.title,
            "blocks": [block.to_dict() for block in self.blocks],
        }


@dataclass(frozen=True)
class Number:
    """A number of the first screen; ``spread`` is half the width of its interval."""

    label: str
    value: float
    unit: str
    evidence: tuple[Evidence, ...]
    spread: float | None = None
    digits: int = 2

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "evidence": list(self.evidence)}


@dataclass(frozen=True)
class Headline:
    """What is best for a device, and how sure that is.

    Attributes:
        device: it and the backend.
        best: a sentence.
        numbers: the few that matter.
        confidence: in one word.
        reasons: for that, the sentences of "how sure".
        figure: the numbers beside each other.
    """

    device: str
    best: str
    numbers: tuple[Number, ...]
    confidence: Literal["high", "fair", "low"]
    reasons: tuple[Remark, ...]
    figure: Figure | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "best": self.best,
            "numbers": [number.to_dict() for number in self.numbers],
            "confidence": self.confidence,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "figure": None if self.figure is None else self.figure.to_dict(),
        }


def with_evidence(base: Evidence, *more: Evidence | None) -> tuple[Evidence, ...]:
    """What numbers are known from, without what does not apply."""
    return (base, *(one for one in more if one is not None))
