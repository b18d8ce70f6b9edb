"""p50 of ``latkit measure`` against a plain loop of ONNX Runtime, as onnxruntime_perf_test has it.

The two take turns, so that a machine that becomes slower does so for both. Prints a table, and
writes JSON. The ratio is to be within 5 % of one on a quiet machine.

Usage: python benchmarks/measure.py [--rounds 12] [--runs 100] [--out FILE]
       (default: benchmarks/results/DATE-measure.json)
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import latkit
from latkit.core.device import cpu_name, usable_cores
from latkit.networks.models import load_model

NETWORKS = ("torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:shufflenet_v2_x1_0")
WARMUP_RUNS = 5


def plain_p50_ms(path: Path, runs: int) -> float:
    """Median wall time of runs one after the other, in a session with ONNX Runtime's defaults.

    But for the threads: one, as ``latkit measure`` has by default.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (declared,) = session.get_inputs()
    images = np.random.default_rng(0).standard_normal(declared.shape, dtype=np.float32)
    times = []
    for index in range(WARMUP_RUNS + runs):
        started = time.perf_counter()
        session.run(None, {declared.name: images})
        if index >= WARMUP_RUNS:
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def measured_p50_ms(path: Path, runs: int, out: Path) -> float:
    """What ``latkit measure`` reports, in a folder of its own."""
    result = latkit.measure(
        str(path), backend="onnxruntime-cpu", device="bench", runs=runs, measurements=1, out=out
    )
    return result.rows[0].p50_ms


def compare(what: str, rounds: int, runs: int, folder: Path) -> dict[str, Any]:
    """Both in turn, so many times."""
    path = folder / "model.onnx"
    path.write_bytes(load_model(what).onnx())
    plain, measured = [], []
    for index in range(rounds):
        # Which of the two comes first changes, as the second may find warmer caches.
        for which in (plain, measured) if index % 2 else (measured, plain):
            if which is plain:
                plain.append(plain_p50_ms(path, runs))
            else:
                measured.append(measured_p50_ms(path, runs, folder / f"{what[12:]}-{index}"))
    ratios = [ours / theirs for ours, theirs in zip(measured, plain, strict=True)]
    return {
        "network": what,
        "plain_p50_ms": statistics.median(plain),
        "measured_p50_ms": statistics.median(measured),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--runs", type=int, default=100)
    default = Path(__file__).parent / "results" / f"{date.today().isoformat()}-measure.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(w, arguments.rounds, arguments.runs, Path(folder)) for w in NETWORKS]
    for row in rows:
        print(
            f"{row['network']:34} plain {row['plain_p50_ms']:8.3f} ms  "
            f"measured {row['measured_p50_ms']:8.3f} ms  ratio {row['ratio']:.3f}"
        )
    content = {
        "date": date.today().isoformat(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "onnxruntime": onnxruntime.__version__,
        "rounds": arguments.rounds,
        "runs": arguments.runs,
        "networks": rows,
    }
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
