"""An LPM with its card: architectures in, predictions with their errors and warnings out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.core.errors import InputError
from latkit.core.quantities import Quantity, get_quantity
from latkit.dataset import Target
from latkit.lpm.base import FloatArray, Predictor
from latkit.lpm.store import LPMCard
from latkit.spaces import Architecture, Setting, get_space
from latkit.spaces.reader import NamedArchitecture, read_architectures


@dataclass(frozen=True)
class Prediction:
    """What an LPM predicts for one architecture.

    Attributes:
        arch: the architecture's text in its space.
        given: what the user called it by.
        value: the prediction.
        std: half the width of the interval that two thirds of measurements meet.
        quantity: the name of what is predicted.
        unit: of ``value`` and ``std``.
    """

    arch: str
    given: str
    value: float
    std: float
    quantity: str
    unit: str

    def to_dict(self) -> dict[str, Any]:
        suffix = get_quantity(self.quantity).suffix
        return {
            "arch": self.arch,
            "given": self.given,
            self.quantity: self.value,
            f"std_{suffix}": self.std,
        }


@dataclass(frozen=True)
class Predictions:
    """Predictions of one LPM, in the order of the architectures; it has a length and an iterator.

    Attributes:
        lpm: the LPM's reference.
        target: what it predicts for.
        quantity: the name of what is predicted.
        rows: one an architecture.
        warnings: what to know before they are trusted, one line each.
    """

    lpm: str
    target: Target
    quantity: str
    rows: tuple[Prediction, ...]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Prediction:
        return self.rows[index]

    def to_dict(self) -> dict[str, Any]:
        return {
            "lpm": self.lpm,
            "cost": self.quantity,
            "target": self.target.to_dict(),
            "predictions": [row.to_dict() for row in self.rows],
        }


@dataclass(frozen=True)
class PublishedLPM:
    """An LPM, its card, and the reference that names it in its space.

    Attributes:
        lpm: the model, which maps encodings to predictions.
        card: what is known about it.
        reference: of this version alone, e.g. ``p100/torch-cuda/imagenet@3``.
    """

    lpm: Predictor
    card: LPMCard
    reference: str

    @property
    def target(self) -> Target:
        """What it predicts for: space, device, backend and setting."""
        return self.card.target

    @property
    def space(self) -> str:
        """The name of its search space."""
        return self.card.target.space

    @property
    def quantity(self) -> str:
        """The name of what it predicts, e.g. ``latency_ms``."""
        return self.card.cost

    @property
    def unit(self) -> str:
        """The unit of its predictions, e.g. ``ms``."""
        return self._quantity.unit

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before it is trusted, whatever it predicts."""
        warning = self.card.training.get("warning")
        return () if warning is None else (str(warning),)

    @property
    def _quantity(self) -> Quantity:
        return self.card.quantity

    def check_setting(self, setting: Setting) -> None:
        """Refuse another setting than the LPM's.

        Raises:
            InputError: it is another one.
        """
        if setting != self.target.setting:
            raise InputError(
                f"the LPM {self.reference} is of the setting {self.target.setting.slug}, not "
                f"{setting.slug}",
                "leave --setting out, or profile and train for yours",
            )

    def predict(
        self,
        architectures: str | int | os.PathLike[str] | Architecture | Sequence[Any],
    ) -> Predictions:
        """Predictions for architectures, each with its error.

        Args:
            architectures: one or several of: a text of the space, an identifier, a name of the
                zoo, a file that has some (see
                :func:`latkit.spaces.reader.read_architectures`), a genotype. Of a genotype the
                normal cell counts: the reduction cell is the LPM's setting's.

        Raises:
            InputError: none is given, or one is malformed or not of the space.
            LatkitError: a file cannot be read.
        """
        several = isinstance(architectures, Iterable) and not _is_one(architectures)
        given: list[Any] = list(architectures) if several else [architectures]  # type: ignore[arg-type]
        if not given:
            raise InputError(
                "no architecture was named", "name some, a file of them, or - for stdin"
            )
        space = get_space(self.space)
        named = [architecture for one in given for architecture in _read(one, self.space)]
        matrix = np.concatenate([architecture.row(space) for architecture in named])
        encodings = space.encode(matrix)
        values, stds = self.predict_encodings(encodings), self.lpm.predict_std(encodings)
        rows = tuple(
            Prediction(
                space.format(row), architecture.label, float(v), float(s), self.quantity, self.unit
            )
            for row, architecture, v, s in zip(matrix, named, values, stds, strict=True)
        )
        warnings = (*self.warnings, *self._outside(values))
        return Predictions(self.reference, self.target, self.quantity, rows, warnings)

    def predict_encodings(self, encodings: npt.ArrayLike) -> FloatArray:
        """Predictions for ``n x E*O`` encodings, as an array of length ``n`` in ``unit``."""
        return self.lpm.predict(encodings)

    def _outside(self, values: FloatArray) -> list[str]:
        """A warning where predictions are outside the range of the training data."""
        low, high = self.card.dataset[self._quantity.range_key]
        outside = int((~((low <= values) & (values <= high))).sum())
        if not outside:
            return []
        return [
            f"{outside} of {len(values)} predictions are outside the range of "
            f"{self._quantity.noun} that the LPM was trained on ({low:.2f} to {high:.2f} "
            f"{self.unit}): trust them less"
        ]


def _is_one(architectures: Any) -> bool:
    """Whether it is one architecture and not a sequence of them; a genotype is a named tuple."""
    if isinstance(architectures, (str, int, np.integer, os.PathLike)):
        return True
    return isinstance(getattr(architectures, "space", None), str)


def _read(given: Any, space: str) -> list[NamedArchitecture]:
    if isinstance(getattr(given, "space", None), str):
        return [NamedArchitecture(str(given), given)]
    if not _is_one(given):
        raise InputError(f"{given!r} is no architecture", "name one, or give its text or a file")
    return read_architectures(
        os.fspath(given) if isinstance(given, os.PathLike) else str(given), get_space(space)
    )
