"""What an LPM is: encodings in, mean and standard deviation of a cost out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]

STANDARD = 0.6827
# Probabilities of the intervals that an LPM knows.
LEVELS = (0.5, STANDARD, 0.9)
SERVED_AT_ONCE = 4096


class LPM(ABC):
    """A trained predictor of a cost of one target's networks.

    What the cost is and its unit are on the LPM's card, not in its names.

    Attributes:
        kind: the recipe's name in files and on the command line.
        hyper_parameters: everything besides the weights that :meth:`from_state` needs.
    """

    kind: ClassVar[str]
    hyper_parameters: dict[str, Any]

    @abstractmethod
    def mean(self, encodings: Tensor) -> Tensor:
        """Predicted costs in the unit of the cost, differentiable in the encodings.

        Args:
            encodings: a ``b x E*O``-dim tensor, where ``E*O`` is the space's encoding size.

        Returns:
            A ``b``-dim tensor.
        """

    @abstractmethod
    def half_width(self, encodings: Tensor, level: float) -> Tensor:
        """Half the width of the central interval that holds a measurement with a probability.

        Args:
            encodings: a ``b x E*O``-dim tensor.
            level: the probability, one of ``LEVELS``.

        Returns:
            A ``b``-dim tensor, in the unit of the cost.
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The weights, by name."""

    @classmethod
    @abstractmethod
    def from_state(cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> LPM:
        """The inverse of :attr:`hyper_parameters` and :meth:`state`.

        Raises:
            KeyError, TypeError, RuntimeError: the state does not fit.
        """

    def predict(self, encodings: npt.ArrayLike) -> FloatArray:
        """Predicted costs of ``n x E*O`` encodings, as an array of length ``n``."""
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
