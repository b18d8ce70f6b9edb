"""An LPM and a few measurements more: what it was off by there corrects it everywhere.

The relative error of an LPM is taken for a Gaussian process: as large as the LPM's own intervals at
what was measured, in part the same everywhere, and else the more alike the more operations two
architectures share. So measurements of a few architectures, such as those near a front, correct the
predictions of their neighbours as well, and the interval of what was measured becomes that of the
measurement. It is of any kind of LPM: all it takes of one are predictions and intervals.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import LPMError
from latkit.lpm.base import STANDARD, FloatArray, Predictor

# No LPM is surer of an architecture, nor a measurement of itself: shares of the value.
LEAST_STD, LEAST_ERROR = 0.01, 0.002


class ConditionedLPM(Predictor):
    """The posterior of an LPM's error, given measurements.

    It is not published: what is to stay is trained on all measurements together.

    Args:
        lpm: the LPM.
        encodings: ``n x E*O`` zeros and ones of different architectures.
        values: ``n`` measured values, positive, in the unit of the LPM.
        errors: of each the standard deviation of its mean; zero where it is not known.

    Raises:
        LPMError: nothing was measured.
    """

    supports_gradient = False

    def __init__(
        self, lpm: Predictor, encodings: FloatArray, values: FloatArray, errors: FloatArray
    ) -> None:
        if not len(values):
            raise LPMError("there is nothing to condition an LPM on", "measure something")
        self._lpm = lpm
        # In single precision, as it is served, and then as exact as the equations need it.
        served = torch.as_tensor(np.asarray(encodings, dtype=np.float32))
        with torch.inference_mode(False), torch.no_grad():
            predicted = lpm.mean(served).double()
            std = lpm.half_width(served, STANDARD).double()
            relative = max(LEAST_STD, float((std / predicted.abs()).mean()))
            measured = torch.as_tensor(values, dtype=torch.float64)
            error = torch.as_tensor(errors, dtype=torch.float64)
            error = error.clamp_min(0).maximum(LEAST_ERROR * measured)
            self._encodings = served.double()
            likeness = _likeness(self._encodings, self._encodings)
            self._widening = 1.0
            # Where it was further off than its intervals say, they are too narrow elsewhere too.
            for _ in range(2):
                share = self._widening * relative
                noise = (error / (share * predicted.abs())) ** 2
                self._inverse = torch.linalg.inv(likeness + torch.diag(noise))
                off = (measured / predicted.abs() - predicted.sign()) / share
                weights = self._inverse @ off
                self._weights = share * weights
                self._widening *= max(1.0, float(off @ weights) / len(off)) ** 0.5

    def mean(self, encodings: Tensor) -> Tensor:
        predicted = self._lpm.mean(encodings).double()
        likeness = _likeness(encodings.double(), self._encodings)
        corrected: Tensor = predicted + predicted.abs() * (likeness @ self._weights)
        return corrected.to(encodings.dtype)

    def half_width(self, encodings: Tensor, level: float) -> Tensor:
        likeness = _likeness(encodings.double(), self._encodings)
        left = 1 - ((likeness @ self._inverse) * likeness).sum(1)
        least = LEAST_ERROR / LEAST_STD
        factor = self._widening * left.clamp_min(least**2).sqrt()
        width: Tensor = self._lpm.half_width(encodings, level).double() * factor
        return width.to(encodings.dtype)


def _likeness(first: Tensor, second: Tensor) -> Tensor:
    """``n x m``: the correlation of errors, from the share of operations in common.

    Half of an error is the same for all, as where the whole device has become slower. The rest is
    of pairs of operations, whose shared part is the square: what one takes depends on others.
    """
    shared = first @ second.T
    share = shared / torch.outer(first.sum(1), second.sum(1)).sqrt().clamp_min(1)
    return (1 + share**2) / 2
