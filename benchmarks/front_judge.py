"""The judge of ``fronts.py``: true accuracies and latencies of NAS-Bench-201, and controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from latkit.search.retarget.indicators import gd_plus, hypervolume, igd_plus, nondominated
from latkit.spaces import get_space

Numbers = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]

SPACE = get_space("nasbench201")
CELLS = 24
WORST_ERROR = 90.0
EQUAL_ACCURACY = 72.0


@dataclass(frozen=True)
class Table:
    """True accuracies in percent and true latencies in ms by device, each by identifier."""

    accuracy: Numbers
    latency: dict[str, Numbers]

    @classmethod
    def read(cls, folder: Path) -> Table:
        """The tables ``accuracy.parquet`` and ``latency.parquet`` of a folder."""

        def columns(name: str, suffix: str) -> dict[str, Numbers]:
            table = pq.read_table(folder / name)
            some = range(0, SPACE.size, 97)
            texts = [SPACE.format(row) for row in SPACE.unrank(list(some))]
            if len(table) != SPACE.size or texts != table["arch"].take(list(some)).to_pylist():
                raise SystemExit(f"{folder / name} does not have the cells by identifier")
            return {
                column.removesuffix(suffix): table[column].to_numpy()
                for column in table.column_names
                if column.endswith(suffix)
            }

        (accuracy,) = columns("accuracy.parquet", "_accuracy_percent").values()
        return cls(accuracy, columns("latency.parquet", "_ms"))


class Judge:
    """How good cells are on one device, by their true accuracies and latencies."""

    def __init__(self, accuracy: Numbers, latency: Numbers) -> None:
        self.accuracy, self.latency = accuracy, latency
        self.kept = np.flatnonzero(100 - accuracy < WORST_ERROR)
        axes = np.column_stack([latency, 100 - accuracy])
        low, high = axes[self.kept].min(0), axes[self.kept].max(0)
        self._points = (axes - low) / (high - low)
        self.exact = self.kept[nondominated(self._points[self.kept])]
        self._reference = np.ones(2)
        self._whole = hypervolume(self._points[self.exact], self._reference)

    def share(self, cells: Cells) -> float:
        """The cells' share of the exact front's hypervolume."""
        return hypervolume(self._points[cells], self._reference) / self._whole

    def fastest(self, cells: Cells, accuracy: float) -> int | None:
        """The fastest of the cells that are at least so accurate; None: none is."""
        enough = cells[self.accuracy[cells] >= accuracy]
        return int(enough[self.latency[enough].argmin()]) if len(enough) else None

    def slowdown(self, cell: int) -> float:
        """A cell's latency over that of the device's fastest cell that is as accurate."""
        best = self.fastest(self.kept, self.accuracy[cell])
        assert best is not None
        return float(self.latency[cell] / self.latency[best])

    def describe(self, cells: Cells) -> dict[str, float | None]:
        """All measures of a set of cells; those of the dropped cells count for nothing."""
        cells = np.intersect1d(cells, self.kept)
        if not len(cells):
            nothing = ("gd_plus", "igd_plus", "slowdown", "slowdown_at_equal_accuracy")
            return {"share": 0.0, "cells": 0.0, **dict.fromkeys(nothing)}
        points, exact = self._points[cells], self._points[self.exact]
        best = cells[nondominated(points)]
        equal = self.fastest(cells, EQUAL_ACCURACY)
        own = self.fastest(self.kept, EQUAL_ACCURACY)
        return {
            "share": self.share(cells),
            "cells": float(len(cells)),
            "gd_plus": gd_plus(points, exact),
            "igd_plus": igd_plus(points, exact),
            "slowdown": float(np.mean([self.slowdown(cell) for cell in best.tolist()])),
            "slowdown_at_equal_accuracy": None
            if equal is None or own is None
            else float(self.latency[equal] / self.latency[own]),
        }


def device_blind(judges: dict[str, Judge]) -> dict[str, float]:
    """How much slower other devices' fastest cell of an accuracy is than a device's own."""
    own = {name: judge.fastest(judge.kept, EQUAL_ACCURACY) for name, judge in judges.items()}
    if None in own.values():
        raise SystemExit(f"no cell has an accuracy of {EQUAL_ACCURACY} %")
    times = [
        float(judge.latency[own[other]] / judge.latency[own[device]])
        for device, judge in judges.items()
        for other in judges
        if other != device
    ]
    return {
        "accuracy_percent": EQUAL_ACCURACY,
        "mean": float(np.mean(times)),
        "median": float(np.median(times)),
        "max": max(times),
    }


def convolution_weights() -> Numbers:
    """Of each cell, in units of one 1x1 convolution."""
    matrix = SPACE.unrank(np.arange(SPACE.size))
    size = {"nor_conv_1x1": 1.0, "nor_conv_3x3": 9.0}
    return np.array([size.get(name, 0.0) for name in SPACE.operations])[matrix].sum(1)


def by_weights(judge: Judge, ties: str, seed: int = 0) -> Cells:
    """Cells of most convolution weights within latency budgets; accuracies are not looked at.

    Args:
        judge: of the device.
        ties: which of several cells of most weights: the ``fastest``, the ``slowest``, the
            ``first`` by identifier, a ``random`` one; or ``front``, where there are no budgets: of
            each number of weights the fastest cell, unless more weights are as fast.
        seed: of the random ones.
    """
    weights, kept = convolution_weights()[judge.kept], judge.kept
    latency = judge.latency[kept]
    if ties == "front":
        front = np.flatnonzero(nondominated(np.column_stack([latency, -weights])))
        front = front[np.argsort(latency[front])]
        return kept[front[np.linspace(0, len(front) - 1, min(CELLS, len(front))).astype(int)]]
    random = np.random.default_rng(seed)
    cells = []
    for budget in np.linspace(latency.min(), latency.max(), CELLS):
        within = np.flatnonzero(latency <= budget)
        most = within[weights[within] == weights[within].max()]
        if ties == "random":
            cells.append(int(random.choice(most)))
        elif ties == "first":
            cells.append(int(most[0]))
        else:
            order = latency[most] if ties == "fastest" else -latency[most]
            cells.append(int(most[order.argmin()]))
    return kept[np.unique(cells)]


TIES = ("front", "fastest", "slowest", "first", "random")
