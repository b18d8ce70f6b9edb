"""Normal scores: a quantity without a scale of its own, by rank.

Accuracies crowd together below the best one, and a few are far off: no linear model has such
errors. What a value would be if as many were below it in a normal distribution is what a linear
model is fitted to; the observed values lead back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy import special
from torch import Tensor

from latkit.lpm.bayes import Array

# So many points of the curve are kept; between them it is straight.
KNOTS = 65
LEAST, MOST = 0.0, 100.0


class NormalScores:
    """A rising curve between percentages and normal scores.

    Args:
        values: ``k`` rising percentages.
        scores: their ``k`` scores, rising too.
    """

    def __init__(self, values: Tensor, scores: Tensor) -> None:
        self._values, self._scores = values, scores

    @classmethod
    def of(cls, observed: Array) -> NormalScores:
        """The curve of ``n`` observed values; of equal ones the mean rank counts."""
        values, counts = np.unique(observed, return_counts=True)
        scores = special.ndtri((np.cumsum(counts) - counts / 2) / len(observed))
        if len(values) == 1:  # flat: any score leads back to the one value
            values, scores = np.repeat(values, 2), np.array([-1.0, 1.0])
        even = np.searchsorted(scores, np.linspace(scores[0], scores[-1], KNOTS))
        kept = np.unique(even)
        return cls(torch.from_numpy(values[kept]), torch.from_numpy(scores[kept]))

    def of_values(self, values: Array) -> Array:
        """The scores of values."""
        if self._values[0] == self._values[-1]:
            return np.zeros(len(values))
        return np.asarray(np.interp(values, self._values.numpy(), self._scores.numpy()))

    def to_values(self, scores: Tensor) -> Tensor:
        """The values of scores, in their type; differentiable. The ends go on straight."""
        return self._on_the_curve(scores).clamp(LEAST, MOST)

    def half_width(self, low: Tensor, high: Tensor) -> Tensor:
        """Of the interval of values between two scores: half of all percentages at most.

        Beyond the ends of the curve, where a value is LEAST or MOST, it is as wide as ever: nothing
        is known there.
        """
        width = (self._on_the_curve(high) - self._on_the_curve(low)) / 2
        return width.clamp_max((MOST - LEAST) / 2)

    def _on_the_curve(self, scores: Tensor) -> Tensor:
        x, y = self._scores.to(scores), self._values.to(scores)
        above = torch.searchsorted(x, scores.detach()).clamp(1, len(x) - 1)
        slope = (y[above] - y[above - 1]) / (x[above] - x[above - 1])
        values: Tensor = y[above - 1] + slope * (scores - x[above - 1])
        return values

    def state(self) -> dict[str, Tensor]:
        """The curve's points, by name."""
        return {"values": self._values, "scores": self._scores}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> NormalScores:
        """The inverse of :meth:`state`.

        Raises:
            KeyError, ValueError: the state does not fit.
        """
        values, scores = state["values"].double(), state["scores"].double()
        rising = (values.diff() >= 0).all() and (scores.diff() > 0).all()
        if not (values.shape == scores.shape and len(scores) >= 2 and rising):
            raise ValueError("the curve between percentages and normal scores does not rise")
        return cls(values, scores)
