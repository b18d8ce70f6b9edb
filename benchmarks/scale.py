"""Plans of 100,000 architectures on 20 devices, and of 50 measurements on each of 1,000.

    python benchmarks/scale.py --out work > benchmarks/results/DATE-scale.json

Nothing of that size has been measured. The plans follow from

- committed results: what a measurement took, how its time spread, what share was disturbed
  (``*-profiling.json`` and its raw rows, ``*-fleet.json``);
- what latkit's own steps take here at a few sizes, on **simulated** datasets (``scale_costs.py``),
  and a straight line through these;
- a **simulated** fleet (``scale_fleet.py``), and the assumptions in ``ASSUMED``.

Prints JSON, progress to stderr; a quarter of an hour of CPU time. What is finished is in ``work``:
the same command goes on. ``scale_page.py`` makes the tables of
docs/scale.md from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from benchmarks.scale_costs import MANY_WORKERS, PER_DEVICE, SOURCES, WORKERS, measure
from benchmarks.scale_fleet import SimulatedKind, simulate

RESULTS = Path(__file__).parent / "results"
ARCHITECTURES, KINDS = 100_000, 20
BOARDS = 1_000
SIZES = (1_000, 3_000, 10_000, 30_000)
# What nothing here has measured.
ASSUMED = {
    # Of the fastest and the slowest of 20 kinds: how many times as long as on the measured CPU a
    # measurement takes.
    "slowness": (0.5, 8.0),
    "lost_per_hour": 0.02,
    "back_seconds": 60.0,
    # The slowest of the boards.
    "board_slowness": 20.0,
}
PER_KIND = (4, 16, 64)
Json = dict[str, Any]


def grown(points: list[tuple[float, float]], at: float) -> Json:
    """A straight line through values at some sizes, what it gives at another, and its exponent.

    Args:
        points: (size, value), the sizes ascending.
        at: the other size.
    """
    sizes, values = np.array(points, dtype=np.float64).T
    # Relative errors count, so that small sizes have a say.
    slope, intercept = np.polyfit(sizes, values, 1, w=1 / np.maximum(values, 1e-9))
    (n0, v0), (n1, v1) = points[-2:]
    return {
        "sizes": sizes.tolist(),
        "values": values.tolist(),
        "intercept": float(intercept),
        "per_unit": float(slope),
        # Of the last two sizes: 1 where twice the size takes twice as much.
        "exponent": float(np.log(v1 / v0) / np.log(n1 / n0)),
        "at": at,
        "extrapolated": float(intercept + slope * at),
    }


def latkit_costs(work: Path) -> Json:
    """What latkit's steps take at each size, and at the full one: by a straight line, measured."""
    rows: dict[str, list[Json]] = {"driver": [], "check": [], "train": []}
    for n in (*SIZES, ARCHITECTURES):
        for part, of in rows.items():
            of.append({"n": n, **measure(part, n, work)})
    steps = (
        ("driver, CPU s", "driver", "measuring_cpu_seconds"),
        ("driver, memory MB", "driver", "memory_mb"),
        ("merge, CPU s", "driver", "merge_cpu_seconds"),
        ("merge, peak MB", "driver", "peak_mb"),
        ("dataset on disk, bytes", "driver", "bytes"),
        ("workers' datasets on disk, bytes", "driver", "workers_bytes"),
        ("check, CPU s", "check", "check_cpu_seconds"),
        ("check, peak MB", "check", "peak_mb"),
        ("train-lpm, CPU s", "train", "train_cpu_seconds"),
        ("train-lpm, peak MB", "train", "peak_mb"),
    )
    growth = {}
    for name, part, key in steps:
        *few, full = [(float(row["rows"]), float(row[key])) for row in rows[part]]
        growth[name] = {**grown(few, full[0]), "measured": full[1]}
    return {"raw": rows, "growth": growth}


def measured_seconds() -> tuple[Json, SimulatedKind, SimulatedKind]:
    """Times of measurements by committed results: the facts, a worker in a fleet, one alone."""
    raw = pq.read_table(RESULTS / "2026-11-24-profiling.parquet").to_pylist()
    times = [
        row["wall_ms"] / 1000
        for row in raw
        if (row["backend"], row["protocol"]) == ("torch-cpu", "fast")
    ]
    fleet = json.loads((RESULTS / "2026-11-27-fleet.json").read_text(encoding="utf-8"))["scaling"]
    one, two = fleet["one"], fleet["every"]
    # In a fleet a measurement took longer than alone: its share of the start, and Ray and the
    # driver on the same core.
    factor = one["wall_seconds"] / (one["rows"] * float(np.mean(times)))
    quiet = one["disturbed"] / one["rows"]
    alone = SimulatedKind(1, tuple(times), start_seconds=0.0, disturbed=quiet)
    kind = dataclasses.replace(alone, seconds=tuple(factor * seconds for seconds in times))
    busy = two["disturbed"] / two["rows"]
    pair = dataclasses.replace(kind, workers=2, disturbed=busy)
    single, both = (simulate(of, one["architectures_usable"], 0) for of in (kind, pair))
    facts = {
        "measurements": len(times),
        "alone_seconds": float(np.mean(times)),
        "in_a_fleet_seconds": float(np.mean(kind.seconds)),
        "spread_percent": 100 * float(np.std(times) / np.mean(times)),
        "disturbed_quiet": kind.disturbed,
        "disturbed_busy": busy,
        "against_measured": {
            "one worker": {"simulated": dataclasses.asdict(single), "measured": one},
            "two workers": {"simulated": dataclasses.asdict(both), "measured": two},
        },
    }
    return facts, kind, alone


