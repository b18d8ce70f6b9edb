"""REINFORCE: knows nothing of the cost but its values."""

from __future__ import annotations

import torch
from torch import Tensor

from latkit.search.estimators.base import ESTIMATORS, Estimator
from latkit.search.estimators.distribution import (
    WEAKEST,
    CostFunction,
    Distribution,
    check_samples,
)
from latkit.spaces import SearchSpace


@ESTIMATORS.register("score-function")
class ScoreFunction(Estimator):
    """The mean cost of M sub-networks; backwards, costs times the gradient of log-probabilities.

    Unbiased for any cost; of a sample's cost the mean of the others' is subtracted (the
    leave-one-out baseline), which leaves the mean of the gradient as it is.
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
        with torch.no_grad():
            costs = cost((drawn.one_hot(space) * drawn.kept[:, :, None]).flatten(1)).to(alpha.dtype)
            mean = costs.mean()
            # c_i less the mean of the others; a single sample has no others.
            advantage = (costs - mean) * samples / (samples - 1) if samples > 1 else costs
        # A probability that is zero in this precision is never drawn, but stands in the table.
        operations = distribution.operations.clamp_min(WEAKEST).log()
        edges = torch.arange(space.num_edges)
        logs = (operations[edges, drawn.operations] * drawn.kept).sum(1)
        if edge_strength is not None:
            sets = distribution.sets.clamp_min(WEAKEST).log()
            logs = logs + sets[torch.arange(len(sets)), drawn.sets].sum(1)
        slope = (advantage * logs).mean()
        return mean + (slope - slope.detach())
