"""Binned numbers: what a page shows of a hundred thousand rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latkit.reports.figures.charts import Hexagon

FloatArray = npt.NDArray[np.float64]

# Fewer where there are few points.
LEAST_ACROSS, MOST_ACROSS = 24, 40
# MACs are called equal that differ by at most this share; smaller groups have no extremes.
EQUAL_SHARE = 0.02
FEWEST_AT_EQUAL = 5


def hexagons(x: FloatArray, y: FloatArray) -> tuple[tuple[Hexagon, ...], tuple[float, float]]:
    """Counts of points in hexagons, and half the width and height of one.

    Args:
        x, y: ``n`` numbers each.
    """
    count = int(np.clip(1.5 * len(x) ** 0.5, LEAST_ACROSS, MOST_ACROSS))
    across = (float(np.ptp(x)) or abs(float(x[0])) or 1.0) / (2 * count)
    # As high as they are wide on a picture that is 5 wide and 3 high.
    up = (float(np.ptp(y)) or abs(float(y[0])) or 1.0) / (2 * count) * (5 / 3)
    # Two lattices of rectangles, whose middles together are those of the hexagons.
    columns, rows = (x - x.min()) / (2 * across), (y - y.min()) / (3 * up)
    even = np.stack([np.rint(columns), np.rint(rows)])
    odd = np.stack([np.floor(columns) + 0.5, np.floor(rows) + 0.5])
    away = [(columns - c) ** 2 + 3 * (rows - r) ** 2 for c, r in (even, odd)]
    middles, counts = np.unique(np.where(away[0] <= away[1], even, odd), axis=1, return_counts=True)
    found = tuple(
        Hexagon(float(x.min() + 2 * across * c), float(y.min() + 3 * up * r), int(count))
        for c, r, count in zip(*middles, counts, strict=True)
    )
    return found, (across, up)


@dataclass(frozen=True)
class EqualMacs:
    """Architectures of about the same MACs.

    Attributes:
        macs: their median.
        architectures: how many.
        fastest_ms, median_ms, slowest_ms: of their latencies.
    """

    macs: float
    architectures: int
    fastest_ms: float
    median_ms: float
    slowest_ms: float

    @property
    def below_slowest_percent(self) -> float:
        """By how much the fastest is faster than the slowest."""
        return 100 * (1 - self.fastest_ms / self.slowest_ms)

    @property
    def below_median_percent(self) -> float:
        """By how much the fastest is faster than the median."""
        return 100 * (1 - self.fastest_ms / self.median_ms)


def at_equal_macs(macs: FloatArray, latency_ms: FloatArray) -> tuple[EqualMacs, ...]:
    """Groups of at least ``FEWEST_AT_EQUAL`` architectures of equal MACs, by rising MACs.

    Their MACs differ by at most ``EQUAL_SHARE`` (the paper's Figure 2 at one place of its x axis).

    Args:
        macs, latency_ms: ``n`` numbers each.
    """
    group = np.floor(np.log(np.maximum(macs, 1.0)) / np.log1p(EQUAL_SHARE)).astype(np.int64)
    order = np.lexsort((latency_ms, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=group[order[0]] - 1))
    groups = []
    for rows in np.split(order, starts[1:]):
        if len(rows) >= FEWEST_AT_EQUAL:
            times = latency_ms[rows]  # rising
            groups.append(
                EqualMacs(
                    macs=float(np.median(macs[rows])),
                    architectures=len(rows),
                    fastest_ms=float(times[0]),
                    median_ms=float(np.median(times)),
                    slowest_ms=float(times[-1]),
                )
            )
    return tuple(groups)


@dataclass(frozen=True)
class Strip:
    """Of the points of a stretch of x: its middle, how many, and statistics of y."""

    x: float
    count: int
    mean: float


def strips(x: FloatArray, y: FloatArray, count: int = 24) -> tuple[Strip, ...]:
    """Means of y over stretches of equally many points, by rising x."""
    order = np.argsort(x, kind="stable")
    return tuple(
        Strip(float(x[rows].mean()), len(rows), float(y[rows].mean()))
        for rows in np.array_split(order, min(count, len(order)))
    )
