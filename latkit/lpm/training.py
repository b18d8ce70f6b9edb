"""From a dataset to a trained LPM and its card."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.core.errors import DatasetError, LPMError
from latkit.core.events import SILENT, Listener, Progress
from latkit.core.quantities import get_quantity
from latkit.core.version import __version__
from latkit.dataset import LatencyDataset
from latkit.lpm.base import FOLDS, LPM, FloatArray
from latkit.lpm.kinds import LPM_KINDS, kind_in_file
from latkit.lpm.linear import MacsLPM
from latkit.lpm.metrics import Metrics, coverage, prediction_metrics
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.selection import MAX_CANDIDATES, choose_active
from latkit.lpm.store import LPMCard
from latkit.lpm.threads import one_thread

IntArray = npt.NDArray[np.int64]

TRAIN_SHARE = 0.8
# Below this, a fifth is too few to judge an error by, and the paper's network learns nothing.
MIN_ARCHITECTURES = 20
MIN_JUDGES = 5
# Of the intervals that cards have the coverage of.
_JUDGED_LEVELS = (0.5, 0.9)


@dataclass(frozen=True)
class TrainedLPM:
    """An LPM and its card."""

    lpm: LPM
    card: LPMCard


@dataclass(frozen=True)
class LearningPoint:
    """An LPM trained on some architectures, judged on the learning curve's held-out ones.

    Attributes:
        n_train: architectures it was trained on.
        fit_seconds: what that took.
        metrics: on the held-out architectures.
    """

    n_train: int
    fit_seconds: float
    metrics: Metrics

    def to_dict(self) -> dict[str, float | int | None]:
        return self.metrics.to_dict() | {"n_train": self.n_train, "fit_seconds": self.fit_seconds}


def train_lpm(dataset: LatencyDataset, recipe: Recipe, listener: Listener = SILENT) -> TrainedLPM:
    """Train an LPM on a part of a dataset's architectures and judge it on the rest.

    Raises:
        DatasetError: too few usable architectures, rows that are not of the space, or the
            recipe's quantity was not measured.
        LPMError: training failed.
    """
    quantity = get_quantity(recipe.quantity)
    rows = Rows.of(dataset, quantity.name)
    train, test = split_rows(dataset, rows, recipe)
    started = time.perf_counter()
    lpm = _fit(rows.take(train), recipe, listener)
    fit_seconds = time.perf_counter() - started
    judged = rows.take(test)
    point = LearningPoint(len(train), fit_seconds, judge(lpm, judged))
    line = MacsLPM.fit(rows.take(train), recipe)
    baseline = prediction_metrics(line.predict(judged.encodings), judged.values, quantity.name)
    card = LPMCard(
        kind=lpm.name,
        cost=quantity.name,
        target=dataset.manifest.target,
        fingerprint=dataset.manifest.fingerprint,
        dataset={
            "digest": dataset.digest(quantity.name),
            "rows": int((~dataset.in_panel).sum()),
            "rows_left_out": dataset.disturbed,
            "architectures": len(rows),
            "retest_sd_percent": _percent(dataset.retest(quantity.name).sd),
            quantity.range_key: [float(rows.values.min()), float(rows.values.max())],
            "protocol": dataset.manifest.protocol,
            "anchor": dataset.manifest.anchor,
            "anchor_median_ms": dataset.anchor_median_ms,
        },
        metrics=point.to_dict(),
        baselines={"macs_only": baseline.to_dict()},
        training=_training(dataset, recipe, lpm),
        hyper_parameters=lpm.hyper_parameters,
        latkit_version=__version__,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return TrainedLPM(lpm, card)


def split_rows(dataset: LatencyDataset, rows: Rows, recipe: Recipe) -> tuple[IntArray, IntArray]:
    """Row numbers to train on and to judge by.

    Raises:
        DatasetError: there are too few.
    """
    wanted = recipe.n_train
    needed = MIN_ARCHITECTURES if wanted is None else wanted + 1
    if len(rows) < needed:
        measured = dataset.architectures
        enough = measured + needed - len(rows)
        raise DatasetError(
            f"{dataset.path} has {len(rows)} usable architectures of {measured} measured "
            f"({dataset.disturbed} measurements disturbed), training needs {needed}",
            f"measure more: repeat its latkit profile command with --n {enough} or more",
        )
    size = int(TRAIN_SHARE * len(rows)) if wanted is None else wanted
    order: IntArray = np.random.default_rng(recipe.seed).permutation(len(rows))
    if recipe.choose == "active" and wanted is not None:  # else all but a random fifth are taken
        order = _most_informative_first(rows, order, size, recipe)
    return order[:size], order[size:]


def _most_informative_first(rows: Rows, order: IntArray, n: int, recipe: Recipe) -> IntArray:
    """An order of rows that begins with the ``n`` most informative ones."""
    encodings = rows.encodings[order]
    chosen = choose_active(rows.space, rows.setting, encodings, n, recipe.transfer)
    return np.concatenate([order[chosen], np.delete(order, chosen)])


def fit(rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> LPM:
    """An LPM of all the rows, with its intervals.

    Those of a kind that does not model its own error are calibrated by the errors of further LPMs,
    each on the fifth of the rows that it was not trained on; where training takes long (``paper``),
    of one.

    Raises:
        LPMError: too few rows, or training failed.
    """
    lpm = _fit(rows, recipe, listener)
    if lpm.needs_calibration:
        lpm.calibrate(_out_of_fold_errors(rows, recipe))
    return lpm


def _out_of_fold_errors(rows: Rows, recipe: Recipe) -> FloatArray:
    folds = min(FOLDS, len(rows))
    if folds < 2:
        raise LPMError("one architecture leaves none to judge an LPM by", "measure more")
    order = np.random.default_rng(recipe.seed).permutation(len(rows))
    errors = []
    for fold in range(min(folds, LPM_KINDS.get(recipe.kind).calibration_fits)):
        held_out = order[fold::folds]
        lpm = _fit(rows.take(np.setdiff1d(order, held_out)), recipe)
        judged = rows.take(held_out)
        errors.append(lpm.predict(judged.encodings) - judged.values)
    return np.concatenate(errors)


def _fit(rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> LPM:
    """An LPM that is not calibrated."""
    return LPM_KINDS.get(recipe.kind).fit(rows, recipe, listener)


@one_thread()
def cross_validate(rows: Rows, recipe: Recipe) -> Metrics:
    """Metrics of predictions of each row by an LPM that was fitted to all but a fifth of them.

    Raises:
        LPMError: too few rows, or training failed.
    """
    order = np.random.default_rng(recipe.seed).permutation(len(rows))
    predicted = np.zeros(len(rows))
    widths = {level: np.zeros(len(rows)) for level in _JUDGED_LEVELS}
    for fold in range(FOLDS):
        held_out = order[fold::FOLDS]
        encodings = rows.encodings[held_out]
        lpm = fit(rows.take(np.setdiff1d(order, held_out)), recipe)
        predicted[held_out] = lpm.predict(encodings)
        for level, width in widths.items():
            width[held_out] = lpm.predict_half_width(encodings, level)
    metrics = prediction_metrics(predicted, rows.values, rows.quantity)
    return _with_coverage(metrics, predicted - rows.values, widths)


def _with_coverage(
    metrics: Metrics, errors: FloatArray, widths: Mapping[float, FloatArray]
) -> Metrics:
    """Metrics with those of the intervals, of each level the half-widths."""
    covered = {
        f"coverage_{round(100 * level)}": coverage(errors, width) for level, width in widths.items()
    }
    return dataclasses.replace(metrics, **covered)  # type: ignore[arg-type]


@one_thread()
def judge(lpm: LPM, rows: Rows) -> Metrics:
    """Metrics of an LPM on rows it was not fitted to.

    Of an LPM that needs calibration, the errors of every second row give its intervals, and the
    others judge these.
    """
    predicted = lpm.predict(rows.encodings)
    error = predicted - rows.values
    calibrating = np.arange(len(rows)) % 2 == 0
    judging = np.ones(len(rows), dtype=bool)
    if lpm.needs_calibration:
        lpm.calibrate(error[calibrating])
        judging = ~calibrating if len(rows) > 1 else calibrating
    widths = {
        level: lpm.predict_half_width(rows.encodings[judging], level) for level in _JUDGED_LEVELS
    }
    metrics = prediction_metrics(predicted, rows.values, rows.quantity)
    return _with_coverage(metrics, error[judging], widths)


def learning_curve(
    dataset: LatencyDataset, recipe: Recipe, listener: Listener = SILENT
) -> tuple[LearningPoint, ...]:
    """Metrics on the same held-out fifth of LPMs trained on ever more architectures.

    The paper's Table 1 for this dataset: sizes 1, 2 and 5 times powers of ten, and all there are.

    Raises:
        DatasetError: too few usable architectures, or the recipe's quantity was not measured.
    """
    rows = Rows.of(dataset, recipe.quantity)
    train, test = split_rows(dataset, rows, dataclasses.replace(recipe, n_train=None))
    if recipe.choose == "active":
        train = _most_informative_first(rows, train, min(len(train), MAX_CANDIDATES), recipe)
    steps = sorted({m * 10**k for k in range(1, 7) for m in (1, 2, 5)})
    sizes = [n for n in steps if n < len(train)] + [len(train)]
    curve = []
    for done, n in enumerate(sizes, start=1):
        started = time.perf_counter()
        lpm = _fit(rows.take(train[:n]), recipe)
        seconds = time.perf_counter() - started
        curve.append(LearningPoint(n, seconds, judge(lpm, rows.take(test))))
        listener.progress(Progress("training sets", done, len(sizes), 0, f"{n} architectures"))
    listener.end_progress()
    return tuple(curve)


def warnings_of(card: LPMCard) -> list[str]:
    """What a user should know before trusting an LPM, one line each.

    Raises:
        LPMError: the LPM's kind is a plug-in that does not load.
    """
    lines = []
    quantity = card.quantity
    mape: Any = card.metrics["mape_percent"]
    mape_of_macs: Any = card.baselines["macs_only"]["mape_percent"]
    few = card.metrics["n_test"] < MIN_JUDGES
    if few:
        lines.append(
            f"only {card.metrics['n_test']} architectures judge the LPM: its metrics are uncertain"
        )
    elif card.metrics["spearman"] is None:
        lines.append(
            f"the LPM predicts the same {quantity.noun} for every architecture: it has collapsed"
        )
    elif mape >= mape_of_macs and card.training["kind"] != MacsLPM.name:
        lines.append(
            f"no better than a straight line in MACs (MAPE {mape:.2f} % against "
            f"{mape_of_macs:.2f} %): measure more architectures"
        )
    kind = kind_in_file(card.kind)
    return lines if kind is None else [*lines, *kind.warnings(card)]


def _training(dataset: LatencyDataset, recipe: Recipe, lpm: LPM) -> dict[str, Any]:
    """How it was trained, as the card has it."""
    facts: dict[str, Any] = {"kind": recipe.kind, "seed": recipe.seed, "choose": recipe.choose}
    facts |= lpm.training_facts()
    if recipe.transfer is not None:
        facts |= {"from_devices": list(recipe.transfer.names)}
    return facts | {"digest": recipe.digest(dataset)}


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
