"""Datasets and LPMs made by formula, labelled as such, where measuring would only add noise."""

from __future__ import annotations

import copy
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from latkit.dataset import LatencyDataset, Manifest, Target
from latkit.dataset.writer import DatasetWriter
from latkit.lpm.recipe import Recipe
from latkit.lpm.training import TrainedLPM, train_lpm
from latkit.profiling.protocol import Protocol
from latkit.spaces import Setting, get_space
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.zoo import ZOO

MICRO = Setting(DartsConfig(macro="cifar", cells=3, channels=4, resolution=8, classes=10))
# Milliseconds an operation adds, in the order of the space's operations.
OPERATION_MS = np.array([0, 0.5, 0.8, 0.1, 2.0, 3.0, 1.0, 1.5])
SPACE = get_space("darts")


def formula_ms(arch_ids: Any, scale: float = 1.0) -> np.ndarray[Any, Any]:
    """Ten milliseconds and the sum of the operations' own."""
    per_edge = SPACE.encode(SPACE.unrank(arch_ids)).reshape(-1, SPACE.num_edges, 8)
    return np.asarray(scale * (10 + (per_edge @ OPERATION_MS).sum(axis=1)))


def made_manifest(n: int, device: str = "formula", **changes: Any) -> Manifest:
    target = Target("darts", device, "torch-cpu", MICRO)
    values = {"target": target, "fingerprint": {"cpu": "none: made by formula"}, "seed": 0,
              "protocol": Protocol().to_dict(), "anchor": "darts_v2", "requested": n}  # fmt: skip
    return Manifest(**{**values, **changes})


def made_row(arch_id: int, latency_ms: float, visit: int = 0, **changes: Any) -> dict[str, Any]:
    matrix = SPACE.unrank(arch_id)
    cost = architecture_cost(SPACE.genotype(matrix[0], ZOO["darts_v2"]), MICRO)
    row = {
        "arch_id": arch_id, "arch": SPACE.format(matrix[0]), "latency_ms": latency_ms,
        "latency_std_ms": 0.0, "ratio_to_anchor": latency_ms / 10, "samples_ms": [latency_ms] * 6,
        "anchor_samples_ms": [10.0, 10.0], "clock": "cpu", "wall_ms": latency_ms, "visit": visit,
        "measured_at": 1_700_000_000_000_000, "flags": [], "macs": cost.macs,
        "params": cost.params,
    }  # fmt: skip
    return {**row, **changes}


def made_dataset(
    folder: Path, n: int = 200, device: str = "formula", scale: float = 1.0
) -> LatencyDataset:
    """``n`` architectures whose latency is :func:`formula_ms`; each call has a copy of its own."""
    shutil.copytree(_dataset(n, device, scale), folder, dirs_exist_ok=True)
    return LatencyDataset.open(folder)


def made_lpm(folder: Path, device: str = "formula", scale: float = 1.0) -> TrainedLPM:
    """An LPM of a made dataset, trained until it knows the operations apart.

    It is trained once in a process; the dataset and the card are copies.
    """
    made_dataset(folder, 300, device, scale)
    trained = _trained(device, scale)
    return TrainedLPM(trained.lpm, copy.deepcopy(trained.card))


# Removed when the process ends.
_KEPT = tempfile.TemporaryDirectory(prefix="latkit-made-")


@functools.cache
def _dataset(n: int, device: str, scale: float) -> Path:
    folder = Path(_KEPT.name, f"{device}-{n}-{scale}")
    ids = SPACE.sample(n, 0)
    with DatasetWriter(folder, made_manifest(n, device)) as writer:
        for arch_id, latency in zip(ids.tolist(), formula_ms(ids, scale).tolist(), strict=True):
            writer.append(made_row(arch_id, latency))
    return folder


@functools.cache
def _trained(device: str, scale: float) -> TrainedLPM:
    return train_lpm(LatencyDataset.open(_dataset(300, device, scale)), Recipe("default"))
