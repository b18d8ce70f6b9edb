"""Sections on LPMs: their errors, predictions against measurements, and learning curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.core.errors import LatkitError
from latkit.core.quantities import LATENCY
from latkit.lpm.metrics import Metrics, coverage, prediction_metrics
from latkit.lpm.prediction import PublishedLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.training import split_rows
from latkit.reports.figures.charts import Spot, Trace
from latkit.reports.page.bins import hexagons, strips
from latkit.reports.page.blocks import (
    Block,
    Column,
    DensityFigure,
    Evidence,
    LinesFigure,
    Remark,
    Section,
    SpotsFigure,
    Table,
    with_evidence,
)
from latkit.reports.page.content import Content
from latkit.reports.page.data_sections import evidence_in, evidence_of
from latkit.reports.page.inputs import Inputs, MadeDataset
from latkit.reports.page.runs import short_reference

# More rows are drawn as hexagons.
MOST_SPOTS = 400
# Of which an LPM's errors are known well enough.
MOST_JUDGED = 10_000
LEVEL = 0.9
# Table 1: architectures trained on, absolute error in ms, relative error in %.
TABLE_1 = (
    (10_000, 1.79, 8.09), (20_000, 1.41, 6.23), (40_000, 1.09, 4.79), (60_000, 0.84, 3.57),
    (80_000, 0.82, 3.45),
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """An LPM's predictions of a dataset's rows.

    Attributes:
        measured, predicted, half_width: ``n`` numbers each; the latter of the 90 % intervals.
        names: of the architectures, texts of their space.
        held_out: whether it is known that the LPM was not trained on them.
        metrics: of the predictions.
        covered_percent: how many measurements are in their intervals.
    """

    measured: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    half_width: npt.NDArray[np.float64]
    names: tuple[str, ...]
    held_out: bool
    metrics: Metrics
    covered_percent: float


def judge_on(lpm: PublishedLPM, made: MadeDataset) -> Judged | None:
    """An LPM's predictions of a dataset of its target; None where it is of another one.

    Of the dataset that it was trained on the held-out rows count alone, where it is known which
    they are.
    """
    target = made.dataset.manifest.target
    if lpm.target != target or lpm.quantity not in made.dataset.quantities:
        return None
    rows = Rows.of(made.dataset, lpm.quantity)
    chosen, held_out = np.arange(len(rows)), False
    if made.dataset.digest(lpm.quantity) == lpm.card.dataset.get("digest"):
        test = _held_out(lpm, made, rows)
        if test is not None:
            chosen, held_out = test, True
    if not len(chosen):
        return None
    if len(chosen) > MOST_JUDGED:
        chosen = np.random.default_rng(0).permutation(chosen)[:MOST_JUDGED]
    judged = rows.take(chosen)
    predicted = lpm.predict_encodings(judged.encodings)
    half_width = lpm.lpm.predict_half_width(judged.encodings, LEVEL)
    names: tuple[str, ...] = ()
    if len(chosen) <= MOST_SPOTS:
        texts = made.dataset.usable()["arch"].to_pylist()
        names = tuple(texts[row] for row in chosen.tolist())
    return Judged(
        measured=judged.values,
        predicted=predicted,
        half_width=half_width,
        names=names,
        held_out=held_out,
        metrics=prediction_metrics(predicted, judged.values, lpm.quantity),
        covered_percent=coverage(predicted - judged.values, half_width),
    )


def _held_out(lpm: PublishedLPM, made: MadeDataset, rows: Rows) -> npt.NDArray[np.int64] | None:
    """The rows that an LPM of this very dataset was judged by; None: it cannot be known."""
    training, count = lpm.card.training, lpm.card.metrics.get("n_train")
    if training.get("choose", "random") != "random" or not isinstance(count, int):
        return None
    recipe = Recipe(quantity=lpm.quantity, seed=int(training.get("seed", 0)), n_train=count)
    try:
        return split_rows(made.dataset, rows, recipe)[1]
    except LatkitError:
        return None


def lpm_section(inputs: Inputs) -> Section | None:
    """The errors of LPMs, and what they predict of the datasets that are here."""
    if not inputs.lpms:
        return None
    rows = []
    for lpm in inputs.lpms:
        card = lpm.card
        metrics, line = card.metrics, card.baselines.get("macs_only", {})
        suffix = card.quantity.suffix
        rows.append(
            (short_reference(lpm.reference), f"{lpm.target.device} ({lpm.target.backend})",
             str(card.training.get("kind", card.kind)), metrics.get("n_train"),
             metrics.get("n_test"), metrics.get(f"mae_{suffix}"), card.quantity.unit,
             metrics.get("mape_percent"), metrics.get("spearman"), metrics.get("coverage_90"),
             line.get("mape_percent"), line.get("spearman"))
        )  # fmt: skip
    evidence = tuple(dict.fromkeys(lpm_evidence(lpm) for lpm in inputs.lpms))
    columns = (
        Column("LPM"), Column("device"), Column("kind"), Column("trained on", (), 0),
        Column("held out", (), 0), Column("error (MAE)", evidence, 3), Column("unit"),
        Column("error (MAPE), %", evidence, 2), Column("Spearman", evidence, 3),
        Column("in 90 % interval, %", evidence, 1),
        Column("MAPE of a line in MACs, %", evidence, 2),
        Column("Spearman of it", evidence, 3),
    )  # fmt: skip
    blocks: list[Block] = [
        Table(
            "Errors on held-out architectures",
            columns,
            tuple(rows),
            note="predictions against measurements that the LPM was not trained on",
        )
    ]
    for lpm in inputs.lpms:
        blocks += [
            Remark(f"{short_reference(lpm.reference)}: {w}.", (), True) for w in lpm.warnings
        ]
        for made in inputs.datasets:
            judged = judge_on(lpm, made)
            if judged is not None:
                blocks += _predictions(lpm, made, judged)
    return Section("lpms", "Predicted against measured", tuple(blocks))


def lpm_evidence(lpm: PublishedLPM) -> Evidence:
    """What the errors on its card are errors against."""
    published = lpm.card.dataset.get("digest") == "published"
    return "published" if published else evidence_in(lpm.card.fingerprint)


def _predictions(lpm: PublishedLPM, made: MadeDataset, judged: Judged) -> Iterator[Block]:
    noun, unit, n = lpm.card.quantity.noun, lpm.unit, len(judged.measured)
    which = "held-out architectures" if judged.held_out else "architectures"
    title = f"LPM {short_reference(lpm.reference)} on {n:,} {which} of {made.name}"
    metrics = judged.metrics
    off = 100 * float(np.median(np.abs(judged.predicted / judged.measured - 1)))
    words = (
        f"Predicted {noun} against measured, {n:,} {which}: off by {metrics.mape_percent:.2f} % in "
        f"the mean and {off:.2f} % in the median; "
        f"{judged.covered_percent:.0f} % of the measurements are in their 90 % intervals."
    )
    evidence = with_evidence(evidence_of(made), "predicted")
    x_label, y_label = f"measured, {unit}", f"predicted, {unit}"
    if n <= MOST_SPOTS:
        spots = tuple(
            Spot(name, float(m), float(p), float(p - w), float(p + w))
            for name, m, p, w in zip(
                judged.names, judged.measured, judged.predicted, judged.half_width, strict=True
            )
        )
        yield SpotsFigure(
            title=title, description=f"{words} Bars: the 90 % intervals.", evidence=evidence,
            spots=spots, diagonal=True, x_label=x_label, y_label=y_label,
        )  # fmt: skip
    else:
        found, size = hexagons(judged.measured, judged.predicted)
        widths = strips(judged.measured, judged.half_width)
        x = tuple(strip.x for strip in widths)
        band = Trace(
            "90 % interval", x, x,
            tuple(s.x - s.mean for s in widths), tuple(s.x + s.mean for s in widths),
        )  # fmt: skip
        yield DensityFigure(
            title=title,
            description=f"{words} The stronger a hexagon, the more architectures; band: the mean "
            "90 % interval around equal values.",
            evidence=evidence, hexagons=found, size=size, traces=(band,), diagonal=True,
            x_label=x_label, y_label=y_label,
        )  # fmt: skip
    if not judged.held_out:
        yield Remark(
            f"It is not known which architectures of {made.name} the LPM was trained on: its "
            "error on them may be smaller than on new ones."
        )


def curve_section(inputs: Inputs) -> Section | None:
    """Learning curves, beside the paper's Table 1."""
    blocks: list[Block] = []
    for fit in inputs.fits:
        points = fit.objects("learning_curve")
        if points:
            blocks += _curve(fit, points)
    if not blocks:
        return None
    published = tuple((n, mae, mape) for n, mae, mape in TABLE_1)
    blocks.append(
        Table(
            "Table 1 of the paper: a Tesla P100, 20,000 held-out architectures",
            (
                Column("trained on", ("published",), 0),
                Column("MAE, ms", ("published",), 2),
                Column("MAPE, %", ("published",), 2),
            ),
            published,
        )
    )
    return Section("learning", "Learning curve", tuple(blocks))


