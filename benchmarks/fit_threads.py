"""Does ``train-lpm`` fit as fast with default threads as on one, and beside another process?

A column of a table of NAS-Bench-201's latencies is imported by the command line. Then the same
``latkit train-lpm --n-train 300`` runs with default threads and with ``OMP_NUM_THREADS=1``, each on
the machine as it is and with one spinning process, all in turn. Prints JSON; ends with an error if
default threads miss a target.

    python benchmarks/fit_threads.py latency.parquet > benchmarks/results/DATE-fit-threads.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latkit import __version__
from latkit.core.device import cpu_name, usable_cores

# What limits threads from outside.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Largest ratio of the median fit with default threads to that on one thread of the quiet machine.
TARGETS = {"quiet": 1.2, "busy": 3.0}


@contextmanager
def other_work(busy: bool) -> Iterator[None]:
    """One spinning process, or none."""
    spinning = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spinning)] if busy else []
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def latkit(*arguments: str, threads: str = "default") -> str:
    """What a command prints; it has whatever threads the libraries start, or one of each."""
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    if threads == "one":
        environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "latkit", *arguments]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def measure(dataset: Path, n_train: int, rounds: int) -> list[dict[str, Any]]:
    """A row a run: which threads, beside what, seconds of the fit and of the whole command."""
    runs: list[dict[str, Any]] = []
    cases = [(threads, beside) for beside in TARGETS for threads in ("default", "one")]
    for number in range(rounds):
        for threads, beside in cases if number % 2 == 0 else reversed(cases):
            with other_work(beside == "busy"):
                load, started = os.getloadavg()[0], time.perf_counter()
                told = latkit(
                    "train-lpm", str(dataset), "--n-train", str(n_train), "--no-publish", "--json",
                    threads=threads,
                )  # fmt: skip
                seconds = time.perf_counter() - started
            metrics = json.loads(told)["metrics"]
            runs.append(
                {
                    "round": number,
                    "threads": threads,
                    "beside": beside,
                    "fit_seconds": metrics["fit_seconds"],
                    "command_seconds": seconds,
                    "load_before": load,
                    "mape_percent": metrics["mape_percent"],
                }
            )
            print(json.dumps(runs[-1]), file=sys.stderr)
    return runs


def summary(runs: list[dict[str, Any]], quantity: str) -> dict[str, Any]:
    """Medians of seconds, and their ratios to one thread on the machine as it is."""
    medians = {
        f"{threads}, {beside}": statistics.median(
            run[quantity] for run in runs if (run["threads"], run["beside"]) == (threads, beside)
        )
        for beside in TARGETS
        for threads in ("default", "one")
    }
    reference = medians["one, quiet"]
    return {
        "median_seconds": medians,
        "times_one_thread_quiet": {name: value / reference for name, value in medians.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path, help="a column arch, and latencies in ms")
    parser.add_argument("--column", default="gold_6240_ms")
    parser.add_argument("--n-train", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder, "d")
        latkit(
            "dataset", "import", str(options.table), "--space", "nasbench201", "--arch-column",
            "arch", "--latency-column", options.column, "--unit", "ms", "--device", "table",
            "--backend", "table", "--out", str(dataset),
        )  # fmt: skip
        runs = measure(dataset, options.n_train, options.rounds)
    fits = summary(runs, "fit_seconds")
    result = {
        "benchmark": "fit-threads",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "latkit_version": __version__,
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "table": options.table.name,
        "column": options.column,
        "n_train": options.n_train,
        "rounds": options.rounds,
        "targets": TARGETS,
        "fit": fits,
        "command": summary(runs, "command_seconds"),
        "runs": runs,
    }
    print(json.dumps(result, indent=2))
    for beside, most in TARGETS.items():
        times = fits["times_one_thread_quiet"][f"default, {beside}"]
        if times > most:
            raise SystemExit(f"{beside}: {times:.2f} times one thread, not {most} at most")


if __name__ == "__main__":
    main()
