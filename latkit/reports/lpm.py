"""LPMs: their errors, their cards, and how they compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latkit.core.quantities import Quantity, get_quantity
from latkit.lpm.prediction import Predictions, PublishedLPM
from latkit.lpm.store import LPMCard
from latkit.lpm.training import LearningPoint
from latkit.registry import TrainResult
from latkit.registry.listing import ComparedLPM, ListedLPM
from latkit.reports.parts import Caution, Note, Part, Table, number
from latkit.tasks.trainings import TrainedDataset

COLUMNS = (
    "space", "device", "backend", "setting", "cost", "version", "kind", "MAPE %", "Spearman",
    "trained on",
)  # fmt: skip
METRIC_ROWS = (
    ("relative error (MAPE), %", "mape_percent", 2),
    ("within 5 %, % of networks", "within_5_percent", 1),
    ("within 10 %, % of networks", "within_10_percent", 1),
    ("Spearman", "spearman", 3),
    ("Kendall tau", "kendall_tau", 3),
    ("within its 50 % interval, %", "coverage_50", 1),
    ("within its 90 % interval, %", "coverage_90", 1),
)


def training_parts(result: TrainResult) -> Iterator[Part]:
    """A trained LPM's errors, and its learning curve where there is one."""
    card, entry = result.card, result.entry
    name = f"{card.target.device} ({card.training['kind']})"
    if entry:
        name = f"{entry.short_reference}@{entry.version}"
    yield Table(
        f"LPM {name} on {card.metrics['n_test']} held-out networks "
        f"(trained on {card.metrics['n_train']})",
        ["", "LPM", "straight line in MACs"],
        metric_rows(card),
    )
    if result.learning_curve is not None:
        yield _curve(result.learning_curve, card.quantity)
    retest = card.dataset["retest_sd_percent"]
    if retest is not None:
        yield Note(f"one measurement of the dataset repeats to {number(retest, 2)} % (retest sd)")


def trained_datasets_table(rows: Sequence[TrainedDataset]) -> Table:
    """What became of each of several datasets."""
    columns = ["dataset", "LPM", "MAPE %", "Spearman", "trained on", "state"]
    return Table(f"LPMs of {len(rows)} datasets", columns, [_dataset_cells(row) for row in rows])


def _dataset_cells(row: TrainedDataset) -> list[str]:
    if row.card is None:
        code = "" if row.error is None else row.error.code
        return [str(row.dataset), *[number(None)] * 4, f"not trained ({code})"]
    name, state = row.card.target.device, "not published"
    if row.entry is not None:
        name = f"{row.entry.short_reference}@{row.entry.version}"
        state = "published" if row.is_new else "already published"
    metrics = row.card.metrics
    scores = [number(metrics["mape_percent"], 2), number(metrics["spearman"], 3)]
    return [str(row.dataset), name, *scores, str(metrics["n_train"]), state]


def metric_rows(card: LPMCard) -> list[list[str]]:
    """The metrics of an LPM and its baseline as table rows."""
    quantity, baseline = card.quantity, card.baselines["macs_only"]
    absolute = (f"absolute error (MAE), {quantity.unit}", f"mae_{quantity.suffix}", 3)
    return [
        [label, number(card.metrics.get(key), digits), number(baseline.get(key), digits)]
        for label, key, digits in (absolute, *METRIC_ROWS)
    ]


def _curve(curve: Sequence[LearningPoint], quantity: Quantity) -> Table:
    """The paper's Table 1, of this dataset."""
    rows = [
        [
            str(point.n_train),
            *(
                number(value, 3)
                for value in (
                    point.metrics.mae,
                    point.metrics.mape_percent,
                    point.metrics.spearman,
                    point.metrics.coverage_90,
                    point.fit_seconds,
                )
            ),
        ]
        for point in curve
    ]
    names = [
        "trained on",
        f"MAE {quantity.unit}",
        "MAPE %",
        "Spearman",
        "in 90 % interval",
        "fit, s",
    ]
    return Table("learning curve, same held-out networks", names, rows)


def predictions_parts(predictions: Predictions) -> Iterator[Part]:
    """Predictions, each with its error."""
    quantity = get_quantity(predictions.quantity)
    yield Table(
        f"predicted by {predictions.lpm}",
        ["architecture", f"{quantity.noun} {quantity.unit}", f"± {quantity.unit}"],
        [[row.given, number(row.value, 3), number(row.std, 3)] for row in predictions],
    )
    slug = predictions.target.setting.slug
    yield Note(f"of the setting {slug}; ± holds two thirds of measurements")


def listing_table(url: str, lpms: Sequence[ListedLPM]) -> Table:
    """Every version of a registry with its error."""
    rows = [
        [
            lpm.entry.space,
            lpm.entry.device,
            lpm.entry.backend,
            lpm.entry.setting,
            lpm.entry.cost,
            str(lpm.entry.version),
            lpm.card.kind,
            number(lpm.card.metrics["mape_percent"], 2),
            number(lpm.card.metrics["spearman"], 3),
            str(lpm.card.metrics["n_train"]),
        ]
        for lpm in lpms
    ]
    return Table(f"LPMs in {url}", COLUMNS, rows)


def card_parts(lpm: PublishedLPM) -> Iterator[Part]:
    """An LPM's card: its errors, and what it was made of."""
    card = lpm.card
    yield Table(
        f"LPM {lpm.reference} ({card.kind}, {card.created_at})",
        ["", "LPM", "straight line in MACs"],
        metric_rows(card),
    )
    facts = {
        **card.fingerprint,
        **{f"dataset {name}": value for name, value in card.dataset.items()},
        **{f"training {name}": value for name, value in card.training.items()},
    }
    yield Table(
        "made of", ["fact", "value"], [[name, str(v)] for name, v in facts.items() if v is not None]
    )
    for warning in lpm.warnings:
        yield Caution(warning)


def comparison_table(space: str, lpms: Sequence[ComparedLPM]) -> Table:
    """LPMs beside each other."""
    rows = [
        [
            lpm.reference,
            lpm.card.kind,
            number(lpm.card.metrics["mape_percent"], 2),
            number(lpm.card.metrics["spearman"], 3),
            f"{number(lpm.median_predicted, 2)} {lpm.card.quantity.unit}",
            number(lpm.spearman_with_first, 3),
        ]
        for lpm in lpms
    ]
    names = ["LPM", "kind", "MAPE %", "Spearman", "median", "Spearman with the first"]
    return Table(f"LPMs of {space}", names, rows)
