"""What an LPM is: encodings in, mean and standard deviation of a quantity out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Self

from latkit.core.errors import InputError
from latkit.core.events import SILENT, Listener

if TYPE_CHECKING:
    from latkit.lpm.recipe import Recipe
    from latkit.lpm.rows import Rows
    from latkit.lpm.store import LPMCard

FloatArray = npt.NDArray[np.float64]

STANDARD = 0.6827
# Probabilities of the intervals that an LPM has.
LEVELS = (0.5, STANDARD, 0.9)
SERVED_AT_ONCE = 4096
# Each row is held out once of an LPM that calibrates another one's intervals.
FOLDS = 5


@dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


class Predictor(ABC):
    """Encodings in, mean and intervals of a quantity of one target's networks out.

    What the quantity is and its unit are on a card, not in the names here.

    Attributes:
        supports_gradient: whether :meth:`mean` is differentiable in the encodings.
    """

    supports_gradient: ClassVar[bool] = True

    @abstractmethod
    def mean(self, encodings: Tensor) -> Tensor:
        """Predictions in the unit of the quantity.

        Args:
            encodings: a ``b x E*O``-dim tensor, where ``E*O`` is the space's encoding size.

        Returns:
            A ``b``-dim tensor, differentiable in the encodings where ``supports_gradient``.
        """

    @abstractmethod
    def half_width(self, encodings: Tensor, level: float) -> Tensor:
        """Half the width of the central interval that holds a measurement with a probability.

        Args:
            encodings: a ``b x E*O``-dim tensor.
            level: the probability, one of ``LEVELS``.

        Returns:
            A ``b``-dim tensor, in the unit of the quantity.
        """

    def margin(self, encodings: Tensor, confidence: float) -> Tensor:
        """What a prediction is raised by, so that a measurement is below it with a probability.

        Between the probabilities of ``LEVELS`` it is interpolated, and beyond them continued, in
        the quantiles of Student's t that the default kind assumes.

        Args:
            encodings: a ``b x E*O``-dim tensor.
            confidence: the probability, 0.5 (no margin) or more, and less than 1.

        Returns:
            A ``b``-dim tensor, in the unit of the quantity.

        Raises:
            InputError: there is no such confidence.
        """
        from scipy import special  # takes long to import

        from latkit.lpm.bayes import TAIL

        if not 0.5 <= confidence < 1:
            raise InputError(
                f"a confidence of {confidence:g} is not offered", "use 0.5 or more, and less than 1"
            )
        wanted = float(special.stdtrit(TAIL, confidence))
        known: list[float] = special.stdtrit(TAIL, 0.5 + np.array(LEVELS) / 2).tolist()
        if not known[0] < wanted < known[-1]:
            nearest = 0 if wanted <= known[0] else -1
            return self.half_width(encodings, LEVELS[nearest]) * (wanted / known[nearest])
        above = next(i for i, quantile in enumerate(known) if wanted <= quantile)
        share = (wanted - known[above - 1]) / (known[above] - known[above - 1])
        low, high = (self.half_width(encodings, LEVELS[i]) for i in (above - 1, above))
        return low + share * (high - low)

    def coefficients(self) -> tuple[Tensor, float] | None:
        """Where the prediction is ``encoding @ c + d``: ``c``, an ``E*O``-dim tensor, and ``d``.

        The expectation over architectures is exact then. None: it is not of this form.
        """
        return None

    def predict(self, encodings: npt.ArrayLike) -> FloatArray:
        """Predictions for ``n x E*O`` encodings, as an array of length ``n``."""
        return self._serve(self.mean, encodings)

    def predict_std(self, encodings: npt.ArrayLike) -> FloatArray:
        """Of each prediction, half the width of the interval that two thirds of measurements meet.

        That is the standard deviation where errors are normal.
        """
        return self.predict_half_width(encodings, STANDARD)

    def predict_half_width(self, encodings: npt.ArrayLike, level: float) -> FloatArray:
        """:meth:`half_width` of ``n x E*O`` encodings, as an array of length ``n``."""
        return self._serve(lambda batch: self.half_width(batch, level), encodings)

    @staticmethod
    def _serve(function: Callable[[Tensor], Tensor], encodings: npt.ArrayLike) -> FloatArray:
        """In single precision, in pieces that fit the caches."""
        batch = torch.as_tensor(np.asarray(encodings, dtype=np.float32))
        with torch.inference_mode():
            parts = [function(part) for part in batch.split(SERVED_AT_ONCE)]
            return torch.cat(parts).numpy().astype(np.float64)


class LPM(Predictor):
    """A predictor that is trained and kept; each subclass is a kind of LPM.

    A kind has a name, by which ``LPM_KINDS`` (:mod:`latkit.lpm.kinds`) finds it. One that derives
    its intervals from errors alone inherits from :class:`latkit.lpm.intervals.EmpiricalLPM`.

    Attributes:
        name: of the kind, in files and on the command line.
        options_class: a frozen dataclass of the options of :meth:`fit` that only this kind has; all
            its fields have defaults.
        can_be_published: whether :meth:`state` and :meth:`from_state` work.
        learns_from_other_devices: whether :meth:`fit` uses the recipe's transfer prior.
        needs_calibration: whether the intervals come from :meth:`calibrate` alone.
        calibration_fits: of the ``FOLDS`` LPMs whose out-of-fold errors may calibrate one that is
            fitted to all rows, how many are fitted: fewer where a fit takes long.
        hyper_parameters: everything besides the weights that :meth:`from_state` needs, as JSON.
    """

    name: ClassVar[str]
    options_class: ClassVar[type[Any]] = NoOptions
    can_be_published: ClassVar[bool] = True
    learns_from_other_devices: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    calibration_fits: ClassVar[int] = FOLDS

    hyper_parameters: dict[str, Any]

    @classmethod
    @abstractmethod
    def fit(cls, rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> Self:
        """An LPM fitted to all of some rows.

        Args:
            rows: what was measured: ``n x E*O`` encodings and ``n`` values; a cost's are positive.
            recipe: its seed, its options (of the class ``options_class``) and its transfer prior.
            listener: receives the progress where a fit takes long.

        Raises:
            LPMError: too few rows, or training failed.
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The weights, by name."""

    @classmethod
    @abstractmethod
    def from_state(cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """The inverse of :attr:`hyper_parameters` and :meth:`state`.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: the state does not fit.
        """

    def calibrate(self, errors: FloatArray) -> None:
        """Set the intervals from errors on architectures that this LPM was not fitted to.

        It is called where the kind ``needs_calibration``, and not where it models its own error.

        Args:
            errors: predicted minus measured, ``n`` numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} models its own error")

    def training_facts(self) -> dict[str, Any]:
        """What the card notes about the fit of this LPM; called after :meth:`fit` alone."""
        return {}

    def source_devices(self) -> set[str]:
        """Devices other than its own whose measurements its transfer prior is made from."""
        return set()

    @classmethod
    def warnings(cls, card: LPMCard) -> list[str]:
        """What a user should know of an LPM of this kind, one line each."""
        return []
