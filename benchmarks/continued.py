"""What it costs to go on from another device's search instead of searching from scratch.

    python benchmarks/continued.py --data ../shared/data --work DIR --out benchmarks/results/...

On NAS-Bench-201, whose table is the judge: CIFAR-100 accuracies and latencies of all cells. For
each of three devices, among those whose latencies rank cells least alike, LA-DARTS searches from
scratch for the device's median latency (scaled down: ``--preset cpu`` with CIFAR-10 images of 16x16
pixels and 8 epochs), by an LPM of 100 random cells of the table. Then each is retargeted to the
other two devices from its checkpoint: α goes on for 2 epochs (the default) or 4 with frozen
weights, or for 2 with weights that move at a tenth of the rate. Controls: a search from scratch of
2 epochs; α as it is, derived at the new target without a step; all cells near the target. Cells of
90 % error or more, through which nothing flows, are counted apart, as ``fronts.py`` drops them. One
thread. What is done is kept in ``--work``. Prints a summary to stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from benchmarks.front_judge import SPACE, WORST_ERROR, Judge, Table
from latkit.core.quantities import LATENCY
from latkit.lpm.base import LPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.threads import one_thread
from latkit.lpm.training import fit
from latkit.search.config import SearchConfig, preset
from latkit.search.data import DataOptions, load_data
from latkit.search.decode import is_on_target
from latkit.search.distributed import ALONE
from latkit.search.earlier import EarlierSearch
from latkit.search.image_source import ImageData
from latkit.search.objectives import PredictedObjective
from latkit.search.parts import derive_at, make_supernet
from latkit.search.session import run_search
from latkit.spaces import Architecture, get_preset

DEVICES = ("1080ti_1", "1080ti_256", "pixel3")
MEASURED, RESOLUTION, EPOCHS, SHORT, LONGER = 100, 16, 8, 2, 4
SLOW = 0.1
NEAR = 0.05

SCRATCH, SCRATCH_SHORT = f"from scratch, {EPOCHS} epochs", f"from scratch, {SHORT} epochs"
DERIVED = "derived at the new target, no step"
FROZEN, FROZEN_LONGER = f"weights frozen, {SHORT} epochs", f"weights frozen, {LONGER} epochs"
MOVING = f"weights at {SLOW:g} of their rate, {SHORT} epochs"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all searches share.

    Attributes:
        judges, lpms, targets_ms: of each device.
        images: of each seed.
        work: where the searches are kept.
    """

    judges: dict[str, Judge]
    lpms: dict[str, LPM]
    targets_ms: dict[str, float]
    images: list[ImageData]
    work: Path

    def scratch(self, device: str, seed: int, epochs: int = EPOCHS) -> dict[str, Any]:
        config = preset("cpu", "darts", SPACE.name)
        return self.searched(f"{device}-{epochs}-{seed}", device, config, seed, epochs)

    def source(self, device: str, seed: int) -> EarlierSearch:
        return EarlierSearch.read(self.work / f"{device}-{EPOCHS}-{seed}")

    def continued(
        self, name: str, source: str, device: str, seed: int, epochs: int, weight_lr: float = 0.0
    ) -> dict[str, Any]:
        usual = self.source(source, seed).usual()
        rates = dataclasses.replace(usual.optimizer, weight_lr=weight_lr)
        config = dataclasses.replace(usual, optimizer=rates)
        folder = f"{source}-to-{device}-{name}-{epochs}-{seed}"
        return self.searched(folder, device, config, seed, epochs)

    def searched(
        self, folder: str, device: str, config: SearchConfig, seed: int, epochs: int
    ) -> dict[str, Any]:
        """Search with a configuration for the device's target, unless that was done before."""
        out = self.work / folder
        kept = out / "judged.json"
        if kept.exists():
            return dict(json.loads(kept.read_text()))
        shutil.rmtree(out, ignore_errors=True)  # the CPU time of a rest is not that of a search
        config = dataclasses.replace(
            config, lambda_per_ms=None, target_ms=self.targets_ms[device], seed=seed, epochs=epochs
        )
        started = time.process_time()
        outcome = run_search(config, SPACE, self.lpms[device], device, self.images[seed], out)
        seconds = time.process_time() - started
        row = self.judged(device, outcome.architecture, outcome.predicted_ms, seconds)
        row["steps_of_alpha"] = epochs * (len(self.images[seed].labels) // 2 // config.batch)
        kept.write_text(json.dumps(row))
        say(f"{folder}: {row['accuracy_percent']:.2f} %, {seconds:.1f} s")
        return row

    def derived(self, source: str, device: str, seed: int) -> dict[str, Any]:
        """The source's α, read at the device's target: no image is looked at."""
        started = time.process_time()
        config = self.source(source, seed).usual()
        supernet = make_supernet(config, SPACE, self.images[seed], torch.device("cpu"), ALONE)
        assert config.start is not None
        config.start.load(supernet)
        objective = PredictedObjective(self.lpms[device])
        architecture, derived = derive_at(self.targets_ms[device], supernet, objective)
        seconds = time.process_time() - started
        return {**self.judged(device, architecture, derived.cost, seconds), "steps_of_alpha": 0}

    def judged(
        self, device: str, architecture: Architecture, predicted_ms: float, seconds: float
    ) -> dict[str, Any]:
        """A cell by the table: predicted and true latency, and how far from the exact front."""
        judge, target_ms = self.judges[device], self.targets_ms[device]
        cell = int(SPACE.rank(SPACE.row_of(architecture))[0])
        accuracy, latency = float(judge.accuracy[cell]), float(judge.latency[cell])
        best = float(judge.accuracy[judge.latency <= latency].max())
        return {
            "arch_id": cell,
            "accuracy_percent": accuracy,
            "below_front_percent": best - accuracy,
            "latency_ms": latency,
            "predicted_ms": predicted_ms,
            "over_target": latency / target_ms,
            "predicted_on_target": float(is_on_target(predicted_ms, target_ms)),
            "cpu_seconds": seconds,
        }


def lpm_of(latency: Any, seed: int) -> LPM:
    """A default LPM of random cells of the table."""
    cells = np.random.default_rng(seed).permutation(SPACE.size)[:MEASURED]
    encodings = SPACE.encode(SPACE.unrank(cells)).astype(np.float64)
    rows = Rows(SPACE, get_preset(SPACE.name), encodings, latency[cells], LATENCY)
    return fit(rows, Recipe(quantity=LATENCY, seed=seed))


def near_target(judge: Judge, target_ms: float) -> dict[str, float]:
    """All cells whose true latency is near the target: what a draw gives in the mean."""
    near = np.abs(judge.latency / target_ms - 1) <= NEAR
    accuracy = judge.accuracy[near]
    works = accuracy > 100 - WORST_ERROR
    return {
        "cells": int(near.sum()),
        "median_accuracy_percent": float(np.median(accuracy)),
        "share_of_90_percent_error": float(1 - works.mean()),
        "mean_accuracy_of_others_percent": float(accuracy[works].mean()),
        "best_accuracy_percent": float(accuracy.max()),
    }


@one_thread()
def run(bench: Bench, seeds: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []

    def note(column: str, source: str | None, device: str, seed: int, row: dict[str, Any]) -> None:
        rows.append({"column": column, "from": source, "for": device, "seed": seed, **row})

    slow = SLOW * preset("cpu", "darts", SPACE.name).optimizer.weight_lr
    for seed in range(seeds):
        for device in DEVICES:
            note(SCRATCH, None, device, seed, bench.scratch(device, seed))
            note(SCRATCH_SHORT, None, device, seed, bench.scratch(device, seed, SHORT))
        for source in DEVICES:
            for device in DEVICES:
                if device == source:
                    continue
                place = (source, device, seed)
                note(DERIVED, *place, bench.derived(*place))
                note(FROZEN, *place, bench.continued("frozen", *place, SHORT))
                note(FROZEN_LONGER, *place, bench.continued("frozen", *place, LONGER))
                note(MOVING, *place, bench.continued("moving", *place, SHORT, slow))
    summary = {column: summed(rows, column) for column in dict.fromkeys(r["column"] for r in rows)}
    for column, numbers in summary.items():
        say(f"{column}: " + ", ".join(f"{k} {v:.3g}" for k, v in numbers.items()))
    return {"summary": summary, "searches": rows}


def summed(rows: list[dict[str, Any]], column: str) -> dict[str, float]:
    """Over devices (or pairs) and seeds, also against the same device and seed's search."""
    scratch = {(r["for"], r["seed"]): r["accuracy_percent"] for r in rows if r["column"] == SCRATCH}
    ours = [row for row in rows if row["column"] == column]
    accuracy, over_target, seconds, on_target = (
        np.array([row[name] for row in ours])
        for name in ("accuracy_percent", "over_target", "cpu_seconds", "predicted_on_target")
    )
    works = accuracy > 100 - WORST_ERROR
    gains = accuracy - [scratch[row["for"], row["seed"]] for row in ours]
    below = np.array([row["below_front_percent"] for row in ours])
    return {
        "searches": len(ours),
        "median_accuracy_percent": float(np.median(accuracy)),
        "mean_accuracy_percent": float(accuracy.mean()),
        "cells_of_90_percent_error": int((~works).sum()),
        "mean_accuracy_of_others_percent": float(accuracy[works].mean()),
        "mean_below_front_of_others_percent": float(below[works].mean()),
        "median_over_scratch_percent": float(np.median(gains)),
        "mean_over_scratch_percent": float(gains.mean()),
        "standard_error_of_that": float(gains.std(ddof=1) / np.sqrt(len(gains))),
        "mean_latency_over_target": float(over_target.mean()),
        "share_within_5_percent_by_the_table": float((np.abs(over_target - 1) <= NEAR).mean()),
        "share_within_5_percent_by_the_lpm": float(on_target.mean()),
        "cpu_seconds": float(seconds.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="of nasbench201/ and cifar10/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not (arguments.data / "nasbench201" / "accuracy.parquet").exists():
        raise SystemExit(f"{arguments.data} has no tables: nothing was judged")
    torch.set_num_threads(1)
    table = Table.read(arguments.data / "nasbench201")
    config = preset("cpu", "darts", SPACE.name)
    options = DataOptions(resolution=RESOLUTION)
    images = [
        load_data(str(arguments.data / "cifar10"), config.limit, seed, options)
        for seed in range(arguments.seeds)
    ]
    judges = {name: Judge(table.accuracy, table.latency[name]) for name in DEVICES}
    targets = {name: float(np.median(table.latency[name])) for name in DEVICES}
    with one_thread():
        lpms = {name: lpm_of(table.latency[name], 0) for name in DEVICES}
    bench = Bench(judges, lpms, targets, images, arguments.work)
    content = {
        **conditions("continued"),
        "scale": {
            "scaled_down": True,
            "images": config.limit,
            "resolution": RESOLUTION,
            "cells": config.cells,
            "channels": config.channels,
            "batch": config.batch,
            "epochs": EPOCHS,
            "measurements_per_lpm": MEASURED,
            "accuracies": "CIFAR-100 test accuracy of the benchmark's table",
        },
        "targets_ms": targets,
        "near_target": {name: near_target(judges[name], targets[name]) for name in DEVICES},
        **run(bench, arguments.seeds),
    }
    arguments.out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    say(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
