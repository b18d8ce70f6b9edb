"""LPMs of what was profiled: the default one and the paper's, beside a straight line in MACs."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu_parts.part import Context
from benchmarks.gpu_parts.profiles import dataset_folder

METRICS = ("mape_percent", "spearman", "n_train", "n_test", "fit_seconds")


def train(context: Context) -> None:
    """``latkit train-lpm`` on each dataset; only the default LPMs are published."""
    told = []
    batches = (1, 32) if context.cuda else (1,)
    names = ("torch-cuda", "torch-cuda-graph") if context.cuda else ("torch-cpu",)
    for batch in batches:
        for name in names:
            folder = dataset_folder(context, name, batch)
            if not folder.exists():
                context.check(f"{name}, batch {batch}, was profiled", False)
                continue
            kinds: dict[str, Any] = {}
            for kind in ("default", "paper"):
                options = ["--no-publish"] if kind == "paper" else []
                if kind == "paper" and context.quick:
                    options += ["--epochs", "20"]
                card = context.latkit("train-lpm", folder, "--kind", kind, *options)
                kinds[kind] = {key: card["metrics"].get(key) for key in METRICS}
                kinds["macs_only"] = card["baselines"]["macs_only"]
            context.record(**{f"{name}, batch {batch}": kinds})
            told.append(
                f"{name} b{batch}: default {kinds['default']['mape_percent']:.1f} %, paper "
                f"{kinds['paper']['mape_percent']:.1f} %, MACs "
                f"{kinds['macs_only']['mape_percent']:.1f} %"
            )
            context.figure("; ".join(told[:2]))
