"""From a dataset to a published LPM, with every check on the way."""

from __future__ import annotations

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
from latkit.lpm.kinds import LPM_KINDS, check_learns_from_other_devices, make_options
from latkit.lpm.recipe import Recipe
from latkit.lpm.store import LPMCard
from latkit.lpm.training import LearningPoint, learning_curve, train_lpm, warnings_of
from latkit.lpm.transfer import TransferPrior
from latkit.registry.entries import Entry
from latkit.registry.registry import Registry
from latkit.spaces import get_space


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
        curve = self.learning_curve
        content = {
            **self.card.to_dict(),
            "learning_curve": None if curve is None else [point.to_dict() for point in curve],
        }
        if self.entry is not None:
            content |= {"reference": self.entry.reference, "location": self.location}
        return content


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
    kind = LPM_KINDS.get(request.kind)
    if request.publish and not kind.can_be_published:
        raise InputError(
            f"an LPM of the kind {request.kind} is not published: it has no file format",
            "add --no-publish, to compare; publish --kind default",
        )
    dataset = LatencyDataset.open(only_dataset() if request.dataset is None else request.dataset)
    for finding in check_dataset(dataset).findings:
        if finding.level == "unfit":
            listener.warn(f"{dataset.path} is unfit for training: {finding.text}")
    listener.note(
        f"{dataset.path}: {dataset.usable().num_rows} of {dataset.architectures} architectures "
        f"usable ({dataset.disturbed} disturbed measurements left out)"
    )
    registry = Registry(request.registry) if request.publish else None
    if registry is not None:  # before anything is trained that could not be kept
        registry.check_writable()
    transfer = None
    if request.from_devices:
        transfer = load_transfer_prior(
            request.from_devices, dataset.manifest.target, request.quantity, request.kind,
            Registry(request.registry), listener,
        )  # fmt: skip
    options, ignored = make_options(request.kind, request.options)
    recipe = Recipe(
        request.kind,
        request.n_train,
        request.choose,
        request.seed,
        options,
        transfer,
        request.quantity,
    )
    trained = train_lpm(dataset, recipe, listener)
    curve = learning_curve(dataset, recipe, listener) if request.learning_curve else None
    entry = location = None
    if registry is not None:
        entry = registry.publish(trained.lpm, trained.card)
        location = registry.location(entry)
        # At once: whatever happens to the result, nobody should publish it a second time.
        listener.note(f"published: {location}")
    warnings = (
        *(f"the kind {request.kind} has no option {name}: it is ignored" for name in ignored),
        *warnings_of(trained.card),
    )
    return TrainResult(trained.lpm, trained.card, curve, entry, location, warnings)


def load_transfer_prior(
    references: Sequence[str],
    target: Target,
    quantity: str = LATENCY,
    kind: str = "default",
    registry: Registry | None = None,
    listener: Listener = SILENT,
) -> TransferPrior:
    """The LPMs of source devices that references name.

    Args:
        references: of LPMs, one a source device.
        target: that the prior is for.
        quantity: what all of them predict.
        kind: of the LPM that learns from them, and theirs.
        registry: where they are; None for the default one.
        listener: receives notes of LPMs of another setting.

    Raises:
        InputError: one is unknown, of another quantity or kind, or of the target's own device: it
            may have been trained on what is to judge the new one.
    """
    check_learns_from_other_devices(kind)
    registry = registry or Registry()
    sources = []
    for reference in references:
        entry = registry.resolve(reference, target.space, quantity)
        lpm, card = registry.load(entry)
        if lpm.name != kind:
            raise InputError(
                f"the LPM {entry.reference} is of the kind {card.kind}",
                f"only LPMs of the kind {kind} can be source devices; leave this one out",
            )
        if target.device in {entry.device, *lpm.source_devices()}:
            raise InputError(
                f"the LPM {entry.reference} was made from measurements of {target.device} itself",
                "name other devices",
            )
        if card.target.setting != target.setting:
            listener.note(f"{entry.reference} is of another setting than {target.setting.slug}")
        sources.append((entry.reference, lpm))
    return TransferPrior.of(get_space(target.space), sources)
