"""From datasets to a trained LPM and its card."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from latkit import __version__
from latkit.core.errors import DatasetError, InputError, LPMError
from latkit.core.quantities import LATENCY, get_cost
from latkit.dataset import LatencyDataset
from latkit.lpm.base import LPM, FloatArray
from latkit.lpm.boosting import BoostingLPM, fit_boosting
from latkit.lpm.default import DefaultLPM, fit_default
from latkit.lpm.linear import LinearKind, fit_linear
from latkit.lpm.metrics import coverage, prediction_metrics
from latkit.lpm.paper import PaperRecipe, train_paper_lpm
from latkit.lpm.seen_errors import SeenErrors
from latkit.lpm.selection import MAX_CANDIDATES, choose_active
from latkit.lpm.store import LPMCard
from latkit.lpm.threads import one_thread
from latkit.lpm.transfer import SourcePrior
from latkit.spaces import SearchSpace, Setting, get_space

IntArray = npt.NDArray[np.int64]

KINDS = ("default", "paper", *get_args(LinearKind), BoostingLPM.kind)
CHOICES = ("random", "active")
TRAIN_SHARE = 0.8
# Below this, a fifth is too few to tell an error from, and the paper's network learns nothing.
MIN_ARCHITECTURES = 20
MIN_TRAIN = 2
MIN_JUDGES = 5
# Of rows: each is held out from an LPM once, to tell intervals by.
PARTS = 5


@dataclass(frozen=True)
class Recipe:
    """How an LPM is trained.

    Attributes:
        kind: one of ``KINDS``.
        n_train: architectures to train on; None: four fifths.
        choose: ``random``, or ``active``: the next one is where the ``default`` LPM is least sure,
            given those before.
        seed: of the choice, and of whatever is random in training.
        paper: of the kind ``paper``.
        sources: other devices' LPMs of the same cost that the ``default`` kind may lean on.
        cost: what is learnt, one of ``latkit.core.quantities.COSTS``.
    """

    kind: str = "default"
    n_train: int | None = None
    choose: str = "random"
    seed: int = 0
    paper: PaperRecipe = field(default_factory=PaperRecipe)
    sources: SourcePrior | None = None
    cost: str = LATENCY

    def __post_init__(self) -> None:
        get_cost(self.cost)
        for name, value, allowed in (("kind", self.kind, KINDS), ("choose", self.choose, CHOICES)):
            if value not in allowed:
                raise InputError(f"unknown {name} {value!r}", f"use one of: {', '.join(allowed)}")
        if self.sources is not None and self.kind != "default":
            raise InputError(
                f"the kind {self.kind} learns nothing from other devices", "use --kind default"
            )


@dataclass(frozen=True)
class Rows:
    """What of a dataset an LPM is trained on: one row an architecture.

    Attributes:
        encodings: ``n x E*O``.
        values: ``n`` costs, in the cost's unit.
        cost: its name.
    """

    space: SearchSpace
    setting: Setting
    encodings: FloatArray
    values: FloatArray
    cost: str = LATENCY

    @classmethod
    def of(cls, dataset: LatencyDataset, cost: str = LATENCY) -> Rows:
        """The usable rows: disturbed ones are left out, an architecture's visits averaged.

        Raises:
            DatasetError: the cost was not measured.
            SpaceError: a row is not of the space.
        """
        if cost not in dataset.costs:
            raise DatasetError(
                f"{dataset.path} has no {cost} (it has: {', '.join(dataset.costs)})",
                "train for a cost it has (--cost), or profile or import it again with this one",
            )
        target = dataset.manifest.target
        space = get_space(target.space)
        table = dataset.usable()
        matrix = space.from_file(table["arch_id"].to_numpy(), table["arch"].to_pylist())
        return cls(
            space,
            target.setting,
            space.encode(matrix).astype(np.float64),
            table[cost].to_numpy(),
            cost,
        )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: IntArray) -> Rows:
        """Some of the rows."""
        return dataclasses.replace(self, encodings=self.encodings[rows], values=self.values[rows])


@dataclass(frozen=True)
class TrainedLPM:
    """An LPM and its card."""

    lpm: LPM
    card: LPMCard


def train_lpm(
    dataset: LatencyDataset,
    recipe: Recipe,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> TrainedLPM:
    """Train an LPM on a part of a dataset's architectures and judge it on the rest.

    Raises:
        DatasetError: too few usable architectures, rows that are not of the space, or the
            recipe's cost was not measured.
        LPMError: training failed.
    """
    cost = get_cost(recipe.cost)
    rows = Rows.of(dataset, cost.name)
    train, test = split_rows(dataset, rows, recipe)
    started = time.perf_counter()
    lpm = _fit(rows.take(train), recipe, on_epoch)
    fit_seconds = time.perf_counter() - started
    judged = rows.take(test)
    metrics = judge(lpm, judged) | {"n_train": len(train), "fit_seconds": fit_seconds}
    line = fit_linear("macs-only", rows.space, rows.setting, *_values(rows.take(train)))
    baseline = prediction_metrics(line.predict(judged.encodings), judged.values, cost.name)
    card = LPMCard(
        kind=lpm.kind,
        cost=cost.name,
        target=dataset.manifest.target,
        fingerprint=dataset.manifest.fingerprint,
        dataset={
            "digest": dataset.digest(cost.name),
            "rows": int((~dataset.in_panel).sum()),
            "rows_left_out": int((dataset.flagged & ~dataset.in_panel).sum()),
            "architectures": len(rows),
            "retest_sd_percent": _percent(dataset.retest(cost.name).sd),
            cost.range_key: [float(rows.values.min()), float(rows.values.max())],
            "protocol": dataset.manifest.protocol,
            "anchor": dataset.manifest.anchor,
            "anchor_median_ms": dataset.anchor_median_ms,
        },
        metrics=metrics,
        baselines={"macs_only": baseline},
        training=_training(recipe, lpm, len(train)),
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
    asked = recipe.n_train
    needed = MIN_ARCHITECTURES if asked is None else max(MIN_TRAIN, asked) + 1
    if len(rows) < needed:
        measured = dataset.architectures
        disturbed = int((dataset.flagged & ~dataset.in_panel).sum())
        enough = measured + needed - len(rows)
        raise DatasetError(
            f"{dataset.path} has {len(rows)} usable architectures of {measured} measured "
            f"({disturbed} visits disturbed), training needs {needed}",
            f"measure more: repeat its latkit profile command with --n {enough} or more",
        )
    size = int(TRAIN_SHARE * len(rows)) if asked is None else asked
    order: IntArray = np.random.default_rng(recipe.seed).permutation(len(rows))
    if recipe.choose == "active" and asked is not None:  # else all but a random fifth are taken
        order = _most_telling_first(rows, order, size, recipe)
    return order[:size], order[size:]


def _most_telling_first(rows: Rows, order: IntArray, n: int, recipe: Recipe) -> IntArray:
    """An order of rows that begins with the ``n`` that say most."""
    encodings = rows.encodings[order]
    chosen = choose_active(rows.space, rows.setting, encodings, n, recipe.sources)
    return np.concatenate([order[chosen], np.delete(order, chosen)])


def fit(
    rows: Rows,
    recipe: Recipe,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> LPM:
    """An LPM of all the rows, with its intervals.

    Those of a kind that does not know its error are from the errors of further LPMs, each on the
    fifth of the rows that it was not trained on; where training takes long (``paper``), of one.

    Raises:
        LPMError: too few rows, or training failed.
    """
    lpm = _fit(rows, recipe, on_epoch)
    if isinstance(lpm, SeenErrors):
        lpm.see_errors(_held_out_errors(rows, recipe))
    return lpm


def _held_out_errors(rows: Rows, recipe: Recipe) -> FloatArray:
    parts = min(PARTS, len(rows))
    if parts < 2:
        raise LPMError("one architecture leaves none to judge an LPM by", "measure more")
    order = np.random.default_rng(recipe.seed).permutation(len(rows))
    errors = []
    for part in range(1 if recipe.kind == "paper" else parts):
        held_out = order[part::parts]
        lpm = _fit(rows.take(np.setdiff1d(order, held_out)), recipe)
        judged = rows.take(held_out)
        errors.append(lpm.predict(judged.encodings) - judged.values)
    return np.concatenate(errors)


def _fit(
    rows: Rows,
    recipe: Recipe,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> LPM:
    """An LPM without intervals, where its kind does not know its error."""
    kind, seed = recipe.kind, recipe.seed
    if kind == "default":
        return fit_default(rows.space, rows.setting, *_values(rows), seed, recipe.sources)
    if kind == "paper":
        return train_paper_lpm(*_values(rows), recipe.paper, seed, on_epoch)
    if kind == BoostingLPM.kind:
        return fit_boosting(*_values(rows), seed)
    return fit_linear(kind, rows.space, rows.setting, *_values(rows))  # type: ignore[arg-type]


@one_thread()
def judge(lpm: LPM, rows: Rows) -> dict[str, Any]:
    """Metrics of an LPM on rows it has not seen (see ``latkit.lpm.metrics``).

    Of an LPM that does not know its error, the errors of every second row give its intervals, and
    the others judge these.
    """
    predicted = lpm.predict(rows.encodings)
    error = predicted - rows.values
    seen = np.arange(len(rows)) % 2 == 0
    if isinstance(lpm, SeenErrors):
        lpm.see_errors(error[seen])
        judged = ~seen if len(rows) > 1 else seen
    else:
        judged = np.ones(len(rows), dtype=bool)
    widths = {level: lpm.predict_half_width(rows.encodings[judged], level) for level in (0.5, 0.9)}
    return prediction_metrics(predicted, rows.values, rows.cost) | {
        f"coverage_{round(100 * level)}": coverage(error[judged], width)
        for level, width in widths.items()
    }


def learning_curve(
    dataset: LatencyDataset, recipe: Recipe, on_size: Callable[[int], None] = lambda n: None
) -> list[dict[str, Any]]:
    """Metrics on the same held-out fifth of LPMs trained on ever more architectures.

    The paper's Table 1 for this dataset: sizes 1, 2 and 5 times powers of ten, and all there are.

    Raises:
        DatasetError: too few usable architectures, or the recipe's cost was not measured.
    """
    rows = Rows.of(dataset, recipe.cost)
    train, test = split_rows(dataset, rows, dataclasses.replace(recipe, n_train=None))
    if recipe.choose == "active":
        train = _most_telling_first(rows, train, min(len(train), MAX_CANDIDATES), recipe)
    steps = sorted({m * 10**k for k in range(1, 7) for m in (1, 2, 5)})
    sizes = [n for n in steps if n < len(train)] + [len(train)]
    curve = []
    for n in sizes:
        started = time.perf_counter()
        lpm = _fit(rows.take(train[:n]), recipe)
        seconds = time.perf_counter() - started
        curve.append(judge(lpm, rows.take(test)) | {"n_train": n, "fit_seconds": seconds})
        on_size(n)
    return curve


def warnings_of(card: LPMCard) -> list[str]:
    """What a user should know before trusting an LPM, one line each."""
    lines = []
    cost = card.measured_cost
    ours: Any = card.metrics["mape_percent"]
    theirs: Any = card.baselines["macs_only"]["mape_percent"]
    few = card.metrics["n_test"] < MIN_JUDGES
    if few:
        lines.append(
            f"only {card.metrics['n_test']} architectures judge the LPM: its metrics say little"
        )
    elif card.metrics["spearman"] is None:
        lines.append(
            f"the LPM predicts the same {cost.noun} for every architecture: it has collapsed"
        )
    elif ours >= theirs and card.training["kind"] != "macs-only":
        lines.append(
            f"no better than a straight line in MACs (MAPE {ours:.2f} % against {theirs:.2f} %): "
            "measure more architectures"
        )
    raw = card.kind == "paper" and not card.training["standardize"]
    if raw and card.dataset[cost.range_key][1] > 100:
        lines.append(
            f"raw targets above 100 {cost.unit}: the paper's recipe needs --standardize there"
        )
    return lines


def _values(rows: Rows) -> tuple[FloatArray, FloatArray]:
    return rows.encodings, rows.values


def _training(recipe: Recipe, lpm: LPM, n_train: int) -> dict[str, Any]:
    """How it was trained, as the card has it."""
    facts: dict[str, Any] = {"kind": recipe.kind, "seed": recipe.seed, "choose": recipe.choose}
    if recipe.kind == "paper":
        facts |= {**dataclasses.asdict(recipe.paper), "epochs": recipe.paper.epochs_for(n_train)}
    if isinstance(lpm, DefaultLPM):
        facts |= {"gate": lpm.gate}
    if recipe.sources is not None:
        facts |= {"from_devices": list(recipe.sources.names)}
    return facts


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
