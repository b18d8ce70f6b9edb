"""The accuracy LPM: predicts the accuracy of every sub-network from those that were evaluated."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from latkit.core.quantities import ACCURACY
from latkit.core.storage import Storage
from latkit.core.version import __version__
from latkit.dataset import Target
from latkit.lpm.base import FOLDS
from latkit.lpm.linear import MacsLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.store import LPMCard, write_lpm
from latkit.lpm.training import TrainedLPM, cross_validate, fit
from latkit.search.oneshot import ONE_SHOT
from latkit.search.oneshot.ranking import RANKED_BY, in_order, mean_score, signs_of
from latkit.spaces import SearchSpace, Setting
from latkit.spaces.setting import NetworkConfig

FOLDER = "lpm"
# Times the accuracy of a guess that a network has at least that has learnt something.
LEARNT = 2.0
# Of no device: what the card's target has in the places of a device and a backend.
DEVICE, BACKEND = ONE_SHOT, "supernet"


def fit_accuracy(
    space: SearchSpace,
    network: NetworkConfig,
    evaluated: Sequence[Mapping[str, Any]],
    initial: Sequence[Mapping[str, Any]],
    seed: int,
    protocol: Mapping[str, Any],
) -> TrainedLPM:
    """An LPM of the default kind of the accuracies of all sub-networks, cross-validated.

    The accuracies that were found are dealt out by the mean score of ``RANKED_BY``: their order is
    what shared weights are worst at.

    Args:
        space: of the sub-networks.
        network: around them in the one-shot network.
        evaluated: a row of each, as in ``subnets.parquet``.
        initial: and as in ``initial.parquet``.
        seed: of the folds, and of what is random in a fit.
        protocol: how they were evaluated, for the card.

    Raises:
        LPMError: training failed.
    """
    setting = Setting(network)
    ids = np.array([row["arch_id"] for row in evaluated], dtype=np.int64)
    matrix = space.from_file(ids, [row["arch"] for row in evaluated])
    signs = signs_of(space.name, network, matrix, evaluated, initial)
    values = in_order(signs[ACCURACY], mean_score([signs[name] for name in RANKED_BY]))
    rows = Rows(space, setting, space.encode(matrix).astype(np.float64), values, ACCURACY)
    recipe = Recipe(quantity=ACCURACY, seed=seed)
    started = time.perf_counter()
    lpm = fit(rows, recipe)
    fit_seconds = time.perf_counter() - started
    baseline = cross_validate(rows, Recipe(MacsLPM.name, quantity=ACCURACY, seed=seed))
    card = LPMCard(
        kind=lpm.name,
        cost=ACCURACY,
        target=Target(space.name, DEVICE, BACKEND, setting),
        fingerprint={},
        dataset={
            "digest": _digest(evaluated, values.tolist()),
            "rows": len(rows),
            "rows_left_out": 0,
            "architectures": len(rows),
            "retest_sd_percent": None,
            "accuracy_range_percent": [float(values.min()), float(values.max())],
            "protocol": {**protocol, "ranked_by": list(RANKED_BY)},
            "anchor": None,
            "anchor_median_ms": None,
        },
        metrics={
            **cross_validate(rows, recipe).to_dict(),
            "n_train": len(rows),
            "fit_seconds": fit_seconds,
        },
        baselines={"macs_only": baseline.to_dict()},
        training={"kind": recipe.kind, "seed": seed, "folds": FOLDS, **lpm.training_facts()},
        hyper_parameters=lpm.hyper_parameters,
        latkit_version=__version__,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return TrainedLPM(lpm, card)


def warnings_of(card: LPMCard) -> list[str]:
    """What a user should know before trusting the LPM to rank, one line each."""
    fix = "train longer (--epochs), or evaluate more of them (--subnets)"
    found: list[str] = []
    highest: Any = card.dataset["accuracy_range_percent"][1]
    guessed = 100 / card.target.setting.network.classes
    if highest < LEARNT * guessed:
        found.append(
            f"the best sub-network has {highest:.1f} %, and a guess {guessed:.1f} %: weights that "
            "have learnt so little rank nothing, and only the training-free measures do; train "
            "longer (--epochs), or several sub-networks a step (--paths)"
        )
    spearman: Any = card.metrics["spearman"]
    of_macs: Any = card.baselines["macs_only"]["spearman"]
    if spearman is None:
        return [*found, f"all sub-networks are as accurate, or predicted to be: {fix}"]
    if of_macs is not None and spearman <= of_macs:
        found.append(
            f"the accuracy LPM ranks sub-networks no better than a straight line in MACs (Spearman "
            f"{spearman:.3f} against {of_macs:.3f}): {fix}"
        )
    return found


def write_accuracy(out: Path, trained: TrainedLPM) -> None:
    """Write the LPM's files into the folder ``lpm`` of a search's.

    Raises:
        OSError: the folder cannot be written.
    """
    storage = Storage(str(out))
    storage.make_folder(FOLDER)
    write_lpm(storage, FOLDER, trained.lpm, trained.card)


def _digest(evaluated: Sequence[Mapping[str, Any]], values: Sequence[float]) -> str:
    """What identifies the sub-networks and what the LPM was fitted to."""
    content = [[row["arch"], value] for row, value in zip(evaluated, values, strict=True)]
    return f"sha256:{hashlib.sha256(json.dumps(content).encode()).hexdigest()}"
