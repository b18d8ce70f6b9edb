"""Fronts of accuracy and latency on NAS-Bench-201's real devices, against the exact ones.

    python benchmarks/fronts.py --data ../shared/data --out benchmarks/results/DATE-fronts.json
    python benchmarks/fronts.py --data ../shared/data --accuracies a.parquet b.parquet --out ...

Judge: for each of the table's devices, 24 cells at their true latency and true CIFAR-100 error.
Cells of 90 % error or more are dropped, both axes are min-max normalised over the others, and the
hypervolume to (1, 1) is divided by that of the exact front. Latencies are the table's, or predicted
by default LPMs from ten random cells of the device. ``--accuracies`` are files with the columns
``arch_id`` and ``accuracy_percent`` (one a supernet): an accuracy LPM is fitted to each. Without
them the accuracies are the true ones, or an *oracle*'s: an LPM of K true accuracies, which shows
what the fit costs when the accuracies are right. Controls: random cells; cells of most convolution
weights for their latency; the exact fronts of other devices. ``limits``: whether a hard limit is
kept that was asked for with a probability, by LPMs from 50 cells. Prints a summary to stderr.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

from latkit.core.device import cpu_name
from latkit.core.errors import InputError
from latkit.core.quantities import ACCURACY, LATENCY
from latkit.core.version import __version__
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.threads import one_thread
from latkit.lpm.training import fit
from latkit.search.objectives import Objective, PredictedBound, PredictedObjective, evaluate
from latkit.search.retarget import Limit, most_accurate, pareto_front
from latkit.search.retarget.indicators import gd_plus, hypervolume, igd_plus, nondominated
from latkit.spaces import get_preset, get_space

Numbers = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]

CELLS = 24
WORST_ERROR = 90.0
EQUAL_ACCURACY = 72.0
MEASURED, MEASURED_FOR_LIMITS = 10, 50
ORACLE_SIZES = (100, 300, 1000)
LIMITS, CONFIDENCE = 10, 0.9
RANDOM_DRAWS = 100
SPACE, SETTING = get_space("nasbench201"), get_preset("nasbench201")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Tabulated(Objective):
    """A number of each cell that is known already, by identifier."""

    def __init__(self, quantity: str, unit: str, values: Numbers) -> None:
        self.quantity, self.unit, self._values = quantity, unit, torch.tensor(values)

    def __call__(self, encodings: Tensor) -> Tensor:
        return self._values[torch.from_numpy(SPACE.rank(SPACE.decode(encodings.numpy())))]


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


# --- where accuracies and latencies come from ------------------------------------------------


def encodings(cells: Cells) -> Numbers:
    return SPACE.encode(SPACE.unrank(cells)).astype(np.float64)


def learnt(cells: Cells, values: Numbers, quantity: str, seed: int) -> PredictedObjective:
    """A default LPM of some cells' values."""
    rows = Rows(SPACE, SETTING, encodings(cells), values, quantity)
    return PredictedObjective(fit(rows, Recipe(quantity=quantity, seed=seed)), quantity)


def everywhere(objective: Objective) -> Tabulated:
    """Evaluated once for all cells: the accuracies are the same for every device."""
    values = evaluate(SPACE, objective, SPACE.unrank(np.arange(SPACE.size)))
    return Tabulated(objective.quantity, objective.unit, values)


def some(n: int, seed: int) -> Cells:
    return np.random.default_rng(seed).permutation(SPACE.size)[:n]


def true_accuracy(table: Table) -> Tabulated:
    return Tabulated(ACCURACY, "%", table.accuracy)


def oracle(table: Table, n: int, seed: int) -> Tabulated:
    """What an LPM of the true accuracies of ``n`` random cells predicts."""
    cells = some(n, 1000 + seed)
    return everywhere(learnt(cells, table.accuracy[cells], ACCURACY, seed))


def from_file(path: Path) -> Tabulated:
    """What an LPM of a file's accuracies predicts."""
    rows = pq.read_table(path)
    values = rows["accuracy_percent"].to_numpy()
    return everywhere(learnt(rows["arch_id"].to_numpy(), values, ACCURACY, 0))


# --- which cells ------------------------------------------------------------------------------


