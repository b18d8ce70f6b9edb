"""Datasets and LPMs made by formula, labelled as such, where measuring would only add noise."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from latkit.core.quantities import LATENCY
from latkit.core.storage import Storage
from latkit.dataset import LatencyDataset, Manifest, Target
from latkit.dataset.writer import DatasetWriter
from latkit.lpm.recipe import Recipe
from latkit.lpm.store import read_lpm, write_lpm
from latkit.lpm.training import TrainedLPM, train_lpm
from latkit.profiling.protocol import Protocol
from latkit.spaces import Setting, get_space
from latkit.spaces.architecture import architecture_cost, architecture_costs
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.zoo import ZOO

MICRO = Setting(DartsConfig(macro="cifar", cells=3, channels=4, resolution=8, classes=10))
# Milliseconds an operation adds, in the order of the space's operations.
OPERATION_MS = np.array([0, 0.5, 0.8, 0.1, 2.0, 3.0, 1.0, 1.5])
# What no sum of the operations' latencies is: energies of a formula of their own.
OPERATION_MJ = np.array([0, 5.0, 3.0, 1.0, 2.0, 9.0, 4.0, 8.0])
METRICS = ("energy_mj", "peak_memory_mb")
SPACE = get_space("darts")


def formula_ms(arch_ids: Any, scale: float = 1.0) -> np.ndarray[Any, Any]:
    """Ten milliseconds and the sum of the operations' own."""
    per_edge = SPACE.encode(SPACE.unrank(arch_ids)).reshape(-1, SPACE.num_edges, 8)
    return np.asarray(scale * (10 + (per_edge @ OPERATION_MS).sum(axis=1)))


def formula_mj(arch_ids: Any) -> np.ndarray[Any, Any]:
    """Forty millijoules and the sum of the operations' own."""
    per_edge = SPACE.encode(SPACE.unrank(arch_ids)).reshape(-1, SPACE.num_edges, 8)
    return np.asarray(40 + (per_edge @ OPERATION_MJ).sum(axis=1))


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
    kept = _keep(f"dataset-{device}-{n}-{scale}", lambda to: _write(to, n, device, scale))
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return LatencyDataset.open(folder)


def both_dataset(folder: Path, n: int = 120, device: str = "formula") -> LatencyDataset:
    """Latency and energy by formulas, and a memory that is the same for all."""
    kept = _keep(f"both-{device}-{n}", lambda to: _write_both(to, n, device))
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return LatencyDataset.open(folder)


def made_lpm(folder: Path, device: str = "formula", scale: float = 1.0) -> TrainedLPM:
    """An LPM of a made dataset, trained until it knows the operations apart.

    It is trained once in a session, of one device: others' cards are copies that name them.
    """
    made_dataset(folder, 300, device, scale)
    return _trained(f"lpm-{scale}", device, lambda to: made_dataset(to, 300, scale=scale), LATENCY)


def both_lpm(cost: str, device: str = "formula") -> TrainedLPM:
    """An LPM of one quantity of :func:`both_dataset`; trained once in a session."""
    return _trained(f"both-{cost}", device, both_dataset, cost)


def _trained(
    name: str, device: str, make: Callable[[Path], LatencyDataset], cost: str
) -> TrainedLPM:
    def train(folder: Path) -> None:
        made = train_lpm(make(folder / "dataset"), Recipe(quantity=cost))
        (folder / "lpm").mkdir()
        write_lpm(Storage(str(folder)), "lpm", made.lpm, made.card)

    lpm, card = read_lpm(Storage(str(_keep(name, train))), "lpm")
    target = dataclasses.replace(card.target, device=device)
    return TrainedLPM(lpm, dataclasses.replace(card, target=target))


def formula_lpm(
    folder: Path,
    setting: Setting,
    operation_values: Sequence[float],
    device: str = "formula",
    quantity: str = LATENCY,
) -> TrainedLPM:
    """An LPM of any space: of a quantity that is 10 and what each operation adds.

    Args:
        folder: of the dataset.
        setting: whose space it is.
        operation_values: in the order of the space's operations.
        device: its name.
        quantity: the latency, or one of ``METRICS``.
    """
    space, n = get_space(setting.space), 300
    matrix = space.unrank(space.sample(n, 0))
    values = formula_values(matrix, operation_values).tolist()
    target = Target(space.name, device, "torch-cpu", setting)
    metrics = () if quantity == LATENCY else (quantity,)
    costs = architecture_costs(space, matrix, setting)
    ids = space.file_ids(matrix).tolist()
    with DatasetWriter(folder, made_manifest(n, target=target, metrics=metrics)) as writer:
        for arch_id, row, value, cost in zip(ids, matrix, values, costs, strict=True):
            numbers = {"latency_ms": value, quantity: value}
            place = {"arch_id": arch_id, "arch": space.format(row)}
            size = {"macs": cost.macs, "params": cost.params}
            writer.append({**made_row(0, value), **place, **size, **numbers})
    return train_lpm(LatencyDataset.open(folder), Recipe("op-count", quantity=quantity))


def formula_values(matrix: Any, operation_values: Sequence[float]) -> np.ndarray[Any, Any]:
    """10 and what the operations of each row of a choice matrix add."""
    return np.asarray(10 + np.asarray(operation_values)[matrix].sum(axis=-1))


# --- what is made once in a session -----------------------------------------------------------

# The folder that a session's processes share; tests/conftest.py names it.
SHARED_FOLDER = "LATKIT_TESTS_SHARED_FOLDER"


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """Where no session named a folder; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="latkit-synthetic-")


def _keep(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of a name, which the first process that needs it makes."""
    root = Path(os.environ.get(SHARED_FOLDER) or _own_folder().name)
    folder = root / name
    with FileLock(root / f"{name}.lock"):
        if not folder.exists():
            begun = root / f"{name}.begun"
            shutil.rmtree(begun, ignore_errors=True)
            make(begun)
            begun.rename(folder)
    return folder


def _write(folder: Path, n: int, device: str, scale: float) -> None:
    ids = SPACE.sample(n, 0)
    with DatasetWriter(folder, made_manifest(n, device)) as writer:
        for arch_id, latency in zip(ids.tolist(), formula_ms(ids, scale).tolist(), strict=True):
            writer.append(made_row(arch_id, latency))


def _write_both(folder: Path, n: int, device: str) -> None:
    ids = SPACE.sample(n, 0)
    with DatasetWriter(folder, made_manifest(n, device, metrics=METRICS)) as writer:
        for arch_id, ms, mj in zip(ids.tolist(), formula_ms(ids), formula_mj(ids), strict=True):
            writer.append(made_row(arch_id, float(ms), energy_mj=float(mj), peak_memory_mb=7.0))
