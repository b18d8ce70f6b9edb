"""Fronts of accuracy and latency on NAS-Bench-201's real devices, against the exact ones.

    python benchmarks/fronts.py --data ../shared/data --out benchmarks/results/DATE-fronts.json
    python benchmarks/fronts.py --data ../shared/data --supernets a b c \\
        --searches sweep.json hypernetwork.json --out ...

Judge: for each of the table's devices, 24 cells at their true latency and true CIFAR-100 error.
Cells of 90 % error or more are dropped, both axes are min-max normalised over the others, and the
hypervolume to (1, 1) is divided by that of the exact front. Latencies are the table's, or predicted
by default LPMs from ten random cells of the device, alone or with a transfer prior of the other
devices (900 cells each). Accuracies are those of the accuracy LPMs of ``--supernets``, folders of
one-shot searches; the true ones; or an *oracle*'s: an LPM of K true accuracies, which shows what
the fit costs when the accuracies are right. Controls: random cells; cells of most convolution
weights for their latency; the exact fronts of other devices; what the files ``--searches`` of
``front_searches.py`` hold. ``costs`` compares the passes of supernets over images with those of
these searches. ``limits``: whether a hard limit is kept that
was asked for with a probability, by LPMs from 50 cells. Prints a summary to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from benchmarks.front_costs import Found, account
from benchmarks.front_judge import (
    CELLS,
    SPACE,
    TIES,
    WORST_ERROR,
    Cells,
    Judge,
    Table,
    by_weights,
    device_blind,
)
from benchmarks.front_lpms import (
    MEASURED,
    SOURCE_MEASURED,
    LPMs,
    Tabulated,
    everywhere,
    learnt,
    of_supernet,
    oracle,
    predicted_latencies,
    some,
    transfer_priors,
    true_accuracy,
)
from latkit.core.errors import InputError
from latkit.core.quantities import LATENCY
from latkit.lpm.threads import one_thread
from latkit.search.objectives import Objective, PredictedBound
from latkit.search.retarget import Limit, most_accurate, pareto_front

MEASURED_FOR_LIMITS = 50
ORACLE_SIZES = (100, 300, 1000)
LIMITS, CONFIDENCE = 10, 0.9
RANDOM_DRAWS = 100


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- which cells ------------------------------------------------------------------------------


def retargeted(accuracy: Objective, latency: Objective) -> Cells:
    """Of the predicted front, so many cells spread over it."""
    return SPACE.rank(pareto_front(SPACE, accuracy, [latency]).spread(CELLS).rows)


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


def searched(judges: dict[str, Judge], found: Sequence[Found]) -> dict[str, Any]:
    """Columns of searches that were done before, whose CPU seconds are among the ``costs``."""
    result = {}
    for columns in (each.columns for each in found):
        for name, cells in columns.items():
            if set(cells) != set(judges):
                raise SystemExit(f"the searches of {name!r} are not of all devices of the table")
            result[name] = column(judges, lambda device, _, cells=cells: cells[device], 1)
            for measures in (result[name]["mean"], *result[name]["devices"].values()):
                del measures["cpu_seconds"]
    return result


def retargets(
    table: Table,
    judges: dict[str, Judge],
    accuracies: Mapping[str, Sequence[Tabulated]],
    latencies: dict[str, LPMs],
) -> dict[str, Any]:
    """Fronts by each source of accuracies, with true latencies and with LPMs.

    Args:
        table: of all devices.
        judges: of the devices.
        accuracies: by source, one objective a seed; where there are fewer than LPMs, they take
            turns.
        latencies: by source, of each device one LPM a seed.
    """
    result = {}
    true = {name: Tabulated(LATENCY, "ms", ms) for name, ms in table.latency.items()}
    for name, objectives in accuracies.items():

        def known(device: str, seed: int, of: Sequence[Tabulated] = objectives) -> Cells:
            return retargeted(of[seed], true[device])

        result[f"{name}, true latencies"] = column(judges, known, len(objectives))
        for source, lpms in latencies.items():

            def predicted(
                device: str,
                seed: int,
                of: Sequence[Tabulated] = objectives,
                lpms: LPMs = lpms,
            ) -> Cells:
                return retargeted(of[seed % len(of)], lpms[device][seed])

            seeds = len(next(iter(lpms.values())))
            result[f"{name}, {source}"] = column(judges, predicted, seeds)
    return result


def limits(
    judges: dict[str, Judge], accuracy: Objective, bounds: dict[str, Tabulated]
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
        ends = judge.latency[judge.exact]
        for part in (np.arange(LIMITS) + 0.5) / LIMITS:
            limit = float(ends.min() + part * (ends.max() - ends.min()))
            try:
                chosen = most_accurate(SPACE, accuracy, [Limit(device, bounds[device], limit)])
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


def kept_limits(
    table: Table,
    judges: dict[str, Judge],
    seeds: int,
    accuracies: Mapping[str, Sequence[Tabulated]],
) -> dict[str, Any]:
    """:func:`limits` by each source of accuracies, with and without a confidence, over seeds.

    Args:
        table: of all devices.
        judges: of the devices.
        seeds: how many LPMs of a device.
        accuracies: by source; where there are fewer than seeds, they take turns.
    """
    lpms, _ = predicted_latencies(table, MEASURED_FOR_LIMITS, seeds)
    result: dict[str, Any] = {
        "limits_per_device": LIMITS,
        "measurements_per_lpm": MEASURED_FOR_LIMITS,
    }
    for title, confidence in ((f"confidence {CONFIDENCE}", CONFIDENCE), ("no confidence", None)):
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in accuracies}
        for seed in range(seeds):
            bounds = {
                device: everywhere(
                    of[seed] if confidence is None else PredictedBound(of[seed], confidence)
                )
                for device, of in lpms.items()
            }
            for name, objectives in accuracies.items():
                accuracy = objectives[seed % len(objectives)]
                runs[name].append(limits(judges, accuracy, bounds))
        for name, of in runs.items():
            result.setdefault(name, {})[title] = {
                **{key: float(np.mean([run[key] for run in of])) for key in of[0]},
                "exceeded_percent_by_seed": [run["exceeded_percent"] for run in of],
            }
    return result


def retargeting(table: Table, accuracy: Objective) -> dict[str, float]:
    """CPU seconds of what a further device needs: its LPM from ten cells, and a front.

    Args:
        table: of all devices.
        accuracy: an LPM's, which predicts all cells for each device anew.
    """
    cells, seconds = some(MEASURED, 0), []
    for latency in table.latency.values():
        started = time.process_time()
        retargeted(accuracy, learnt(cells, latency[cells], LATENCY, 0))
        seconds.append(time.process_time() - started)
    return {"mean": float(np.mean(seconds)), "most": max(seconds)}


@one_thread()
def run(
    table: Table,
    supernets: Sequence[Path],
    sizes: Sequence[int],
    seeds: int,
    found: Sequence[Found] = (),
) -> dict[str, Any]:
    """All columns, whether limits are kept, and what it all costs."""
    judges = {name: Judge(table.accuracy, ms) for name, ms in table.latency.items()}
    columns = controls(judges) | searched(judges, found)
    started = time.process_time()
    lpms = {
        f"oracle: accuracy LPM of {n} true accuracies": [
            oracle(table, n, seed) for seed in range(seeds)
        ]
        for n in sizes
    }
    seconds = (time.process_time() - started) / max(1, seeds * len(sizes))
    if supernets:
        lpms["one-shot"] = [of_supernet(folder) for folder in supernets]
    accuracies = {
        "true accuracies": [true_accuracy(table)],
        **{name: [everywhere(lpm) for lpm in of] for name, of in lpms.items()},
    }
    times = max(seeds, len(supernets))
    alone, alone_seconds = predicted_latencies(table, MEASURED, times)
    priors = transfer_priors(table)
    with_prior, prior_seconds = predicted_latencies(table, MEASURED, times, priors)
    latencies = {
        f"LPMs from {MEASURED} cells": alone,
        f"LPMs from {MEASURED} cells and the other devices": with_prior,
    }
    columns |= retargets(table, judges, accuracies, latencies)
    for name, measures in columns.items():
        say(f"{measures['mean']['share']:.4f} (least {measures['least_share']:.4f})  {name}")
    by_lpm = [lpm for of in lpms.values() for lpm in of]
    return {
        "cpu_seconds": {
            "an accuracy LPM": seconds,
            "a latency LPM": alone_seconds,
            "a latency LPM with a transfer prior": prior_seconds,
            "retargeting to a device: LPM and front": retargeting(table, by_lpm[-1])
            if by_lpm
            else None,
        },
        "costs": account(found, supernets, len(judges)),
        "device_blind_slowdown": device_blind(judges),
        "columns": columns,
        "limits": kept_limits(table, judges, seeds, accuracies),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of nasbench201/")
    parser.add_argument("--supernets", type=Path, nargs="+", default=[], metavar="RUN")
    parser.add_argument("--searches", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.data / "nasbench201"
    if not (folder / "accuracy.parquet").exists():
        raise SystemExit(f"{folder} has no tables: nothing was judged")
    table = Table.read(folder)
    found = [Found.read(path) for path in arguments.searches]
    content = {
        **conditions("fronts"),
        "moocore": version("moocore"),
        "protocol": {
            "cells_per_device": CELLS,
            "cells_dropped_from_error_percent": WORST_ERROR,
            "reference": [1, 1],
            "axes": "latency and CIFAR-100 test error, min-max normalised",
            "measurements_per_lpm": MEASURED,
            "measurements_per_source_lpm": SOURCE_MEASURED,
        },
        **run(
            table,
            arguments.supernets,
            ORACLE_SIZES,
            arguments.seeds,
            found,
        ),
    }
    arguments.out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    say(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
