"""Accuracy LPMs made by formula, as a one-shot search leaves them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from latkit.core.quantities import ACCURACY
from latkit.core.storage import Storage
from latkit.lpm.store import write_lpm
from latkit.lpm.training import TrainedLPM


def as_accuracy(made: TrainedLPM) -> TrainedLPM:
    """What the energy is, taken for an accuracy: it rises with other operations than latency."""
    dataset = {**made.card.dataset, "accuracy_range_percent": [0.0, 100.0]}
    return TrainedLPM(made.lpm, dataclasses.replace(made.card, cost=ACCURACY, dataset=dataset))


def write_run(folder: Path, energy: TrainedLPM) -> Path:
    """The folder of a search that has ended, with the accuracy LPM in it."""
    (folder / "lpm").mkdir(parents=True)
    made = as_accuracy(energy)
    write_lpm(Storage(str(folder)), "lpm", made.lpm, made.card)
    return folder
