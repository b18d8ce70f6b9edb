"""The paper's estimator (section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.search.estimators.distribution import (
    CostFunction,
    Distribution,
    check_samples,
)
from latkit.spaces import SearchSpace


def straight_through(
    space: SearchSpace,
    alpha: Tensor,
    cost: CostFunction,
    samples: int,
    generator: torch.Generator,
    edge_strength: Tensor | None = None,
) -> Tensor:
    """The mean cost of M sub-networks; backwards, their codes hand on their gradient.

    The code of a sub-network is zeros and ones, but passes the gradient of the cost on to the
    probabilities it was drawn from. The value is unbiased; the gradient is so for a linear cost
    only. Arguments and result are those of :func:`~latkit.search.estimators.marginal.marginal`,
    but the cost must be differentiable.

    Raises:
        InputError: ``samples`` is less than 1, or the cost is not differentiable.
    """
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
            "the straight-through estimator needs a cost with a gradient, and this one has none",
            "use --estimator marginal",
        )
    return costs.to(alpha.dtype).mean()
