"""Fleets of workers on this machine: how much faster, what kills cost, and whom they do not trust.

    python benchmarks/fleet.py --out work > benchmarks/results/DATE-fleet.json

- *scaling*: wall seconds of ``latkit profile --fleet auto`` on one core and on all of them, with
  start and merging;
- *killed*: the same on all cores, in which a worker gets SIGKILL at a random moment, then the
  driver, and the same command goes on: rows before and after, and whether a measurement is counted
  twice;
- *slowed*: the same by the wall clock while a process of low priority (``nice 10``, a tenth of a
  core) spins on the core of one worker: what is said of that worker, and how many rows are flagged
  as disturbed.

Nothing else should run meanwhile. Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from latkit.core.cores import process_cores
from latkit.dataset import LatencyDataset
from latkit.dataset.flags import DISTURBED

SPIN = "while True: pass"


def command(arguments: argparse.Namespace, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "latkit", "profile", "--fleet", "auto", "--device", "here",
        "--backend", arguments.backend, "--setting", arguments.setting, "--protocol", "fast",
        "--n", str(arguments.architectures), "--out", str(out), "--json",
    ]  # fmt: skip


def fresh(folder: Path, name: str) -> Path:
    for path in folder.glob(f"{name}*"):
        shutil.rmtree(path)
    return folder / name


def run(words: list[str], cores: set[int]) -> str:
    """What a command that must succeed prints to stderr."""
    done = subprocess.run(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stderr


def timed(arguments: argparse.Namespace, name: str, cores: set[int], *more: str) -> dict[str, Any]:
    """A whole run on some cores."""
    out, started = fresh(arguments.out, name), time.monotonic()
    told = run([*command(arguments, out), *more], cores)
    seconds = time.monotonic() - started
    warnings = [line for line in told.splitlines() if line.startswith("warning:")]
    return {"workers": len(cores), "wall_seconds": seconds, **rows_of(out), "warnings": warnings}


def rows_of(out: Path) -> dict[str, Any]:
    """What a dataset has, by whether a measurement is in it twice."""
    dataset = LatencyDataset.open(out)
    rows = dataset.table.select(["arch_id", "measured_at", "samples_ms"]).to_pylist()
    moments = {(row["arch_id"], row["measured_at"], tuple(row["samples_ms"])) for row in rows}
    by_worker = {
        worker.name: LatencyDataset.open(worker)
        for worker in sorted(out.with_name(f"{out.name}.fleet").glob("*"))
    }
    return {
        "architectures_usable": dataset.usable().num_rows,
        "rows": len(rows),
        "rows_twice": len(rows) - len(moments),
        "disturbed": sum(DISTURBED in flags for flags in dataset.table["flags"].to_pylist()),
        "rows_by_worker": {name: of.table.num_rows for name, of in by_worker.items()},
        "anchor_ms_by_worker": {
            name: statistics.median(t for s in of.table["anchor_samples_ms"].to_pylist() for t in s)
            for name, of in by_worker.items()
        },
    }


def processes(beginning: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_text().startswith(beginning):
                yield int(path.parent.name)
        except OSError:
            continue


def written(out: Path) -> int:
    """Rows that are on disk while a fleet runs."""
    folder = out.with_name(f"{out.name}.fleet")
    return sum(len(path.read_text().splitlines()) for path in folder.glob("*/journal.jsonl"))


def killed(arguments: argparse.Namespace) -> dict[str, Any]:
    """A worker and the driver get SIGKILL."""
    out, moments = fresh(arguments.out, "killed"), random.Random(arguments.seed)
    at = sorted(moments.sample(range(20, arguments.architectures - 20), 2))
    driver = subprocess.Popen(
        command(arguments, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for number, wanted in enumerate(at):
        while written(out) < wanted and driver.poll() is None:
            time.sleep(0.05)
        victim = driver.pid if number else next(processes("ray::FleetWorker"))
        os.kill(victim, signal.SIGKILL)
    _, told = driver.communicate()
    before = written(out)
    told += run(command(arguments, out), process_cores())
    lost = [line for line in told.splitlines() if " is lost " in line]
    return {"killed_after_rows": at, "rows_before_resuming": before, "told": lost, **rows_of(out)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backend", default="torch-cpu")
    parser.add_argument("--setting", default="imagenet")
    parser.add_argument("--architectures", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cores = sorted(process_cores())
    one = timed(arguments, "one", {cores[0]})
    print(json.dumps(one), file=sys.stderr, flush=True)
    every = timed(arguments, "every", set(cores))
    print(json.dumps(every), file=sys.stderr, flush=True)
    survived = killed(arguments)
    print(json.dumps(survived), file=sys.stderr, flush=True)
    spinning = subprocess.Popen(
        ["taskset", "-c", str(cores[-1]), "nice", "-n", "10", sys.executable, "-c", SPIN]
    )
    try:
        slowed = timed(arguments, "slowed", set(cores), "--clock", "wall")
    finally:
        spinning.kill()
    content = {
        **conditions("fleet"),
        "scaling": {"one": one, "every": every},
        "share_of_the_time": every["wall_seconds"] / one["wall_seconds"],
        "killed": survived,
        "slowed": slowed,
    }
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
