"""Files of searches, trainings and measurements as their commands write them, made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latkit.spaces.darts.zoo import ZOO
from tests.support.synthetic import MICRO, SPACE

Json = dict[str, Any]


def network(name: str, predicted: float | None, measured: float | None, **changes: Any) -> Json:
    made = {
        "genotype": str(ZOO[name]), "predicted_ms": predicted, "predicted_std_ms": 0.5,
        "measured_ms": measured, "measured_at_profile_speed_ms": measured,
        "measured_relative_std": 0.01, "macs": 20_000_000, "params": 100_000,
    }  # fmt: skip
    return {**made, **changes}


def search(name: str = "gdas", device: str = "formula", **changes: Any) -> Json:
    """A result.json: 20 ms predicted and 21 measured, the reference 30 and 31.5."""
    row = SPACE.from_genotype(ZOO[name])
    made = {
        "genotype": str(ZOO[name]), "arch": SPACE.format(row[0]), "arch_id": 1,
        "found": network(name, 20.0, 21.0), "darts_v2": network("darts_v2", 30.0, 31.5),
        "found_genotype": network(name, None, 22.0),
        "searched_for": {"cost": "predicted", "name": "latency_ms", "unit": "ms", "found": 20.0,
                         "darts_v2": 30.0, "target_ms": None, "on_target": None, "devices": []},
        "measured": {"why_not": None, "visits": 8, "visits_disturbed": 0},
        "target": {"space": "darts", "device": device, "backend": "torch-cpu",
                   "setting": MICRO.to_dict()},
        "genotype_epoch": 2, "collapsed": False, "moved_from_ms": None,
        "lpm": f"{device}/torch-cpu/x@1",
        "lpm_metrics": {"mape_percent": 2.5, "spearman": 0.98, "n_test": 60},
        "lpms": [], "data": "digits", "searched_on": "cpu",
        "config": {"cells": 8, "channels": 16, "epochs": 50, "limit": None, "lambda_per_ms": 0.1},
        "epochs": [
            {"epoch": epoch, "val_accuracy": 0.3 * epoch, "expected_cost": 25.0 - epoch,
             "derived_predicted_ms": 24.0 - epoch}
            for epoch in (1, 2)
        ],
        "latkit_version": "0.1.0",
    }  # fmt: skip
    return {**made, **changes}


def sweep(**changes: Any) -> Json:
    """A sweep.json of three searches, of which the first and the last are on the front."""
    rows = [
        {"name": name, "cost": cost, "cost_unit": "ms", "predicted_ms": cost,
         "predicted_std_ms": 0.5, "measured_at_profile_speed_ms": None, "val_accuracy": accuracy,
         "macs": 20_000_000, "params": 100_000, "pareto": front}
        for name, cost, accuracy, front in (
            ("a", 20.0, 0.7, True), ("b", 25.0, 0.6, False), ("c", 30.0, 0.9, True),
        )
    ]  # fmt: skip
    rows.append({"name": "d", "error": "it failed. Fix: none"})
    return {"searches": rows, "latkit_version": "0.1.0", **changes}


def one_shot(**changes: Any) -> Json:
    """A one-shot search's result.json: two epochs, 40 sub-networks."""
    epochs = [{"epoch": e, "train_loss": 3.0 - e, "held_out_accuracy_percent": 20.0 * e}
              for e in (1, 2)]  # fmt: skip
    made = {
        "kind": "one-shot", "format_version": 1, "latkit_version": "0.1.0", "space": "darts",
        "network": {}, "config": {"cells": 5, "channels": 8, "epochs": 2, "limit": 2048},
        "data": {"name": "digits"}, "searched_on": "cpu",
        "history": {"epochs": 2, "seconds": 5.0, "last": epochs[-1]}, "epochs": epochs,
        "subnets": {"count": 40, "images": 768, "batch": 256, "best_arch": "",
                    "accuracy_percent": {"lowest": 20.0, "median": 30.0, "highest": 40.0}},
        "accuracy_lpm": {"quantity": "accuracy_percent", "kind": "default",
                         "cross_validated": {"spearman": 0.7, "kendall_tau": 0.5},
                         "baselines": {"macs_only": {"spearman": 0.4}}},
    }  # fmt: skip
    return {**made, **changes}


