"""From a dataset to a published LPM, with every check on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latkit.core.errors import InputError
from latkit.core.events import SILENT, Listener
from latkit.core.quantities import LATENCY
from latkit.core.requests import check_seed, set_tuples
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import check_dataset
from latkit.dataset.listing import only_dataset
from latkit.lpm.base import LPM
from latkit.lpm.kinds import LPM_KINDS, make_options
from latkit.lpm.recipe import Recipe
from latkit.lpm.store import LPMCard
from latkit.lpm.training import LearningPoint, learning_curve, train_lpm, warnings_of
from latkit.registry.entries import Entry
from latkit.registry.registry import Registry
from latkit.registry.sources import SourceDevices


@dataclass(frozen=True)
class TrainRequest:
    """What is to be trained, and whether it is published.

    Attributes:
        dataset: its folder; None: the only one below ``./datasets``.
        kind: a name in ``latkit.lpm.kinds.LPM_KINDS``.
        quantity: what is learnt, of those the dataset has.
        n_train: architectures to train on, the rest judge; None: four fifths.
        choose: which to train on: ``random``, or ``active`` (see :class:`Recipe`).
        from_devices: references of LPMs of source devices, of the same quantity and kind.
        options: of the kind, by name, e.g. ``{"epochs": 1000}``; None keeps an option's default.
        seed: of the choice of architectures and of all that is random in training.
        learning_curve: whether LPMs of smaller training sets are judged as well.
        publish: whether the LPM is added to the registry.
        registry: its URL; None for ``$LATKIT_REGISTRY`` or the default.
    """

    dataset: str | Path | None = None
    kind: str = "default"
    quantity: str = LATENCY
    n_train: int | None = None
    choose: str = "random"
    from_devices: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    learning_curve: bool = False
    publish: bool = True
    registry: str | None = None

    def __post_init__(self) -> None:
        set_tuples(self, "from_devices")
        check_seed(self.seed)


@dataclass(frozen=True)
class TrainResult:
    """A trained LPM.

    Attributes:
        lpm: the model.
        card: what is known about it, its metrics among that.
        learning_curve: of ever more architectures; None: it was not requested.
        entry: its version in the registry; None: it was not published.
        location: where that lies.
        warnings: what a user should know before trusting it, one line each.
    """

    lpm: LPM
    card: LPMCard
    learning_curve: tuple[LearningPoint, ...] | None
    entry: Entry | None
    location: str | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return lpm_dict(self.card, self.learning_curve, self.entry, self.location)


def lpm_dict(
    card: LPMCard,
    curve: Sequence[LearningPoint] | None,
    entry: Entry | None,
    location: str | None,
) -> dict[str, Any]:
    """What is known about a trained LPM as JSON; see :class:`TrainResult`."""
    points = None if curve is None else [point.to_dict() for point in curve]
    content = {**card.to_dict(), "learning_curve": points}
    if entry is not None:
        content |= {"reference": entry.reference, "location": location}
    return content


@dataclass(frozen=True)
class LPMTraining:
    """An LPM that is to be trained, with all that this needs: another process can do it.

    Attributes:
        dataset: to train on.
        recipe: how, with the transfer prior.
        learning_curve: whether LPMs of smaller training sets are judged as well.
        ignored: names of options that the kind does not have.
    """

    dataset: LatencyDataset
    recipe: Recipe
    learning_curve: bool
    ignored: tuple[str, ...]

    @property
    def digest(self) -> str:
        """See :meth:`Recipe.digest`; the card has it too.

        Raises:
            DatasetError: the quantity was not measured.
        """
        return self.recipe.digest(self.dataset)

    def run(self, listener: Listener = SILENT) -> TrainResult:
        """Train and judge the LPM; it is not published.

        Raises:
            DatasetError: too few usable architectures, or the quantity was not measured.
            LPMError: training failed.
        """
        trained = train_lpm(self.dataset, self.recipe, listener)
        curve = None
        if self.learning_curve:
            curve = learning_curve(self.dataset, self.recipe, listener)
        kind = self.recipe.kind
        warnings = (
            *(f"the kind {kind} has no option {name}: it is ignored" for name in self.ignored),
            *warnings_of(trained.card),
        )
        return TrainResult(trained.lpm, trained.card, curve, None, None, warnings)


class Trainer:
    """Trains and publishes LPMs of one dataset after another, all in one way.

    Args:
        request: the way; its dataset is not looked at.

    Attributes:
        registry: where LPMs are published; None: nowhere.

    Raises:
        InputError: an unknown name, or a kind that cannot be published.
        LatkitError: the registry cannot be written.
    """

    def __init__(self, request: TrainRequest) -> None:
        kind = LPM_KINDS.get(request.kind)
        if request.publish and not kind.can_be_published:
            raise InputError(
                f"an LPM of the kind {request.kind} is not published: it has no file format",
                "add --no-publish, to compare; publish --kind default",
            )
        self._request = request
        options, self._ignored = make_options(request.kind, request.options)
        self._recipe = Recipe(
            request.kind, request.n_train, request.choose, request.seed, options,
            quantity=request.quantity,
        )  # fmt: skip
        self.registry = Registry(request.registry) if request.publish else None
        if self.registry is not None:  # before anything is trained that could not be kept
            self.registry.check_writable()
        self._sources: SourceDevices | None = None
        if request.from_devices:
            self._sources = SourceDevices(
                request.from_devices, request.quantity, request.kind, Registry(request.registry)
            )

    def prepare(self, folder: str | Path, listener: Listener = SILENT) -> LPMTraining:
        """Read a dataset, and the LPMs of the source devices for its target.

        Args:
            folder: of the dataset.
            listener: receives notes, and a warning of a dataset that is unfit.

        Raises:
            InputError: source devices do not fit.
            DatasetError: the dataset cannot be read.
            LPMError: a source device's LPM cannot be read.
        """
        dataset = LatencyDataset.open(folder)
        for finding in check_dataset(dataset).findings:
            if finding.level == "unfit":
                listener.warn(f"{dataset.path} is unfit for training: {finding.text}")
        listener.note(
            f"{dataset.path}: {dataset.usable().num_rows} of {dataset.architectures} architectures "
            f"usable ({dataset.disturbed} disturbed measurements left out)"
        )
        recipe = self._recipe
        if self._sources is not None:
            transfer = self._sources.prior_for(dataset.manifest.target, listener)
            recipe = dataclasses.replace(recipe, transfer=transfer)
        return LPMTraining(dataset, recipe, self._request.learning_curve, self._ignored)

    def published(self, digest: str, target: Target) -> Entry | None:
        """The newest version of a target that was trained on the same measurements, the same way.

        None: there is none, or LPMs are not published.

        Args:
            digest: see :meth:`Recipe.digest`.
            target: of the dataset.

        Raises:
            LatkitError: the registry cannot be read.
        """
        if self.registry is None:
            return None
        return self.registry.trained_by(digest, target, self._recipe.quantity)

    def publish(self, result: TrainResult, listener: Listener = SILENT) -> TrainResult:
        """Publish an LPM as the next version of its target, if LPMs are to be published.

        Args:
            result: of :meth:`LPMTraining.run`.
            listener: receives where it lies.

        Raises:
            LatkitError: the registry cannot be written.
        """
        if self.registry is None:
            return result
        entry = self.registry.publish(result.lpm, result.card)
        location = self.registry.location(entry)
        # At once: whatever happens to the result, nobody should publish it a second time.
        listener.note(f"published: {location}")
        return dataclasses.replace(result, entry=entry, location=location)


def train_and_publish(request: TrainRequest, listener: Listener = SILENT) -> TrainResult:
    """Train an LPM on a dataset, judge it, and publish it as the next version of its target.

    Whatever would prevent it from being published is found before anything is trained.

    Args:
        request: what is to be done.
        listener: receives notes (the dataset, where the LPM was published), warnings (of a dataset
            that is unfit) and the progress.

    Raises:
        InputError: an unknown name, a kind that cannot be published, or source devices that do not
            fit.
        DatasetError: the dataset cannot be read, has too few usable architectures, or lacks the
            quantity.
        LPMError: training failed.
        LatkitError: the registry cannot be written.
    """
    trainer = Trainer(request)
    dataset = only_dataset() if request.dataset is None else request.dataset
    training = trainer.prepare(dataset, listener)
    return trainer.publish(training.run(listener), listener)