def large_list(kind: SimulatedKind, disturbed_busy: float, wide_driver_seconds: float) -> Json:
    """100,000 architectures on 20 kinds of devices, and what changes the time of one kind.

    Args:
        kind: the measured one, with the time that the driver takes.
        disturbed_busy: the share that is disturbed on a busy machine.
        wide_driver_seconds: what the driver takes for an event of ``MANY_WORKERS``.
    """
    fleets = []
    for workers in PER_KIND:
        runs = []
        # Of the kinds the fastest and the slowest; the others are in between.
        for seed, slow in enumerate(ASSUMED["slowness"]):
            times = tuple(slow * seconds for seconds in kind.seconds)
            fleet = dataclasses.replace(kind, workers=workers, seconds=times)
            run = dataclasses.asdict(simulate(fleet, ARCHITECTURES, seed))
            runs.append({"slowness": slow, **run})
            print("simulated", workers, json.dumps(runs[-1]), file=sys.stderr, flush=True)
        fleets.append({"workers_a_kind": workers, "kinds": runs})
    kind = dataclasses.replace(kind, workers=WORKERS)
    many = dataclasses.replace(kind, workers=MANY_WORKERS, driver_seconds=wide_driver_seconds)
    cases = {
        f"{WORKERS} workers as above": kind,
        "no worker is lost": dataclasses.replace(kind, lost_per_hour=0.0),
        "a worker is lost in each hour of its measuring": dataclasses.replace(
            kind, lost_per_hour=1.0
        ),
        "as many are disturbed as on the busy machine": dataclasses.replace(
            kind, disturbed=disturbed_busy
        ),
        f"{MANY_WORKERS} workers": many,
    }
    return {
        "fleets": fleets,
        "cases": {
            name: dataclasses.asdict(simulate(of, ARCHITECTURES, 100)) for name, of in cases.items()
        },
    }


def many_boards(alone: SimulatedKind) -> Json:
    """50 measurements on each of 1,000 boards, each by a bundle of its own, with nobody's help."""
    runs = []
    for seed, slow in enumerate(np.geomspace(1, ASSUMED["board_slowness"], BOARDS).tolist()):
        times = tuple(slow * seconds for seconds in alone.seconds)
        run = simulate(dataclasses.replace(alone, seconds=times), PER_DEVICE, seed)
        runs.append((run.seconds, run.measurements, run.architectures_unusable))
    seconds, measurements, unusable = np.array(runs).T
    return {
        "boards": BOARDS,
        "seconds_a_board": {
            "least": float(seconds.min()),
            "median": float(np.median(seconds)),
            "most": float(seconds.max()),
        },
        "device_hours": float(seconds.sum() / 3600),
        "measurements": int(measurements.sum()),
        "boards_with_unusable_architectures": int((unusable > 0).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is made")
    work: Path = parser.parse_args().out
    work.mkdir(parents=True, exist_ok=True)
    costs = latkit_costs(work)
    idle = [measure("ray", workers, work) for workers in (2, 4, 8)]
    wide = measure("wide", 10_000, work)
    boards = [measure("devices", n, work) for n in (30, 100, 300, BOARDS)]
    merges = [measure("many", n, work) for n in (100, 300, BOARDS)]
    board_commands = measure("commands", PER_DEVICE, work)
    bundle = measure("bundle", PER_DEVICE, work)

    facts, kind, alone = measured_seconds()
    ray_seconds = max(row["driver_cpu_ms_a_call"] for row in idle) / 1000
    largest = costs["raw"]["driver"][-1]
    kind = dataclasses.replace(
        kind,
        driver_seconds=largest["measuring_cpu_seconds"] / largest["rows"] + ray_seconds,
        lost_per_hour=ASSUMED["lost_per_hour"],
        back_seconds=ASSUMED["back_seconds"],
    )
    wide_seconds = wide["measuring_cpu_seconds"] / wide["rows"] + ray_seconds
    content = {
        **conditions("scale"),
        "simulated": "datasets, fleets and boards are simulated; nothing of this size was measured",
        "architectures": ARCHITECTURES,
        "kinds": KINDS,
        "source_devices": SOURCES,
        "assumed": ASSUMED,
        "latkit": costs,
        "wide": {"workers": MANY_WORKERS, **wide},
        "ray": idle,
        "registry": boards,
        "merge_of_small_datasets": merges,
        "commands_a_board": board_commands,
        "bundle": bundle,
        "measurement": facts,
        "driver_ms_an_event": 1000 * kind.driver_seconds,
        "large_list": large_list(kind, facts["disturbed_busy"], wide_seconds),
        "many_boards": many_boards(alone),
    }
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
