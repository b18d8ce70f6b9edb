"""The same search for two targets, and what each found measured on both; a sweep over λ; controls.

    python benchmarks/retarget.py --data ../shared/data/cifar10 --out work > benchmarks/results/...

Runs the commands a user would: ``profile`` and ``train-lpm`` for PyTorch in NCHW (where max-pooling
is dear) and for ONNX Runtime, ``search --preset cpu`` (scaled down: 5 cells, C = 8, 4 epochs of
2,048 images) from the same seeds with each LPM; then measures each seed's cells in both targets,
in alternation. These searches are of PC-DARTS and ask for the same share of DARTS_V2's predicted
latency on both. (DARTS of so few epochs, or a large λ, ends in skip connections and few
convolutions on both: of such cells, that with fewer convolutions is faster on both.) The sweep over
λ (in units of one over DARTS_V2's predicted latency, which mean the same on any device), the
control by multiply-adds and the search with noise (paper, Tables 1, 3 and 4) are of DARTS and the
second target. What was done is kept in ``--out``: an interrupted run goes on. Prints JSON, progress
to stderr.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.commands import Commands
from latkit.backends import BACKENDS
from latkit.core.device import cpu_name
from latkit.profiling.protocol import PRESETS
from latkit.profiling.session import measure
from latkit.spaces import get_space, parse_setting
from latkit.spaces.darts.zoo import get_genotype

TARGETS = {
    "nchw": ("torch-cpu", "imagenet,memory_format=nchw"),
    "ort": ("onnxruntime-cpu", "imagenet,memory_format=nchw"),
}
SHARES = (0.0, 0.5, 1.0, 2.0)
TARGET_SHARE = 0.6
SEEDS = tuple(range(6))
VISITS = 8


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """What of a search's result is told."""
    found, last = result["found"], result["epochs"][-1]
    return {
        "genotype": result["genotype"],
        "predicted_ms": found["predicted_ms"],
        "measured_at_profile_speed_ms": found["measured_at_profile_speed_ms"],
        "macs": found["macs"],
        "params": found["params"],
        "supernet_val_accuracy": last["val_accuracy"],
        "seconds": result["seconds"],
    }


def measure_crossed(archs: dict[str, str]) -> dict[str, Any]:
    """The cells found for each target, measured in every target, in alternation."""
    space: Any = get_space("darts")
    crossed: dict[str, Any] = {}
    for name, (backend_name, text) in TARGETS.items():
        setting = parse_setting(text)
        reduction = get_genotype(setting.network.reduction)
        cells = [space.genotype(space.parse(arch)[0], reduction) for arch in archs.values()]
        with BACKENDS.get(backend_name)() as backend:
            times = measure(backend, cells, setting, PRESETS["standard"], VISITS)
        own = times[list(archs).index(name)].latency_ms
        crossed[f"measured in {name}"] = {
            f"cell found for {other}": {
                "latency_ms": its.latency_ms,
                "relative_std": its.relative_std,
                "over_own": its.latency_ms / own,
            }
            for other, its in zip(archs, times, strict=True)
        }
    return crossed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100)
    arguments = parser.parse_args()
    out, data = arguments.out, arguments.data
    latkit = Commands(out).latkit
    lpms: dict[str, Any] = {}
    unit_lambda: dict[str, float] = {}
    for name, (backend, setting) in TARGETS.items():
        latkit("profile", "--backend", backend, "--device", name, "--setting", setting,
               "--protocol", "fast", "--n", str(arguments.n), "--out", str(out / name))  # fmt: skip
        kept = out / f"{name}.json"
        if not kept.exists():  # a second training would be a second version, and another search
            kept.write_text(json.dumps(latkit("train-lpm", str(out / name))))
        card = json.loads(kept.read_text())
        lpms[name] = {m: card["metrics"][m] for m in ("mape_percent", "spearman", "n_train")}
        reference = latkit("predict", "--device", f"{name}@1", "darts_v2")
        unit_lambda[name] = 1 / reference["predictions"][0]["latency_ms"]

    def search(name: str, folder: str, *more: str) -> Any:
        return latkit("search", "--device", f"{name}@1", "--data", data, "--preset", "cpu",
                      "--out", str(out / folder), *more)  # fmt: skip

    retargeted = []
    for seed in SEEDS:
        found = {
            name: search(name, f"target-{name}-{seed}", "--method", "pc-darts", "--seed", str(seed),
                         "--target-ms", f"{TARGET_SHARE / unit_lambda[name]:.4f}")
            for name in TARGETS
        }  # fmt: skip
        retargeted.append(
            {
                "seed": seed,
                "found": {name: brief(result) for name, result in found.items()},
                **measure_crossed({name: result["arch"] for name, result in found.items()}),
            }
        )
    unit = unit_lambda["ort"]
    sweep = search("ort", "sweep", "--sweep-lambda", ",".join(f"{s * unit:.6f}" for s in SHARES))
    noise = search("ort", "noise", "--lambda", f"{unit:.6f}", "--lpm-noise", f"{0.025 / unit:.6f}")
    reference_macs = noise["darts_v2"]["macs"] / 1e6
    control = search("ort", "macs", "--cost", "macs", "--lambda", f"{1 / reference_macs:.6f}")
    content = {
        "date": date.today().isoformat(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "preset": "cpu (scaled down)",
        "lpms": lpms,
        "one_over_predicted_darts_v2_per_ms": unit_lambda,
        "target_share_of_darts_v2": TARGET_SHARE,
        "retargeted": retargeted,
        "sweep": sweep,
        "noise": {"sd_ms": 0.025 / unit, **brief(noise)},
        "macs_control": brief(control),
    }
    json.dump(content, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
