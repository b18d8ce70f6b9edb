"""An objective and an estimator."""

from __future__ import annotations

import torch
from torch import Tensor

from latkit.search.estimators import Distribution, Estimator
from latkit.search.estimators.distribution import CostFunction
from latkit.search.objectives import Objective, ObjectiveParts
from latkit.spaces import SearchSpace


class Squared(Objective):
    """The square of the predicted latency: slow networks count more than in proportion."""

    quantity = "squared_latency_ms2"
    unit = "ms²"

    def __init__(self, predicted: Objective) -> None:
        self._predicted = predicted

    @classmethod
    def from_parts(cls, parts: ObjectiveParts) -> Objective:
        (predicted,) = parts.predicted
        return cls(predicted)

    def __call__(self, encodings: Tensor) -> Tensor:
        return self._predicted(encodings) ** 2


class Enumeration(Estimator):
    """The exact expectation, over all architectures of a small space."""

    def __call__(
        self,
        space: SearchSpace,
        alpha: Tensor,
        cost: CostFunction,
        samples: int,
        generator: torch.Generator,
        edge_strength: Tensor | None = None,
    ) -> Tensor:
        encodings = torch.from_numpy(space.encode(space.unrank(range(space.size))))
        logs = Distribution.of(space, alpha, edge_strength).operations.log()
        probabilities = (encodings.view(space.size, -1) * logs.flatten()).sum(1).exp()
        return probabilities @ cost(encodings).to(probabilities)
