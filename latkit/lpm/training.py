"""From datasets to a trained LPM and its card."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from latkit import __version__
from latkit.dataset import LatencyDataset
from latkit.errors import DatasetError
from latkit.lpm.base import LPM
from latkit.lpm.metrics import macs_only_predictions, prediction_metrics
from latkit.lpm.paper import PaperRecipe, train_paper_lpm
from latkit.lpm.store import LPMCard
from latkit.spaces import get_space

TRAIN_SHARE = 0.8
# Below this, a fifth is too few to tell an error from.
MIN_ARCHITECTURES = 20


@dataclass(frozen=True)
class TrainedLPM:
    """An LPM and its card."""

    lpm: LPM
    card: LPMCard


def train_lpm(
    dataset: LatencyDataset,
    recipe: PaperRecipe,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> TrainedLPM:
    """Train the paper's LPM on 80 % of a dataset's architectures and judge it on the rest.

    Disturbed rows are left out; repeated visits of an architecture are averaged.

    Raises:
        DatasetError: too few usable architectures, or rows that are not of the space.
        LPMError: training diverged.
    """
    space = get_space(dataset.manifest.target.space)
    rows = dataset.usable()
    if rows.num_rows < MIN_ARCHITECTURES:
        measured = dataset.architectures
        disturbed = int((dataset.flagged & ~dataset.in_panel).sum())
        enough = measured + MIN_ARCHITECTURES - rows.num_rows
        raise DatasetError(
            f"{dataset.path} has {rows.num_rows} usable architectures of {measured} measured "
            f"({disturbed} visits disturbed), training needs {MIN_ARCHITECTURES}",
            f"measure more: repeat its latkit profile command with --n {enough} or more",
        )
    encodings = space.encode(space.unrank(rows["arch_id"].to_numpy())).astype(np.float64)
    latency_ms = rows["latency_ms"].to_numpy()
    macs = rows["macs"].to_numpy().astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(latency_ms))
    split = int(TRAIN_SHARE * len(order))
    train, test = order[:split], order[split:]

    started = time.perf_counter()
    lpm = train_paper_lpm(encodings[train], latency_ms[train], recipe, seed, on_epoch)
    fit_seconds = time.perf_counter() - started
    metrics = prediction_metrics(lpm.predict(encodings[test]), latency_ms[test])
    metrics |= {"n_train": len(train), "fit_seconds": fit_seconds}
    rmse = metrics["rmse_ms"]
    assert rmse is not None
    lpm.std_ms = float(rmse)
    baseline = prediction_metrics(
        macs_only_predictions(macs[train], latency_ms[train], macs[test]), latency_ms[test]
    )
    card = LPMCard(
        kind=lpm.kind,
        cost="latency_ms",
        target=dataset.manifest.target,
        fingerprint=dataset.manifest.fingerprint,
        dataset={
            "digest": dataset.digest(),
            "rows": int((~dataset.in_panel).sum()),
            "rows_left_out": int((dataset.flagged & ~dataset.in_panel).sum()),
            "architectures": rows.num_rows,
            "retest_sd_percent": _percent(dataset.retest().sd),
            "latency_range_ms": [float(latency_ms.min()), float(latency_ms.max())],
            "protocol": dataset.manifest.protocol,
            "anchor": dataset.manifest.anchor,
            "anchor_median_ms": dataset.anchor_median_ms,
        },
        metrics=metrics,
        baselines={"macs_only": baseline},
        training={
            **dataclasses.asdict(recipe),
            "epochs": recipe.epochs_for(len(train)),
            "seed": seed,
            "train_share": TRAIN_SHARE,
        },
        hyper_parameters=lpm.hyper_parameters,
        latkit_version=__version__,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return TrainedLPM(lpm, card)


def warnings_of(card: LPMCard) -> list[str]:
    """What a user should know before trusting an LPM, one line each."""
    lines = []
    ours: Any = card.metrics["mape_percent"]
    theirs: Any = card.baselines["macs_only"]["mape_percent"]
    if card.metrics["spearman"] is None:
        lines.append("the LPM predicts the same latency for every architecture: it has collapsed")
    elif ours >= theirs:
        lines.append(
            f"no better than a straight line in MACs (MAPE {ours:.2f} % against {theirs:.2f} %): "
            "measure more architectures"
        )
    if not card.training["standardize"] and card.dataset["latency_range_ms"][1] > 100:
        lines.append("raw targets above 100 ms: the paper's recipe needs --standardize there")
    return lines


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