def retargeted(**changes: Any) -> Json:
    """A result.json of retargeting: a front of two, one of them measured, and one more measured."""

    def point(arch_id: int, percent: float, predicted: float, measured: float | None) -> Json:
        cost = {"lpm": "formula/torch-cpu/x@1", "cost": "latency_ms", "unit": "ms",
                "predicted_ms": predicted, "predicted_std_ms": 0.5,
                "corrected_ms": predicted + 1, "corrected_std_ms": 0.4,
                "measured_ms": measured, "measured_error_ms": measured and 0.1}  # fmt: skip
        return {"arch_id": arch_id, "accuracy_percent": percent, "accuracy_std_percent": 2.0,
                "costs": [cost], "macs": 20_000_000, "params": 100_000}  # fmt: skip

    target = {"space": "darts", "device": "formula", "backend": "torch-cpu",
              "setting": MICRO.to_dict()}  # fmt: skip
    texts = {"genotype": str(ZOO["gdas"]), "arch": "gdas"}
    made = {
        "kind": "retarget", "format_version": 1, "latkit_version": "0.1.0",
        "points": [{"name": "p1", **texts, **point(1, 30.0, 10.0, 11.5)},
                   {"name": "p2", "genotype": "-", "arch": "b", **point(2, 40.0, 20.0, None)}],
        "space": "darts", "setting": MICRO.to_dict(), "accuracy_lpm": "run/lpm",
        "wanted": ["latency on formula at most 25 ms"],
        "devices": [{"lpm": "formula/torch-cpu/x@1", "target": target, "known_ms": [5, 60],
                     "measured": 2, "why_not": None}],
        "evaluated": 100, "exhaustive": False, "warnings": ["it ranks badly"],
        "others": [point(3, 35.0, 15.0, 30.0)],
    }  # fmt: skip
    return {**made, **changes}


def training(name: str = "gdas", mean: float = 20.0, **changes: Any) -> Json:
    history = [
        {"epoch": epoch, "train_loss": 1.0, "train_error_percent": 50.0, "test_loss": 1.0,
         "test_error_percent": mean + 10 * (2 - epoch), "learning_rate": 0.1, "seconds": 1.0}
        for epoch in (1, 2)
    ]  # fmt: skip
    made = {
        "kind": "training", "format_version": 1, "latkit_version": "0.1.0", "space": "darts",
        "genotype": str(ZOO[name]), "arch": "", "network": {}, "config": {}, "preset": "cpu-small",
        "data": {"name": "CIFAR-10", "train_images": 50000, "test_images": 10000, "classes": 10},
        "scaled_down": True, "params": 100_000, "macs": 20_000_000, "trained_on": "cpu",
        "seeds": [{"seed": s, "test_error_percent": mean, "history": history} for s in (0, 1)],
        "test_error_percent": {"mean": mean, "low": mean - 1, "high": mean + 1, "confidence": 0.95},
    }  # fmt: skip
    return {**made, **changes}


def measured_row(name: str, latency_ms: float, **changes: Any) -> Json:
    made = {
        "what": name, "name": name, "genotype": None, "space": None, "params": 3_000_000,
        "macs": 500_000_000, "input": [1, 3, 224, 224], "batch": 1, "precision": "fp32",
        "latency_ms": latency_ms, "error_ms": 0.1, "p50_ms": latency_ms, "p90_ms": latency_ms,
        "p99_ms": latency_ms, "max_ms": 2 * latency_ms, "runs": 100,
        "throughput_per_s": 1000 / latency_ms, "pause_ms": 0, "peak_memory_mb": None,
        "energy_mj": None, "flags": [], "layers": None, "layers_explained": None,
        "published_ms": None, "published_device": None, "published_error_percent": None,
    }  # fmt: skip
    return {**made, **changes}


def measurement(device: str = "formula", **changes: Any) -> Json:
    """A measurement.json: of two networks, one with a published latency and its layers."""
    layers = [{"operator": "Conv", "count": 3, "ms": 9.0, "share": 0.9}]
    rows = [
        measured_row("darts_v2", 10.0, published_ms=28.5, published_device="Tesla P100",
                     layers=layers, layers_explained=0.9),
        measured_row("gdas", 12.0, genotype=str(ZOO["gdas"])),
    ]  # fmt: skip
    made = {
        "kind": "measurement", "format_version": 1, "latkit_version": "0.1.0", "device": device,
        "backend": "torch-cpu", "hardware": "none", "fingerprint": {"cpu": "none"}, "protocol": {},
        "table": "imagenet", "rows": rows,
    }  # fmt: skip
    return {**made, **changes}


def fit() -> Json:
    """What latkit train-lpm --learning-curve --json printed."""
    curve = [
        {"n_train": n, "mae_ms": mape / 5, "mape_percent": mape, "spearman": 0.9,
         "coverage_90": 90.0, "fit_seconds": 0.5}
        for n, mape in ((10, 8.0), (100, 4.0))
    ]  # fmt: skip
    target = {"space": "darts", "device": "formula", "backend": "torch-cpu"}
    return {"cost": "latency_ms", "metrics": {}, "baselines": {}, "training": {}, "target": target,
            "learning_curve": curve}  # fmt: skip


def benchmark() -> Json:
    return {"benchmark": "made", "date": "2026-11-27", "note": "simulated, not measured",
            "results": {"a": {"ms": 1.25, "name": "x"}, "b": [2, 3]}}  # fmt: skip


def write(path: Path, content: Json) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_all(folder: Path) -> Path:
    """One of each kind that is JSON, below a folder."""
    write(folder / "s" / "result.json", search())
    write(folder / "s2" / "result.json", search("darts_v1", device="other"))
    write(folder / "sweep" / "sweep.json", sweep())
    write(folder / "t" / "training.json", training())
    write(folder / "m" / "measurement.json", measurement())
    write(folder / "m2" / "measurement.json", measurement("other"))
    write(folder / "fit.json", fit())
    write(folder / "made.json", benchmark())
    return folder