def retargeted(accuracy: Objective, latency: Objective) -> Cells:
    """Of the predicted front, so many cells spread over it."""
    return SPACE.rank(pareto_front(SPACE, accuracy, [latency]).spread(CELLS).rows)


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


# --- columns ----------------------------------------------------------------------------------

# From a device and a seed to its cells.
Column = Callable[[str, int], Cells]


def column(judges: dict[str, Judge], cells_of: Column, seeds: int) -> dict[str, Any]:
    """A column's measures: of each device the mean over seeds, and over devices."""
    devices: dict[str, dict[str, float | None]] = {}
    for device, judge in judges.items():
        started = time.process_time()
        sets = [cells_of(device, seed) for seed in range(seeds)]
        seconds = (time.process_time() - started) / seeds
        found = [judge.describe(cells) for cells in sets]
        devices[device] = {name: mean(row[name] for row in found) for name in found[0]}
        equal = [row["slowdown_at_equal_accuracy"] is not None for row in found]
        devices[device] |= {"equal_accuracy_found": mean(equal), "cpu_seconds": seconds}
    measures = next(iter(devices.values()))
    return {
        "seeds": seeds,
        "mean": {name: mean(row[name] for row in devices.values()) for name in measures},
        "least_share": min(float(row["share"] or 0) for row in devices.values()),
        "devices": devices,
    }


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that there are; None: of none."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def controls(judges: dict[str, Judge]) -> dict[str, Any]:
    """Columns that need no supernet and no LPM."""

    def random(device: str, seed: int) -> Cells:
        return np.random.default_rng(seed).choice(judges[device].kept, CELLS, replace=False)

    def from_other(device: str, seed: int) -> Cells:
        others = [name for name in judges if name != device]
        return judges[others[seed]].exact

    def from_best_other(device: str, seed: int) -> Cells:
        others = [judges[name].exact for name in judges if name != device]
        return max(others, key=judges[device].share)

    result = {
        "random 24 cells": column(judges, random, RANDOM_DRAWS),
        "exact front of the best other device": column(judges, from_best_other, 1),
        "exact fronts of other devices": column(judges, from_other, len(judges) - 1),
        "exact front": column(judges, lambda device, _: judges[device].exact, 1),
    }
    for ties in TIES:
        name = f"most convolution weights per latency, ties: {ties}"
        draws = RANDOM_DRAWS // 5 if ties == "random" else 1
        result[name] = column(
            judges, lambda device, seed, ties=ties: by_weights(judges[device], ties, seed), draws
        )
    return result


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


def predicted_latencies(
    table: Table, cells: int, seeds: int
) -> tuple[dict[str, list[PredictedObjective]], float]:
    """Of each device, LPMs of ``cells`` random cells, one a seed; and the CPU seconds of one."""
    started = time.process_time()
    lpms = {}
    for device, latency in table.latency.items():
        measured = [some(cells, seed) for seed in range(seeds)]
        lpms[device] = [
            learnt(ids, latency[ids], LATENCY, seed) for seed, ids in enumerate(measured)
        ]
    return lpms, (time.process_time() - started) / (seeds * len(lpms))


def retargets(
    table: Table,
    judges: dict[str, Judge],
    accuracies: dict[str, Sequence[Tabulated]],
    lpms: dict[str, list[PredictedObjective]],
) -> dict[str, Any]:
    """Fronts by each source of accuracies, with true latencies and with LPMs.

    Args:
        accuracies: one objective a seed; where there are fewer than LPMs, they take turns.
        lpms: of each device, one a seed.
    """
    result = {}
    seeds = len(next(iter(lpms.values())))
    true = {name: Tabulated(LATENCY, "ms", ms) for name, ms in table.latency.items()}
    for name, objectives in accuracies.items():

        def known(device: str, seed: int, of: Sequence[Tabulated] = objectives) -> Cells:
            return retargeted(of[seed], true[device])

        def predicted(device: str, seed: int, of: Sequence[Tabulated] = objectives) -> Cells:
            return retargeted(of[seed % len(of)], lpms[device][seed])

        result[f"{name}, true latencies"] = column(judges, known, len(objectives))
        result[f"{name}, LPMs from {MEASURED} cells"] = column(judges, predicted, seeds)
    return result


