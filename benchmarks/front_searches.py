"""Searches whose fronts ``fronts.py`` judges: LA-DARTS over λ, and a hypernetwork for all devices.

    python benchmarks/front_searches.py sweep --data ../shared/data --out DATE-front-sweep.json
    python benchmarks/front_searches.py hypernetwork --data ../shared/data --out ...

Both search NAS-Bench-201 in the same supernet, scaled down: the preset ``cpu`` on CIFAR-10 scaled
to 16x16 pixels. Latencies are predicted by default LPMs from ten random cells of the device, those
of ``fronts.py``'s first seed; other latencies and the accuracies are not looked at.

``sweep``: a search by LA-DARTS for each device and each of ``WEIGHTS``, which are λ times the mean
of the ten measurements, as it means the same on any device. ``hypernetwork``: see
``front_hypernetwork.py``. A file is written after each search; the same command goes on after the
last one of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from benchmarks.front_costs import HYPERNETWORK, SWEEP, Passes
from benchmarks.front_hypernetwork import Device, Training
from benchmarks.front_judge import CELLS, SPACE, Table
from benchmarks.front_lpms import MEASURED, learnt, some
from benchmarks.fronts import say
from latkit.core.files import write_json_atomically
from latkit.core.quantities import LATENCY
from latkit.lpm.threads import one_thread
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.config import SearchConfig, preset
from latkit.search.data import DataOptions, load_data
from latkit.search.decode import log_weights, strongest
from latkit.search.epochs import SearchProgress
from latkit.search.image_source import ImageData
from latkit.search.objectives import PredictedObjective
from latkit.search.session import run_search
from latkit.search.supernet import get_supernet
from latkit.search.sweep import Search, plan_sweep

# Of the latency: λ times the mean of the measured cells. From there on all cells are the fastest.
WEIGHTS = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
# As many as make CELLS of all weights.
LAST_EPOCHS = CELLS // len(WEIGHTS)
RESOLUTION = 16
# Of the hypernetwork, which takes more steps than a search.
PREFERENCES = (0.0, *np.geomspace(WEIGHTS[1], WEIGHTS[-1], CELLS - 1).tolist())
IMAGES, EPOCHS = 8192, 60


class Kept:
    """A file of searches, each written when it has ended.

    Args:
        path: of the file; one of the same head is gone on with.
        head: what all of its searches have in common, as JSON.

    Raises:
        SystemExit: the file holds other searches.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self._path = path
        self._content = {**head, "searches": []}
        if path.exists():
            earlier = json.loads(path.read_text())
            if any(earlier.get(name) != head[name] for name in ("method", "scale")):
                raise SystemExit(f"{path} holds other searches: choose another --out")
            self._content = earlier

    def __contains__(self, name: str) -> bool:
        return any(search["name"] == name for search in self._content["searches"])

    def add(self, search: dict[str, Any]) -> None:
        self._content["searches"].append(search)
        write_json_atomically(self._path, self._content)


def predictors(table: Table, seed: int) -> dict[str, PredictedObjective]:
    """Of each device an LPM from its measured cells."""
    cells = some(MEASURED, seed)
    return {name: learnt(cells, ms[cells], LATENCY, seed) for name, ms in table.latency.items()}


# --- LA-DARTS over λ --------------------------------------------------------------------------


def searched(search: Search, latency: PredictedObjective, data: ImageData) -> dict[str, Any]:
    """One search: the cells after each of its epochs, one of few skips, and what they cost."""
    steps = 0

    def count(now: SearchProgress) -> None:
        nonlocal steps
        steps += 1

    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_search(
            search.config, SPACE, latency.lpm, "of the benchmark", data, Path(folder), on_step=count
        )
        alpha = load_file(Path(folder, CHECKPOINT))["supernet/alpha"]
    seconds = time.process_time() - started
    texts = [str(row["genotype"]) for row in outcome.history]
    return {
        "cells": SPACE.rank(np.concatenate([SPACE.parse(text) for text in texts])).tolist(),
        "guarded": guarded(alpha),
        "last_predicted_ms": outcome.predicted_ms,
        "last_val_accuracy": outcome.history[-1]["val_accuracy"],
        "passes": asdict(Passes(2 * steps, 0, 2 * steps * search.config.batch)),
        "cpu_seconds": seconds,
    }


