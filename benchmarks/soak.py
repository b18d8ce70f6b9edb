"""A long profile run, undisturbed and with random SIGKILLs: flat memory, nothing lost or doubled.

First the list is measured in one go, and the process's memory is recorded after every visit.
Then the same command measures it again into another folder while it is killed at random moments,
and is started again until it ends by itself. Both datasets must have the same architectures row
by row in the order of the plan.

    python benchmarks/soak.py > benchmarks/results/DATE-soak.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from latkit import __version__
from latkit.backends.base import fingerprint
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.events import Listener, Progress
from latkit.dataset import LatencyDataset, Target
from latkit.profiling.loop import profile
from latkit.profiling.plan import schedule
from latkit.profiling.protocol import PRESETS
from latkit.spaces import get_space, parse_setting

SETTING = "tiny,cells=3"
PROTOCOL = "fast"
SEED = 0
# What the imports take; less than that, and a process dies before it measures.
START_SECONDS = 2.5


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def undisturbed(n: int, out: Path) -> dict[str, Any]:
    """Measure all in one go; memory by tenths of the run."""
    memory: list[float] = []

    class Record(Listener):
        def progress(self, now: Progress) -> None:
            memory.append(rss_mb())

    target = Target("darts", "soak", "torch-cpu", parse_setting(SETTING))
    started = time.monotonic()
    with TorchCpuBackend() as backend:
        profile(backend, target, PRESETS[PROTOCOL], n, SEED, out, listener=Record())
    tenths = [float(np.mean(part)) for part in np.array_split(memory, 10)]
    return {
        "seconds": time.monotonic() - started,
        "visits": len(memory),
        "rss_mb_by_tenth": tenths,
        "rss_last_over_second_tenth": tenths[-1] / tenths[1],
    }


def command(n: int, out: Path) -> list[str]:
    """The command line that :func:`undisturbed` is the inside of."""
    return [
        sys.executable, "-m", "latkit.cli.main", "profile", "--backend", "torch-cpu",
        "--device", "soak", "--setting", SETTING, "--protocol", PROTOCOL, "--n", str(n),
        "--seed", str(SEED), "--out", str(out),
    ]  # fmt: skip


def killed(n: int, kills: int, seconds: float, out: Path) -> dict[str, Any]:
    """Measure all with random kills; ``seconds`` is what it takes without."""
    rng = random.Random(SEED)
    started = time.monotonic()
    done = 0
    lives = []
    while done < kills:
        process = subprocess.Popen(
            command(n, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        # From the middle of the imports to the end of a share of the work.
        life = rng.uniform(1.0, START_SECONDS + 1.3 * seconds / kills)
        try:
            process.communicate(timeout=life)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            done += 1
            lives.append(round(life, 2))
            print(f"\rkill {done}/{kills}", end="", file=sys.stderr)
            continue
        raise SystemExit(f"the run ended after {done} kills: give it more architectures")
    subprocess.run(command(n, out), check=True, capture_output=True)
    print(file=sys.stderr)
    return {"seconds": time.monotonic() - started, "kills": done, "lives_seconds": lives}


def listed(out: Path) -> list[dict[str, Any]]:
    """The rows of the list, in the order of measurement, without the panel's."""
    dataset = LatencyDataset.open(out)
    rows = dataset.table.select(["arch_id", "visit", "measured_at", "flags"]).to_pylist()
    return [row for row, panel in zip(rows, dataset.in_panel, strict=True) if not panel]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    n = options.architectures
    started = time.monotonic()
    ids = get_space("darts").sample(n, SEED).tolist()
    plan = [ids[i] for i, _ in schedule(n, SEED, PRESETS[PROTOCOL].replicate_every)]
    with tempfile.TemporaryDirectory() as folder:
        whole, pieces = Path(folder, "whole"), Path(folder, "pieces")
        first = undisturbed(n, whole)
        second = killed(n, options.kills, first["seconds"], pieces)
        rows = {name: listed(out) for name, out in (("whole", whole), ("pieces", pieces))}
    with TorchCpuBackend() as backend:
        facts = dict(fingerprint(backend))
    in_order = {
        name: [row["arch_id"] for row in found[: len(plan)]] == plan for name, found in rows.items()
    }
    doubled = {
        name: len(found) - len({(row["arch_id"], row["visit"]) for row in found})
        for name, found in rows.items()
    }
    result = {
        "benchmark": "soak",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "latkit_version": __version__,
        "setting": SETTING,
        "protocol": PROTOCOL,
        "architectures": n,
        "fingerprint": facts,
        "undisturbed": first,
        "killed": second,
        "planned_rows": len(plan),
        "made_up_rows": {name: len(found) - len(plan) for name, found in rows.items()},
        "arch_ids_as_planned_row_by_row": in_order,
        "doubled_rows": doubled,
        "seconds": time.monotonic() - started,
    }
    print(json.dumps(result, indent=2))
    flat = first["rss_last_over_second_tenth"] <= 1.05
    if not (flat and all(in_order.values()) and not any(doubled.values())):
        raise SystemExit("the soak failed")


if __name__ == "__main__":
    main()
