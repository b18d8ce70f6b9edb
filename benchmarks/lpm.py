"""How many measurements an LPM needs: every kind, on public devices and on a device whose truth is
known. Prints JSON, progress to stderr.

    latkit profile --backend torch-cpu --device this-cpu --n 600 --out d
    python benchmarks/lpm.py --data ../shared/data --dataset d > benchmarks/results/DATE-lpm.json

Sections: ``nasbench201`` (connected cells of the public devices, against the default LPM's own
error at n = 5,000), ``transfer`` (each device from the others), ``fbnet`` (likewise), ``darts``
(a dataset of ``latkit profile``, given by ``--dataset``), ``simulator`` (the DARTS space with a
formula for a device: additive, or with a critical path, fusion and memory pressure; simulated, not
measured). Every number is a median over seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from latkit.core.device import cpu_name
from latkit.dataset import LatencyDataset
from latkit.lpm.base import LPM
from latkit.lpm.features import StructuralFeatures
from latkit.lpm.paper import PaperRecipe
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.selection import choose_active
from latkit.lpm.training import fit, judge
from latkit.lpm.transfer import TransferPrior
from latkit.spaces import SearchSpace, default_setting, get_preset, get_space

SEVEN = ("1080ti_1", "1080ti_256", "1080ti_32", "titanx_1", "titanx_256", "titanx_32",
         "silver_4210r")  # fmt: skip
BASELINES = ("macs-only", "op-count", "lookup-table", "gradient-boosting")
MEASURES = ("mape_percent", "spearman", "coverage_50", "coverage_90", "fit_seconds")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read(path: Path, space: SearchSpace) -> tuple[Any, dict[str, Any]]:
    """A choice matrix and, by device, latencies in ms (NaN where there is none)."""
    table = pq.read_table(path)
    matrix = np.concatenate([space.parse(text) for text in table["arch"].to_pylist()])
    names = [name for name in table.column_names if name.endswith("_ms")]
    return matrix, {n.removesuffix("_ms"): table[n].to_numpy() for n in names}


def connected(space: SearchSpace, matrix: Any) -> Any:
    """Rows whose output an input reaches."""
    features = StructuralFeatures.of(space, get_preset(default_setting(space.name)))
    x = torch.from_numpy(space.encode(matrix)).double()
    from_input, to_output = features.reach(x)
    on = (matrix >= 0) & (matrix != space.operations.index("none"))
    return np.flatnonzero((on & (from_input * to_output > 0).numpy()).any(1))


def judged(rows: Rows, order: Any, n: int, recipe: Recipe) -> dict[str, float]:
    """Metrics on all rows but the first ``n`` of an order, which an LPM is fitted to."""
    started = time.perf_counter()
    lpm = fit(rows.take(order[:n]), recipe)
    seconds = time.perf_counter() - started
    metrics = judge(lpm, rows.take(order[n:]))
    return {**metrics.to_dict(), "fit_seconds": seconds}


def medians(run: Callable[[int], dict[str, Any]], seeds: int) -> dict[str, float | None]:
    """Of each measure, the median over seeds; None where a predictor is constant."""
    found = [run(seed) for seed in range(seeds)]
    result: dict[str, float | None] = {}
    for name in MEASURES:
        values = [f[name] for f in found if f[name] is not None]
        result[name] = float(np.median(values)) if values else None
    return result


def order_of(n: int, seed: int) -> Any:
    return np.random.default_rng(seed).permutation(n)


def nasbench201(data: Path, seeds: int) -> dict[str, Any]:
    space = get_space("nasbench201")
    setting = get_preset("nasbench201")
    matrix, devices = read(data / "nasbench201" / "latency.parquet", space)
    pi_matrix, pi = read(data / "nasbench201" / "pi5_litert.parquet", space)
    result: dict[str, Any] = {}
    tables = {name: (matrix, ms) for name, ms in devices.items()}
    tables["pi5_litert"] = (pi_matrix, pi["latency"])
    for name, (cells, ms) in tables.items():
        use = connected(space, cells)
        rows = Rows(space, setting, space.encode(cells[use]).astype(np.float64), ms[use])

        def at(n: int, kind: str, rows: Rows = rows) -> dict[str, Any]:
            many = seeds if n < 900 else 1
            return medians(
                lambda s: judged(rows, order_of(len(rows), s), n, Recipe(kind, seed=s)), many
            )

        result[name] = {
            "default": {n: at(n, "default") for n in (10, 20, 50, 100, 300, 900, 5000)},
            **{kind: {n: at(n, kind) for n in (10, 50, 300, 900)} for kind in BASELINES},
        }
        say(f"nasbench201 {name}: {result[name]['default'][10]['mape_percent']:.2f} % at n=10")
    given = list(devices)

    def over(n: int, names: Any, measure: str = "mape_percent") -> list[float]:
        return [result[name]["default"][n][measure] for name in names]

    floor = np.array(over(5000, given))
    summary = {
        "median_ratio_to_own_floor": {
            n: float(np.median(np.array(over(n, given)) / floor)) for n in (10, 50)
        },
        "mean_mape_of_seven": {n: float(np.mean(over(n, SEVEN))) for n in (10, 50, 5000)},
        "median_coverage_90": {
            n: float(np.median(over(n, given, "coverage_90"))) for n in (10, 50, 900)
        },
        "devices_where_a_baseline_is_better": {
            n: [
                [name, kind]
                for name in tables
                for kind in BASELINES
                if result[name][kind][n]["mape_percent"]
                < result[name]["default"][n]["mape_percent"]
            ]
            for n in (10, 50, 300, 900)
        },
        "pixel3_spearman_at_50": result["pixel3"]["default"][50]["spearman"],
    }
    return {"summary": summary, "devices": result}


def transfer(
    path: Path, space_name: str, n: int, seeds: int, sources_n: int, only: Any = None
) -> dict[str, Any]:
    """Leave one device out: ``n`` active measurements of it, LPMs of the others."""
    space = get_space(space_name)
    setting = get_preset(default_setting(space_name))
    matrix, devices = read(path, space)
    use = connected(space, matrix) if "none" in space.operations else np.arange(len(matrix))
    x = space.encode(matrix[use]).astype(np.float64)
    rows = {name: Rows(space, setting, x, ms[use]) for name, ms in devices.items()}
    train = order_of(len(use), 77)[:sources_n]
    lpms: dict[str, LPM] = {name: fit(r.take(train), Recipe("default")) for name, r in rows.items()}
    say(f"{space_name}: {len(lpms)} sources fitted")
    result: dict[str, Any] = {}
    for name, own in rows.items():
        prior = TransferPrior.of(space, [(k, v) for k, v in lpms.items() if k != name])

        def run(seed: int, sources: TransferPrior | None, choose: str, own: Rows = own) -> Any:
            order = order_of(len(own), seed)
            if choose == "active":
                first = choose_active(space, setting, own.encodings[order], n, sources)
                order = np.concatenate([order[first], np.delete(order, first)])
            return judged(own, order, n, Recipe("default", seed=seed, transfer=sources))

        result[name] = {
            "transfer_active": medians(lambda s, p=prior, r=run: r(s, p, "active"), seeds),
            "alone_active": medians(lambda s, r=run: r(s, None, "active"), seeds),
            "alone_random": medians(lambda s, r=run: r(s, None, "random"), seeds),
        }
        say(f"{space_name} {name}: Spearman {result[name]['transfer_active']['spearman']:.3f}")

    def of(how: str, measure: str) -> Any:
        return np.array([result[name][how][measure] for name in result])

    loss = of("alone_active", "spearman") - of("transfer_active", "spearman")
    return {
        "n": n,
        "mean_spearman": {
            how: float(of(how, "spearman").mean())
            for how in ("transfer_active", "alone_active", "alone_random")
        },
        "largest_loss_of_spearman_by_transfer": float(loss.max()),
        "devices": result,
    }


def darts(path: Path, seeds: int) -> dict[str, Any]:
    """A dataset measured with ``latkit profile``."""
    dataset = LatencyDataset.open(path)
    rows = Rows.of(dataset)
    target = dataset.manifest.target
    retest = dataset.retest().sd
    sizes = [n for n in (10, 50, 200, 400) if n < 0.8 * len(rows)]
    result: dict[str, Any] = {}
    for kind in ("default", *BASELINES, "paper"):
        for n in sizes:
            result[f"{kind} {n}"] = medians(
                lambda s, k=kind, n=n: judged(rows, order_of(len(rows), s), n, Recipe(k, seed=s)),
                1 if kind == "paper" else seeds,
            )
            say(f"darts: {kind} {n}: {result[f'{kind} {n}']['mape_percent']:.2f} %")
    return {
        "target": str(target),
        "architectures": len(rows),
        "retest_sd_percent": None if retest is None else 100 * retest,
        "latency_ms": {"min": float(rows.values.min()), "max": float(rows.values.max())},
        **result,
    }


def simulated_ms(space: SearchSpace, matrix: Any, additive: bool) -> Any:
    """A made device of the DARTS space, in ms; no hardware behaves exactly so."""
    rng = np.random.default_rng(2026)
    base = np.array([0, 0.9, 0.9, 0.15, 3.2, 4.4, 1.7, 2.3])
    costs = base * rng.uniform(0.85, 1.15, (space.num_edges, space.num_operations))
    own = np.where(matrix >= 0, costs[np.arange(space.num_edges), np.maximum(matrix, 0)], 0)
    total = 12 + own.sum(1)
    if additive:
        return total
    arrival = np.zeros((len(matrix), 6))
    fan = np.zeros((len(matrix), 6))
    fused = np.zeros(len(matrix))
    for index, edge in enumerate(space.edges):
        on = matrix[:, index] >= 0
        way = np.where(on, arrival[:, edge.source] + own[:, index], 0)
        arrival[:, edge.target] = np.maximum(arrival[:, edge.target], way)
        fan[:, edge.source] += on
        for other in range(index):
            if space.edges[other].source == edge.source:
                same = on & (matrix[:, other] == matrix[:, index])
                fused += np.where(same, 0.25 * own[:, index], 0)
    path = arrival[:, 2:].max(1)
    pressure = 0.4 * np.maximum(fan - 2, 0).sum(1) ** 1.5
    return 12 + 0.45 * own.sum(1) + 0.8 * path - fused + pressure


def simulator(seeds: int, paper_n: int) -> dict[str, Any]:
    space, setting = get_space("darts"), get_preset("imagenet")
    ids = space.sample(paper_n + 5000, 0)
    matrix = space.unrank(ids)
    x = space.encode(matrix).astype(np.float64)
    result: dict[str, Any] = {}
    for name, additive in (("additive", True), ("critical path, fusion, memory", False)):
        truth = simulated_ms(space, matrix, additive)
        noisy = truth * (1 + 0.02 * np.random.default_rng(1).normal(size=len(truth)))
        test = Rows(space, setting, x[paper_n:], truth[paper_n:])
        measured = Rows(space, setting, x[paper_n:], noisy[paper_n:])
        own: dict[str, Any] = {}
        plan = [("default", n) for n in (10, 50, 200, 1000, 5000)]
        plan += [("lookup-table", 1000), ("macs-only", 1000)]
        plan += [("paper", n) for n in (1000, 5000, paper_n)]
        for kind, n in plan:
            for seed in range(1 if kind == "paper" else seeds):
                rows = order_of(paper_n, seed)[:n]
                train = Rows(space, setting, x[rows], noisy[rows])
                epochs = 1000 if n >= 2000 else None
                options = PaperRecipe(epochs=epochs) if kind == "paper" else None
                started = time.perf_counter()
                lpm = fit(train, Recipe(kind, seed=seed, options=options))
                seconds = time.perf_counter() - started
                # Intervals are of measurements; errors are told against the truth.
                covered = judge(lpm, measured).to_dict()
                found = judge(lpm, test).to_dict()
                found |= {name: covered[name] for name in ("coverage_50", "coverage_90")}
                gate = getattr(lpm, "gate", None)
                own.setdefault(f"{kind} {n}", []).append(
                    {
                        **{m: found[m] for m in MEASURES[:-1]},
                        "fit_seconds": seconds, "gate": gate,
                    }
                )  # fmt: skip
            say(f"simulator {name}: {kind} {n}: {own[f'{kind} {n}'][0]['mape_percent']:.2f} %")
        result[name] = {
            what: {
                m: None if runs[0][m] is None else float(np.median([r[m] for r in runs]))
                for m in runs[0]
            }
            for what, runs in own.items()
        }
    note = (
        "simulated, not measured; errors are against the noise-free truth, coverage of noisy rows"
    )
    return {"note": note, **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of nasbench201/ and fbnet/")
    parser.add_argument("--dataset", type=Path, help="a dataset of the DARTS space")
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--paper-n", type=int, default=20_000)
    parser.add_argument("--sections", default="nasbench201,transfer,fbnet,darts,simulator")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, seeds = arguments.data, arguments.seeds
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "simulator": lambda: simulator(seeds, arguments.paper_n),
    }
    if data is not None:
        latencies = data / "nasbench201" / "latency.parquet"
        sections |= {
            "nasbench201": lambda: nasbench201(data, seeds),
            "transfer": lambda: transfer(latencies, "nasbench201", 10, seeds, 900),
            "fbnet": lambda: transfer(data / "fbnet" / "latency.parquet", "fbnet", 20, seeds, 900),
        }
    if arguments.dataset is not None:
        sections["darts"] = lambda: darts(arguments.dataset, seeds)
    asked = [name for name in arguments.sections.split(",") if name in sections]
    result = {
        "date": date.today().isoformat(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": 1,
        "seeds": seeds,
        **{name: sections[name]() for name in asked},
    }
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