def guarded(alpha: Tensor) -> int:
    """The strongest cell with so many skip connections that the search has not collapsed."""
    limit = get_supernet("darts", SPACE.name).most_skips
    return int(SPACE.rank(strongest(SPACE, log_weights(SPACE, alpha), limit)[None])[0])


def sweep(
    table: Table, config: SearchConfig, data: ImageData, kept: Kept, weights: Sequence[float]
) -> None:
    """A search for each device and weight, those that are not kept yet."""
    latencies = predictors(table, config.seed)
    title = f"LA-DARTS, {len(weights)} λ"
    for device, ms in table.latency.items():
        mean = float(ms[some(MEASURED, config.seed)].mean())
        searches = plan_sweep(config, "lambda", [weight / mean for weight in weights], SPACE.name)
        for weight, search in zip(weights, searches, strict=True):
            name = f"{device}, weight {weight:g}"
            if name in kept:
                continue
            facts = searched(search, latencies[device], data)
            cells, few_skips = facts.pop("cells"), facts.pop("guarded")
            columns = {
                title: cells[-1:],
                f"{title}, last {LAST_EPOCHS} epochs": cells[-LAST_EPOCHS:],
                f"{title}, few skip connections": [few_skips],
            }
            kept.add(
                {
                    "name": name,
                    "lambda_per_ms": search.config.lambda_per_ms,
                    "columns": {column: {device: found} for column, found in columns.items()},
                    **facts,
                }
            )
            say(f"{name}: {facts['last_predicted_ms']:.2f} ms, {facts['cpu_seconds']:.1f} s")


# --- the hypernetwork -------------------------------------------------------------------------


def hypernetwork(
    table: Table, config: SearchConfig, data: ImageData, kept: Kept, weights: Sequence[float]
) -> None:
    """One training for all devices and weights, if it is not kept yet."""
    name = "all devices"
    if name in kept:
        return
    started = time.process_time()
    measured = some(MEASURED, config.seed)
    latencies = predictors(table, config.seed)
    devices = {
        device: Device.of(ms[measured], latencies[device]) for device, ms in table.latency.items()
    }
    training = Training(devices, weights, config, data)
    training.run(lambda epoch, loss: say(f"epoch {epoch} of {config.epochs}, loss {loss:.3f}"))
    cells = {device: training.cells(device).tolist() for device in devices}
    kept.add(
        {
            "name": name,
            "weights": list(weights),
            "columns": {f"hypernetwork, {len(weights)} preferences": cells},
            "passes": asdict(training.passes),
            "cpu_seconds": time.process_time() - started,
        }
    )


def load(folder: Path, limit: int | None, seed: int) -> ImageData:
    """Images of the table's own data set, scaled down."""
    return load_data(str(folder / "cifar10"), limit, seed, DataOptions(resolution=RESOLUTION))


@one_thread()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=(SWEEP, HYPERNETWORK))
    parser.add_argument("--data", type=Path, required=True, help="of nasbench201/ and cifar10/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not (arguments.data / "nasbench201" / "accuracy.parquet").exists():
        raise SystemExit(f"{arguments.data} has no tables: nothing was searched")
    table = Table.read(arguments.data / "nasbench201")
    config = dataclasses.replace(preset("cpu", "darts", SPACE.name), seed=arguments.seed)
    if arguments.method == HYPERNETWORK:
        config = dataclasses.replace(config, limit=IMAGES, epochs=EPOCHS)
    data = load(arguments.data, config.limit, config.seed)
    head = {
        **conditions("front-searches"),
        "method": arguments.method,
        "scale": {
            "scaled_down": True,
            "config": config.to_dict(),
            "data": data.identity(),
            "measurements_per_lpm": MEASURED,
        },
    }
    kept = Kept(arguments.out, head)
    if arguments.method == SWEEP:
        sweep(table, config, data, kept, WEIGHTS)
    else:
        hypernetwork(table, config, data, kept, PREFERENCES)
    say(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
