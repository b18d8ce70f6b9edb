"""The default estimator: conditional expectations, exact, of sampled sub-networks."""

from __future__ import annotations

import torch
from torch import Tensor

from latkit.search.estimators.base import ESTIMATORS, Estimator
from latkit.search.estimators.distribution import (
    CostFunction,
    Distribution,
    Drawn,
    check_samples,
    tables,
)
from latkit.spaces import SearchSpace


@ESTIMATORS.register("marginal")
class Marginal(Estimator):
    """An unbiased estimate of LAT(α), with an unbiased gradient by back-propagation.

    E[cost] is linear in the probabilities of one edge's operations, and the slope in each of them
    is the cost with that operation there, averaged over everything else. So around each of M
    sub-networks every kept edge's operations are tried, one edge at a time; with
    ``edge_strength``, the other sets of every group as well. The cost sees nothing but whole
    architectures, in one call without gradients, so it need not be differentiable.

    The value adds to the mean of the sampled costs, of each edge (and group), its conditional
    expectation less what was drawn: terms of mean zero, which take away all of the operations'
    part of the variance where costs are additive.
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
        with torch.no_grad():
            drawn = distribution.draw(samples, generator, stratified=True)
            codes = drawn.one_hot(space)
            base = (codes * drawn.kept[:, :, None]).flatten(1)
            edges = drawn.kept.nonzero()[:, 1].view(samples, -1)
            turned, operations = _other_operations(space, base, drawn, edges)
            queries = [base, operations.flatten(0, 2)]
            if edge_strength is not None:
                others, sets = _other_sets(space, codes, drawn)
                queries.append(sets)
            costs = cost(torch.cat(queries)).to(alpha.dtype).split([len(q) for q in queries])
            drawn_costs = costs[0]
            of_drawn = drawn_costs[:, None, None].expand(-1, edges.shape[1], 1)
            of_operations = torch.cat([of_drawn, costs[1].view(operations.shape[:3])], dim=2)
        by_edge = (distribution.operations[edges[:, :, None], turned] * of_operations).sum(2)
        slope = by_edge.sum()
        value = drawn_costs + (by_edge.detach() - drawn_costs[:, None]).sum(1)
        if edge_strength is not None:
            of_sets = drawn_costs[:, None].expand(others.shape).clone()
            of_sets[others] = costs[2]
            groups, numbers = tables(space).pairs.T
            by_set = distribution.sets[groups, numbers] * of_sets
            slope = slope + by_set.sum()
            # Of each group's expectation, less what was drawn.
            value = value + by_set.detach().sum(1) - tables(space).free * drawn_costs
        slope = slope / samples
        result: Tensor = value.mean() + (slope - slope.detach())
        return result


def _other_operations(
    space: SearchSpace, base: Tensor, drawn: Drawn, edges: Tensor
) -> tuple[Tensor, Tensor]:
    """Every other operation on each of ``M x K`` kept edges.

    Returns:
        Positions in ``space.choices``, ``M x K x C``, beginning with the drawn one; the encodings
        of all but that one, ``M x K x (C - 1) x E*O``.
    """
    choices = torch.tensor(space.choices)
    current = drawn.operations.gather(1, edges)[:, :, None]
    turned = (current + torch.arange(len(choices))) % len(choices)
    bits = edges[:, :, None] * space.num_operations + choices[turned]
    new = bits[:, :, 1:]
    encodings = base[:, None, None].repeat(1, *new.shape[1:], 1)
    encodings.scatter_(3, bits[:, :, :1, None].expand(*new.shape, 1), 0.0)
    encodings.scatter_(3, new[..., None], 1.0)
    return turned, encodings


def _other_sets(space: SearchSpace, codes: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Every other set of each group that has a choice, with the drawn operations.

    Returns:
        Which of the ``M x T`` (group, set) pairs are not drawn; their encodings, ``b x E*O``.
    """
    table = tables(space)
    groups, sets = table.pairs.T
    others = drawn.sets[:, groups] != sets
    kept = drawn.kept[:, None] * table.outside[groups].to(codes) + table.members[groups, sets].to(
        codes
    )
    return others, (kept[..., None] * codes[:, None])[others].flatten(1)