def limits(
    judges: dict[str, Judge], accuracy: Objective, bounds: dict[str, Objective]
) -> dict[str, float]:
    """Whether limits are kept: the most accurate cell within each, by what is predicted.

    The limits of a device divide the range of its exact front into equal parts.

    Args:
        judges: of the devices.
        accuracy: what is maximised.
        bounds: of each device, what is to be within the limit.
    """
    exceeded, slack, refused = [], [], 0
    for device, judge in judges.items():
        bound = everywhere(bounds[device])
        ends = judge.latency[judge.exact]
        for part in (np.arange(LIMITS) + 0.5) / LIMITS:
            limit = float(ends.min() + part * (ends.max() - ends.min()))
            try:
                chosen = most_accurate(SPACE, accuracy, [Limit(device, bound, limit)])
            except InputError:
                refused += 1
                continue
            true = float(judge.latency[SPACE.rank(chosen.row)[0]])
            exceeded.append(true > limit)
            slack.append(1 - true / limit)
    return {
        "cases": len(exceeded),
        "refused": refused,
        "exceeded_percent": 100 * float(np.mean(exceeded)),
        "mean_slack_percent": 100 * float(np.mean(slack)),
    }


def kept_limits(table: Table, judges: dict[str, Judge], seeds: int) -> dict[str, Any]:
    """:func:`limits` with the true accuracies, with and without a confidence, over seeds."""
    lpms, _ = predicted_latencies(table, MEASURED_FOR_LIMITS, seeds)
    result: dict[str, Any] = {
        "limits_per_device": LIMITS,
        "measurements_per_lpm": MEASURED_FOR_LIMITS,
        "accuracies": "true",
    }
    for name, confidence in ((f"confidence {CONFIDENCE}", CONFIDENCE), ("no confidence", None)):
        runs = []
        for seed in range(seeds):
            bounds: dict[str, Objective] = {
                device: of[seed] if confidence is None else PredictedBound(of[seed], confidence)
                for device, of in lpms.items()
            }
            runs.append(limits(judges, true_accuracy(table), bounds))
        result[name] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        result[name]["exceeded_percent_by_seed"] = [run["exceeded_percent"] for run in runs]
    return result


@one_thread()
def run(table: Table, files: Sequence[Path], sizes: Sequence[int], seeds: int) -> dict[str, Any]:
    """All columns, and whether limits are kept."""
    judges = {name: Judge(table.accuracy, ms) for name, ms in table.latency.items()}
    columns = controls(judges)
    started = time.process_time()
    accuracies: dict[str, Sequence[Tabulated]] = {"true accuracies": [true_accuracy(table)]}
    for n in sizes:
        name = f"oracle: accuracy LPM of {n} true accuracies"
        accuracies[name] = [oracle(table, n, seed) for seed in range(seeds)]
    if files:
        accuracies["accuracy LPM"] = [from_file(path) for path in files]
    seconds = (time.process_time() - started) / max(1, seeds * len(sizes) + len(files))
    lpms, latency_seconds = predicted_latencies(table, MEASURED, max(seeds, len(files)))
    columns |= retargets(table, judges, accuracies, lpms)
    for name, measures in columns.items():
        say(f"{measures['mean']['share']:.4f} (least {measures['least_share']:.4f})  {name}")
    return {
        "cpu_seconds": {"an accuracy LPM": seconds, "a latency LPM": latency_seconds},
        "device_blind_slowdown": device_blind(judges),
        "columns": columns,
        "limits": kept_limits(table, judges, seeds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of nasbench201/")
    parser.add_argument("--accuracies", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.data / "nasbench201"
    if not (folder / "accuracy.parquet").exists():
        raise SystemExit(f"{folder} has no tables: nothing was judged")
    table = Table.read(folder)
    content = {
        "benchmark": "fronts",
        "date": date.today().isoformat(),
        "command": " ".join(["python", "benchmarks/fronts.py", *sys.argv[1:]]),
        "latkit_version": __version__,
        "cpu": cpu_name(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "moocore": version("moocore"),
        "protocol": {
            "cells_per_device": CELLS,
            "cells_dropped_from_error_percent": WORST_ERROR,
            "reference": [1, 1],
            "axes": "latency and CIFAR-100 test error, min-max normalised",
            "measurements_per_lpm": MEASURED,
        },
        **run(table, arguments.accuracies, ORACLE_SIZES, arguments.seeds),
    }
    arguments.out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    say(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