def _curve(fit: Content, points: Sequence[Content]) -> Iterator[Block]:
    cost = fit.optional_text("cost") or LATENCY
    mae = f"mae_{cost.rpartition('_')[2]}"
    unit = mae.removeprefix("mae_")
    sizes = tuple(point.number("n_train") for point in points)
    mape = tuple(point.number("mape_percent") for point in points)
    kind = fit.optional_text("kind")
    device = f"{fit.text('target.device')} ({fit.text('target.backend')})"
    title = f"Learning curve on {device}" + ("" if kind is None else f", kind {kind}")
    yield LinesFigure(
        title=title,
        description=f"Relative error on the same held-out architectures from {sizes[0]:,.0f} to "
        f"{sizes[-1]:,.0f} architectures trained on: from {mape[0]:.2f} to {mape[-1]:.2f} %.",
        evidence=("measured",),
        x_label="architectures trained on",
        y_label="error (MAPE), %",
        traces=(Trace("", sizes, mape, points=True),),
        zero=True,
        log=True,
    )
    rows: list[tuple[Any, ...]] = [
        (point.number("n_train"), point.optional_number(mae), point.number("mape_percent"),
         point.optional_number("spearman"), point.optional_number("coverage_90"),
         point.optional_number("fit_seconds"))
        for point in points
    ]  # fmt: skip
    columns = (
        Column("trained on", (), 0), Column(f"MAE, {unit}", ("measured",), 3),
        Column("MAPE, %", ("measured",), 2), Column("Spearman", ("measured",), 3),
        Column("in 90 % interval, %", ("measured",), 1), Column("fit, s", ("measured",), 2),
    )  # fmt: skip
    yield Table(f"{title}, from {fit.source}", columns, tuple(rows))
