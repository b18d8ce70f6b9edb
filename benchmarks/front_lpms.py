"""What ``fronts.py`` knows of cells: their true values, or what LPMs of some of them predict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.front_judge import SPACE, Cells, Numbers, Table
from latkit.core.quantities import ACCURACY, LATENCY
from latkit.core.storage import Storage
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.store import read_lpm
from latkit.lpm.training import fit
from latkit.lpm.transfer import TransferPrior
from latkit.search.objectives import Objective, PredictedObjective, evaluate
from latkit.spaces import get_preset

MEASURED, SOURCE_MEASURED = 10, 900
SETTING = get_preset("nasbench201")


class Tabulated(Objective):
    """A number of each cell that is known already.

    Attributes:
        values: the numbers, by identifier.
    """

    def __init__(self, quantity: str, unit: str, values: Numbers) -> None:
        self.quantity, self.unit, self.values = quantity, unit, values
        self._values = torch.tensor(values)

    def __call__(self, encodings: Tensor) -> Tensor:
        return self._values[torch.from_numpy(SPACE.rank(SPACE.decode(encodings.numpy())))]


def encodings(cells: Cells) -> Numbers:
    return SPACE.encode(SPACE.unrank(cells)).astype(np.float64)


def learnt(
    cells: Cells,
    values: Numbers,
    quantity: str,
    seed: int,
    transfer: TransferPrior | None = None,
) -> PredictedObjective:
    """A default LPM of some cells' values."""
    rows = Rows(SPACE, SETTING, encodings(cells), values, quantity)
    recipe = Recipe(quantity=quantity, seed=seed, transfer=transfer)
    return PredictedObjective(fit(rows, recipe), quantity)


def everywhere(objective: Objective) -> Tabulated:
    """Evaluated once for all cells: the accuracies are the same for every device."""
    values = evaluate(SPACE, objective, SPACE.unrank(np.arange(SPACE.size)))
    return Tabulated(objective.quantity, objective.unit, values)


def some(n: int, seed: int) -> Cells:
    return np.random.default_rng(seed).permutation(SPACE.size)[:n]


def true_accuracy(table: Table) -> Tabulated:
    return Tabulated(ACCURACY, "%", table.accuracy)


def oracle(table: Table, n: int, seed: int) -> PredictedObjective:
    """An LPM of the true accuracies of ``n`` random cells."""
    cells = some(n, 1000 + seed)
    return learnt(cells, table.accuracy[cells], ACCURACY, seed)


def of_supernet(folder: Path) -> PredictedObjective:
    """The accuracy LPM of a one-shot search."""
    lpm, _ = read_lpm(Storage(str(folder)), "lpm")
    return PredictedObjective(lpm, ACCURACY)


# Of each device one LPM a seed.
LPMs = dict[str, list[PredictedObjective]]


def predicted_latencies(
    table: Table, cells: int, seeds: int, priors: Mapping[str, TransferPrior] | None = None
) -> tuple[LPMs, float]:
    """Of each device, LPMs of ``cells`` random cells, one a seed; and the CPU seconds of one.

    Args:
        table: of all devices.
        cells: how many are measured.
        seeds: how many LPMs.
        priors: of each device, made of the other ones; None: none.
    """
    started = time.process_time()
    lpms: LPMs = {}
    for device, latency in table.latency.items():
        prior = None if priors is None else priors[device]
        lpms[device] = []
        for seed in range(seeds):
            ids = some(cells, seed)
            lpms[device].append(learnt(ids, latency[ids], LATENCY, seed, prior))
    return lpms, (time.process_time() - started) / (seeds * len(lpms))


def transfer_priors(table: Table) -> dict[str, TransferPrior]:
    """Of each device, LPMs of the other ones, each from ``SOURCE_MEASURED`` cells."""
    ids = some(SOURCE_MEASURED, 3000)
    lpms = {
        name: learnt(ids, latency[ids], LATENCY, 0).lpm for name, latency in table.latency.items()
    }
    return {
        device: TransferPrior.of(SPACE, [(k, lpm) for k, lpm in lpms.items() if k != device])
        for device in lpms
    }
