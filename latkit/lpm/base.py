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
    """A trained predictor of one target's latency.

    Attributes:
        kind: the recipe's name in files and on the command line.
        hyper_parameters: everything besides the weights that :meth:`from_state` needs.
    """

    kind: ClassVar[str]
    hyper_parameters: dict[str, Any]

    @abstractmethod
    def latency_ms(self, encodings: Tensor) -> Tensor:
        """Predicted latencies in ms, differentiable in the encodings.

        Args:
            encodings: a ``b x E*O``-dim tensor, where ``E*O`` is the space's encoding size.

        Returns:
            A ``b``-dim tensor.
        """

    @abstractmethod
    def half_width_ms(self, encodings: Tensor, level: float) -> Tensor:
        """Half the width of the central interval that holds a measurement with a probability.

        Args:
            encodings: a ``b x E*O``-dim tensor.
            level: the probability, one of ``LEVELS``.

        Returns:
            A ``b``-dim tensor.
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
        """Predicted latencies in ms of ``n x E*O`` encodings, as an array of length ``n``."""
        return self._serve(self.latency_ms, encodings)

    def predict_std(self, encodings: npt.ArrayLike) -> FloatArray:
        """Of each prediction, half the width of the interval that two thirds of measurements meet.

        That is the standard deviation where errors are normal.
        """
        return self.predict_half_width(encodings, STANDARD)

    def predict_half_width(self, encodings: npt.ArrayLike, level: float) -> FloatArray:
        """:meth:`half_width_ms` of ``n x E*O`` encodings, as an array of length ``n``."""
        return self._serve(lambda batch: self.half_width_ms(batch, level), encodings)

    @staticmethod
    def _serve(function: Callable[[Tensor], Tensor], encodings: npt.ArrayLike) -> FloatArray:
        """In single precision, in pieces that fit the caches."""
        batch = torch.as_tensor(np.asarray(encodings, dtype=np.float32))
        with torch.inference_mode():
            parts = [function(part) for part in batch.split(SERVED_AT_ONCE)]
            return torch.cat(parts).numpy().astype(np.float64)
