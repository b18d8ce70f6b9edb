"""Datasets on each of which an LPM is trained, whoever trains: what is done, and what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.errors import LatkitError
from latkit.core.events import Listener, Progress
from latkit.dataset import Target
from latkit.lpm.store import LPMCard
from latkit.lpm.training import LearningPoint
from latkit.registry.entries import Entry
from latkit.registry.training import LPMTraining, Trainer, TrainRequest, TrainResult, lpm_dict


@dataclass(frozen=True)
class TrainedDataset:
    """What became of one of several datasets.

    Attributes:
        dataset: its folder.
        card: of its LPM; None: it has none.
        learning_curve: of ever more architectures; None: it was not requested, or not made now.
        entry: the LPM's version in the registry; None: it was not published.
        location: where that lies.
        is_new: whether the LPM was trained now; False: it was published already, or there is none.
        error: why there is no LPM; None: there is one.
    """

    dataset: Path
    card: LPMCard | None = None
    learning_curve: tuple[LearningPoint, ...] | None = None
    entry: Entry | None = None
    location: str | None = None
    is_new: bool = False
    error: LatkitError | None = None

    def to_dict(self) -> dict[str, Any]:
        lpm = None
        if self.card is not None:
            lpm = lpm_dict(self.card, self.learning_curve, self.entry, self.location)
        error = None if self.error is None else self.error.to_dict()
        return {"dataset": str(self.dataset), "is_new": self.is_new, "lpm": lpm, "error": error}


class _Warnings(Listener):
    """Passes on warnings alone: notes and progress of each dataset would hide those of the whole.

    Args:
        listener: receives them.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def warn(self, text: str) -> None:
        self._listener.warn(text)


class Trainings:
    """Datasets on each of which an LPM is trained, and what became of those that are settled.

    Args:
        folders: of the datasets.
        request: how all are trained.
        listener: receives warnings, what is published already, and the progress.

    Raises:
        InputError: the request cannot be right.
        LatkitError: the registry cannot be written.
    """

    def __init__(self, folders: Sequence[Path], request: TrainRequest, listener: Listener) -> None:
        self._folders, self._listener = folders, listener
        self._trainer = Trainer(request)
        self._rows: dict[int, TrainedDataset] = {}
        # Targets of what is not settled, but begun, and LPMs of it that wait for an earlier one.
        self._targets: dict[int, Target] = {}
        self._waiting: dict[int, TrainResult] = {}
        # How many were settled without training.
        self._untrained = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._folders)

    @property
    def are_settled(self) -> bool:
        """Whether it is known of each what became of it."""
        return len(self._rows) == len(self)

    @property
    def rows(self) -> tuple[TrainedDataset, ...]:
        """What became of the datasets that are settled, in their order."""
        return tuple(self._rows[index] for index in sorted(self._rows))

    def begin(self) -> Iterator[tuple[int, LPMTraining]]:
        """What is to be trained and the dataset's number; the others are settled on the way.

        A dataset is read when it is taken.

        Raises:
            LatkitError: the registry cannot be read.
        """
        self._report("")
        for index, folder in enumerate(self._folders):
            try:
                training = self._trainer.prepare(folder, _Warnings(self._listener))
                digest, target = training.digest, training.dataset.manifest.target
            except LatkitError as error:
                self._untrained += 1
                self.fail(index, error)
                continue
            if (entry := self._trainer.published(digest, target)) is not None:
                self._untrained += 1
                self._settle_published(index, entry)
            else:
                self._targets[index] = target
                yield index, training

    def finish(self, index: int, result: TrainResult) -> None:
        """Publish an LPM as soon as all earlier ones of its target are.

        Raises:
            LatkitError: the registry cannot be read or written.
        """
        self._waiting[index] = result
        self._publish()

    def fail(self, index: int, error: LatkitError) -> None:
        """Settle a dataset that cannot be trained on.

        Raises:
            LatkitError: the registry cannot be read or written.
        """
        folder = self._folders[index]
        self._listener.warn(f"{folder} is not trained on: {error}")
        self._settle(index, TrainedDataset(folder, error=error), "failed")
        self._publish()

    def _publish(self) -> None:
        """Publish what waits for nothing."""
        for index in sorted(self._waiting):
            target = self._targets[index]
            if any(self._targets[other] == target for other in self._targets if other < index):
                continue
            result = self._waiting.pop(index)
            # As the same dataset of another name, or by another process.
            entry = self._trainer.published(result.card.training["digest"], target)
            if entry is not None:
                self._settle_published(index, entry)
                continue
            folder = self._folders[index]
            for line in result.warnings:
                self._listener.warn(f"{folder}: {line}")
            result = self._trainer.publish(result)
            card, curve = result.card, result.learning_curve
            row = TrainedDataset(folder, card, curve, result.entry, result.location, is_new=True)
            self._settle(index, row, f"MAPE {card.metrics['mape_percent']:.2f} %")

    def _settle_published(self, index: int, entry: Entry) -> None:
        folder, registry = self._folders[index], self._trainer.registry
        assert registry is not None
        self._listener.note(f"{folder}: already published as {entry.reference}")
        location = registry.location(entry)
        row = TrainedDataset(folder, registry.card(entry), None, entry, location)
        self._settle(index, row, "already published")

    def _settle(self, index: int, row: TrainedDataset, detail: str) -> None:
        self._rows[index] = row
        self._targets.pop(index, None)
        self._report(f"{row.dataset}: {detail}")

    def _report(self, detail: str) -> None:
        done, before = len(self._rows), self._untrained
        self._listener.progress(Progress("datasets", done, len(self), before, detail))
