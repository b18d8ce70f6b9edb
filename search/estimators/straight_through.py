"""The paper's estimator (section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.search.estimators.base import ESTIMATORS, Estimator
from latkit.search.estimators.distribution import (
    CostFunction,
    Distribution,
    check_samples,
)
from latkit.spaces import SearchSpace


@ESTIMATORS.register("straight-through")
class StraightThrough(Estimator):
    """The mean cost of M sub-networks; backwards, their codes hand on their gradient.

    The code of a sub-network is zeros and ones, but passes the gradient of the cost on to the
    probabilities it was drawn from. The value is unbiased; the gradient is so for a linear cost
    only. A cost that is not differentiable is refused.
    """

    def __call__(
        self,
        space: SearchSpace,
        alpha: Tensor,
        cost: CostFunction,
        samples: int,
        generator: torch.Generator,
        edge_strength: Tensor | None = None,
    ) -> Tensor:
        check_samples(samples)
        distribution = Distribution.of(space, alpha, edge_strength)
        drawn = distribution.draw(samples, generator)
        probabilities = torch.zeros_like(alpha)
        probabilities[:, list(space.choices)] = distribution.operations
        code = drawn.one_hot(space) + (probabilities - probabilities.detach())
        kept = drawn.kept
        if edge_strength is not None:
            inclusion = distribution.inclusion()
            kept = kept + (inclusion - inclusion.detach())
        code = kept[:, :, None] * code
        costs = cost(code.flatten(1))
        if code.requires_grad and not costs.requires_grad:
            raise InputError(
                "the straight-through estimator needs a cost with a gradient, which this one lacks",
                "use --estimator marginal",
            )
        return costs.to(alpha.dtype).mean()
