"""What an LPM is: encodings in, mean and standard deviation of a cost out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]


class LPM(ABC):
    """A trained predictor of one target's latency.

    Attributes:
        kind: the recipe's name in files and on the command line.
        hyper_parameters: everything besides the weights that :meth:`from_state` needs.
        std_ms: standard deviation of the prediction's error, as measured on held-out data.
    """

    kind: ClassVar[str]
    hyper_parameters: dict[str, Any]
    std_ms: float

    @abstractmethod
    def latency_ms(self, encodings: Tensor) -> Tensor:
        """Predicted latencies in ms, differentiable in the encodings.

        Args:
            encodings: a ``b x E*O``-dim tensor, where ``E*O`` is the space's encoding size.

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
        with torch.inference_mode():
            batch = torch.as_tensor(np.asarray(encodings, dtype=np.float32))
            return self.latency_ms(batch).numpy().astype(np.float64)
