"""The naive way to measure latencies against latkit's protocols, interleaved in one run.

The costs are those of the visits: building, warming up, running and releasing.
Every architecture is measured by every protocol, in two passes in different orders, so that all
see the same machine. Reported per protocol: CPU and wall time an architecture takes, all in;
the retest sd (relative standard deviation of one visit, from the two passes); the Spearman
correlation of the passes; and the share of disturbed visits, which are made up for at the end of
a pass as ``latkit profile`` does, at the protocol's expense.

``naive`` is the loop anyone writes first: construct the module, 5 runs to warm up, the mean of 20
by the wall clock. ``paper`` is latkit's preset of it, which builds networks faster.

    python benchmarks/profiling.py --out benchmarks/results/DATE-profiling
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.stats import spearmanr

from latkit import __version__
from latkit.backends import BACKENDS, probe_backend
from latkit.backends.base import fingerprint
from latkit.dataset.flags import is_gpu_flag
from latkit.dataset.statistics import RetestError, faster_half_mean
from latkit.profiling.plan import REMEASURE_EACH, REMEASURE_LEAST, REMEASURE_SHARE
from latkit.profiling.protocol import PRESETS
from latkit.profiling.session import Session
from latkit.spaces import Setting, get_space, parse_setting
from latkit.spaces.build import random_input
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.zoo import ZOO

Row = dict[str, Any]
TIMES = ("samples_ms", "anchor_samples_ms")


def naive_visit(genotype: Genotype, setting: Setting) -> Row:
    """Construct, warm up 5 times, mean of 20 by the wall clock (eager PyTorch on the CPU)."""
    layout = (
        torch.channels_last if setting.memory_format == "channels_last" else torch.contiguous_format
    )
    network = Network(genotype, setting.network).eval().to(memory_format=layout)
    x = random_input(setting, 0)
    with torch.inference_mode():
        return naive_times(lambda: network(x))


def naive_onnx_visit(genotype: Genotype, setting: Setting) -> Row:
    """The same with PyTorch's (faster, older) exporter and an ONNX Runtime session."""
    import onnxruntime

    x = random_input(setting, 0)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = Network(genotype, setting.network).eval()
        torch.onnx.export(network, (x,), file, dynamo=False, input_names=["x"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": x.numpy()}
    return naive_times(lambda: session.run(None, feed))


def naive_times(run: Callable[[], object]) -> Row:
    """5 runs to warm up, then the mean of 20 by the wall clock."""
    samples_ms = []
    for _ in range(5):
        run()
    for _ in range(20):
        started = time.perf_counter_ns()
        run()
        samples_ms.append((time.perf_counter_ns() - started) / 1e6)
    return {
        "value": statistics.fmean(samples_ms),
        "samples_ms": samples_ms,
        "anchor_samples_ms": [],
        "flags": [],
    }


NAIVE = {"torch-cpu": naive_visit, "onnxruntime-cpu": naive_onnx_visit}


def session_visit(session: Session) -> Callable[[Genotype], Row]:
    """One visit by a latkit protocol."""

    def visit(genotype: Genotype) -> Row:
        made = session.measure(genotype)
        anchored = session.protocol.anchored
        return {
            "value": made.ratio_to_anchor if anchored else statistics.fmean(made.samples_ms),
            "samples_ms": list(made.samples_ms),
            "anchor_samples_ms": list(made.anchor_samples_ms),
            "flags": [flag for flag in made.flags if not is_gpu_flag(flag)],
        }

    return visit


def run_backend(name: str, setting: Setting, n: int, seed: int) -> tuple[list[Row], Row]:
    """All visits of one backend, and its fingerprint."""
    space = get_space("darts")
    ids = space.sample(n, seed).tolist()
    genotypes = {i: space.genotype(space.unrank(i)[0], ZOO[setting.network.reduction]) for i in ids}
    rows: list[Row] = []
    with BACKENDS.get(name)() as backend, ExitStack() as stack:
        visits: dict[str, Callable[[Genotype], Row]] = {}
        if name in NAIVE:
            visits["naive"] = lambda genotype: NAIVE[name](genotype, setting)
        for preset, protocol in PRESETS.items():
            session = stack.enter_context(Session(backend, setting, protocol))
            visits[preset] = session_visit(session)

        def visit(preset: str, arch_id: int, number: int, made_up: bool) -> Row:
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            row = visits[preset](genotypes[arch_id])
            row |= {
                "cpu_ms": (time.process_time() - cpu) * 1e3,
                "wall_ms": (time.perf_counter() - wall) * 1e3,
                "backend": name,
                "protocol": preset,
                "arch_id": arch_id,
                "pass": number,
                "made_up": made_up,
                "measured_at": datetime.now(timezone.utc).isoformat(),
            }
            rows.append(row)
            return row

        names = list(visits)
        for preset in names:  # so that no protocol pays for what all share
            visits[preset](genotypes[ids[0]])
        for number in range(2):
            rng = np.random.default_rng((seed, number))
            disturbed = []
            for position, arch_id in enumerate(rng.permutation(ids).tolist()):
                turn = position % len(names)
                for preset in (*names[turn:], *names[:turn]):
                    if visit(preset, arch_id, number, made_up=False)["flags"]:
                        disturbed.append((preset, arch_id))
                print(f"\r{name} pass {number + 1}/2: {position + 1}/{n}", end="", file=sys.stderr)
            room = dict.fromkeys(names, max(REMEASURE_LEAST, int(REMEASURE_SHARE * n)))
            for preset, arch_id in disturbed:
                for _ in range(min(REMEASURE_EACH, room[preset])):
                    room[preset] -= 1
                    if not visit(preset, arch_id, number, made_up=True)["flags"]:
                        break
        print(file=sys.stderr)
        return rows, dict(fingerprint(backend))


def outside_runs_ms(row: Row) -> float:
    """CPU time of a visit less that of its runs; a run to warm up is taken for an average one."""
    warmups = 5 if row["protocol"] in ("naive", "paper") else 1
    runs = sum(row["samples_ms"]) + warmups * statistics.fmean(row["samples_ms"])
    return float(row["cpu_ms"] - runs - sum(row["anchor_samples_ms"]))


def summarize(rows: list[Row], n: int) -> list[Row]:
    """Costs and repeatability by protocol."""
    summary = []
    for preset in dict.fromkeys(row["protocol"] for row in rows):
        mine = [row for row in rows if row["protocol"] == preset]
        quiet: dict[int, dict[int, float]] = {}
        for row in mine:
            if not row["flags"]:
                quiet.setdefault(row["arch_id"], {})[row["pass"]] = row["value"]
        pairs = [(v[0], v[1]) for v in quiet.values() if len(v) == 2]
        first = [row for row in mine if not row["made_up"]]
        retest = RetestError((i, value) for i, pair in enumerate(pairs) for value in pair)
        logs = np.log([pair[1] / pair[0] for pair in pairs])
        # On a busy machine no architecture may have been undisturbed in both passes.
        robust = 100 * 1.4826 / 2**0.5 * np.median(np.abs(logs)) if pairs else float("nan")
        rank = spearmanr(*np.array(pairs).T).statistic if len(pairs) > 2 else float("nan")
        summary.append(
            {
                "protocol": preset,
                "cpu_ms": sum(row["cpu_ms"] for row in mine) / (2 * n),
                "wall_ms": sum(row["wall_ms"] for row in mine) / (2 * n),
                "cpu_ms_outside_runs": statistics.median(map(outside_runs_ms, mine)),
                "retest_sd_percent": 100 * (retest.sd or float("nan")),
                # Of a normal distribution of the same middle half: not moved by a few outliers.
                "retest_sd_robust_percent": float(robust),
                "retest_spearman": float(rank),
                "architectures_paired": len(pairs),
                "disturbed_percent": 100 * sum(bool(r["flags"]) for r in first) / len(first),
            }
        )
    cost = {row["protocol"]: row["cpu_ms"] for row in summary}
    for row in summary:
        for base in ("naive", "paper"):
            if base in cost:
                row[f"times_cheaper_than_{base}"] = cost[base] / row["cpu_ms"]
    return summary


def compare_estimators(rows: list[Row]) -> list[Row]:
    """What other estimates the same raw times would have given, from the quiet ``precise`` visits.

    The first n pairs of runs of each visit stand for a visit of n runs.
    """
    estimators: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "mean, no anchor": lambda c, a: float(c.mean()),
        "mean / mean": lambda c, a: float(c.mean() / a.mean()),
        "median / median": lambda c, a: float(np.median(c) / np.median(a)),
        "median of ratios": lambda c, a: float(np.median(c / a)),
        "min / min": lambda c, a: float(c.min() / a.min()),
        "faster half / faster half": lambda c, a: faster_half_mean(c) / faster_half_mean(a),
    }
    visits = [row for row in rows if row["protocol"] == "precise" and not row["made_up"]]
    compared = []
    for n in (3, 6, 12):
        for name, estimate in estimators.items():
            for kept, which in (
                ("all", visits),
                ("undisturbed", [row for row in visits if not row["flags"]]),
            ):
                retest = RetestError(
                    (row["arch_id"], estimate(*(np.array(row[k][:n]) for k in TIMES)))
                    for row in which
                )
                sd = retest.sd
                compared.append(
                    {
                        "runs": n,
                        "estimate": name,
                        "visits": kept,
                        "retest_sd_percent": None if sd is None else 100 * sd,
                    }
                )
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", type=int, default=60)
    parser.add_argument("--setting", default="imagenet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backends", nargs="*", help="default: all that are usable here")
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.parquet")
    options = parser.parse_args()
    setting = parse_setting(options.setting)
    names = options.backends or [name for name in BACKENDS.names() if probe_backend(name).usable]
    result: Row = {
        "benchmark": "profiling",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "latkit_version": __version__,
        "architectures": options.architectures,
        "seed": options.seed,
        "backends": {},
    }
    all_rows: list[Row] = []
    for name in names:
        formats = BACKENDS.get(name).memory_formats
        used = setting
        if setting.memory_format not in formats:
            used = setting.replace(memory_format=formats[0])
        rows, facts = run_backend(name, used, options.architectures, options.seed)
        all_rows += rows
        summary = summarize(rows, options.architectures)
        result["backends"][name] = {
            "setting": used.to_dict(),
            "fingerprint": facts,
            "protocols": summary,
            "estimators": compare_estimators(rows),
        }
        print(
            f"{'protocol':10} {'CPU ms':>8} {'wall ms':>8} {'vs paper':>8} {'retest sd':>10} "
            f"{'robust':>8} {'Spearman':>9} {'disturbed':>10}"
        )
        for row in summary:
            print(
                f"{row['protocol']:10} {row['cpu_ms']:8.1f} {row['wall_ms']:8.1f} "
                f"{row['times_cheaper_than_paper']:7.2f}x {row['retest_sd_percent']:8.2f} % "
                f"{row['retest_sd_robust_percent']:6.2f} % {row['retest_spearman']:9.3f} "
                f"{row['disturbed_percent']:8.1f} % {row['cpu_ms_outside_runs']:10.1f} ms"
            )
    if options.out is not None:
        options.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
        pq.write_table(pa.Table.from_pylist(all_rows), options.out.with_suffix(".parquet"))


if __name__ == "__main__":
    main()
