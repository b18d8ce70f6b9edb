"""Profiling while something else uses the machine: are disturbed rows flagged, others right?

Three runs of the same list: on the machine as it is; while one spinning process per core is
switched on and off every few seconds; and while they spin all the time. Unflagged rows of the
loaded runs are compared with the first run.

    python benchmarks/load.py > benchmarks/results/DATE-load.json
"""

from __future__ import annotations

import argparse
import json
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
import pyarrow as pa

from latkit import __version__
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.device import usable_cores
from latkit.core.events import Listener, Progress
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.statistics import median_absolute_deviation
from latkit.profiling.loop import profile
from latkit.profiling.protocol import PRESETS
from latkit.spaces import parse_setting

SEED = 0
UNFLAGGED = "unflagged_against_quiet"


# A process that uses a core in phases, the same for all of them; its first phase is off.
SPIN = """
import sys, time
on, off = float(sys.argv[1]), float(sys.argv[2])
print("ready", flush=True)
begin = float(sys.stdin.readline())
while True:
    if (time.time() - begin) % (on + off) < off:
        time.sleep(0.005)
"""


@contextmanager
def load(on_seconds: float, off_seconds: float) -> Iterator[float]:
    """One spinning process per usable core; yields when their first phase (off) began."""
    command = [sys.executable, "-c", SPIN, str(on_seconds), str(off_seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(usable_cores())]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        begin = time.time()
        for process in processes:
            assert process.stdin is not None
            print(begin, file=process.stdin, flush=True)
        yield begin
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def run(name: str, setting_text: str, protocol: str, n: int, out: Path) -> LatencyDataset:
    """Profile the list."""

    class Show(Listener):
        def progress(self, now: Progress) -> None:
            print(f"\r{name}: {now.done}/{now.total}", end="", file=sys.stderr)

    target = Target("darts", "load", "torch-cpu", parse_setting(setting_text))
    with TorchCpuBackend() as backend:
        profile(backend, target, PRESETS[protocol], n, SEED, out, listener=Show())
    print(file=sys.stderr)
    return LatencyDataset.open(out)


def agreement(quiet: LatencyDataset, other: LatencyDataset, which: np.ndarray) -> dict[str, Any]:
    """Latencies of the loaded run's rows, as stored, against the quiet run's."""
    usable = quiet.usable()
    truth = dict(zip(usable["arch_id"].to_pylist(), usable["latency_ms"].to_pylist(), strict=True))
    rows = other.table.filter(pa.array(which & ~other.in_panel))
    logs = [
        float(np.log(row["latency_ms"] / truth[row["arch_id"]]))
        for row in rows.select(["arch_id", "latency_ms"]).to_pylist()
        if row["arch_id"] in truth
    ]
    if not logs:
        return {"rows": 0}
    return {
        "rows": len(logs),
        "ratio_to_quiet": float(np.exp(np.median(logs))),
        "deviation_percent": 100 * median_absolute_deviation(logs),
        "absolute_error_percent": 100 * float(np.expm1(np.median(np.abs(logs)))),
    }


def judge(
    quiet: LatencyDataset, other: LatencyDataset, begin: float, on: float, off: float
) -> dict[str, Any]:
    """Whether rows taken under load are flagged, by when each visit ended."""
    listed = ~other.in_panel
    # A visit that ends well inside a phase was in it all the time.
    phase = np.array(
        [(at.timestamp() - begin) % (on + off) for at in other.table["measured_at"].to_pylist()]
    )
    margin = 0.6
    loaded = listed & (phase >= off + margin) if off else listed
    idle = listed & (phase >= margin) & (phase < off)
    share = {
        name: (None if not which.any() else float(100 * other.flagged[which].mean()))
        for name, which in (("loaded", loaded), ("idle", idle))
    }
    return {
        "rows": int(listed.sum()),
        "rows_wholly_under_load": int(loaded.sum()),
        "rows_wholly_without": int(idle.sum()),
        "flagged_percent": {"all": float(100 * other.flagged[listed].mean()), **share},
        "architectures_usable": other.usable().num_rows,
        UNFLAGGED: agreement(quiet, other, ~other.flagged),
        # On two cores the scheduler may keep both spinning processes on the other one for a while.
        "unflagged_under_load_against_quiet": agreement(quiet, other, loaded & ~other.flagged),
        "flagged_against_quiet": agreement(quiet, other, other.flagged),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", type=int, default=60)
    parser.add_argument("--setting", default="imagenet")
    parser.add_argument("--protocol", default="standard", choices=list(PRESETS))
    parser.add_argument("--on-seconds", type=float, default=4.0)
    parser.add_argument("--off-seconds", type=float, default=4.0)
    options = parser.parse_args()
    arguments = (options.setting, options.protocol, options.architectures)
    on, off = options.on_seconds, options.off_seconds
    with tempfile.TemporaryDirectory() as folder:
        quiet = run("quiet", *arguments, Path(folder, "quiet"))
        with load(on, off) as begin:
            switched = run("load on and off", *arguments, Path(folder, "switched"))
        with load(1.0, 0.0):
            loaded = run("load all the time", *arguments, Path(folder, "loaded"))
        result = {
            "benchmark": "load",
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "latkit_version": __version__,
            "setting": parse_setting(options.setting).to_dict(),
            "protocol": options.protocol,
            "architectures": options.architectures,
            "spinning_processes": usable_cores(),
            "on_seconds": on,
            "off_seconds": off,
            "fingerprint": quiet.manifest.fingerprint,
            "quiet_flagged_percent": float(100 * quiet.flagged[~quiet.in_panel].mean()),
            "load_on_and_off": judge(quiet, switched, begin, on, off),
            "load_all_the_time": judge(quiet, loaded, 0.0, 1.0, 0.0),
        }
    print(json.dumps(result, indent=2))
    flagged, kept = (result["load_on_and_off"][k] for k in ("flagged_percent", UNFLAGGED))
    if not (flagged["loaded"] >= 80 and kept["rows"] and kept["deviation_percent"] <= 3):
        raise SystemExit("disturbed rows were not flagged, or unflagged ones are off")


if __name__ == "__main__":
    main()
