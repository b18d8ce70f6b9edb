"""LAT(α) and its gradient against exact enumeration of a small space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from latkit.search.latency import CostFunction, sample_edges, straight_through_latency
from latkit.spaces import ABSENT, Edge, Group, SearchSpace, get_space

SMALL = SearchSpace(
    "small",
    ["none", "a", "b", "c"],
    [1, 2, 3],
    [Edge(0, 2), Edge(1, 2), Edge(0, 3), Edge(1, 3), Edge(2, 3)],
    [Group((0, 1), 2), Group((2, 3, 4), 2)],
)


def exact(space: SearchSpace, alpha: Tensor, cost: CostFunction) -> Tensor:
    """E[cost] over every architecture: edges uniform, operations by softmax without none."""
    matrix = torch.from_numpy(space.unrank(np.arange(space.size)).astype(np.int64))
    probabilities = torch.zeros_like(alpha)
    probabilities[:, list(space.choices)] = alpha[:, list(space.choices)].softmax(-1)
    chosen = probabilities[torch.arange(space.num_edges), matrix.clamp_min(0)]
    weight = torch.where(matrix == ABSENT, 1.0, chosen).prod(1)
    sets = np.prod([len(s) for s in space.kept_combinations])
    return (weight * cost(torch.from_numpy(space.encode(matrix.numpy())))).sum() / float(sets)


def linear(generator: torch.Generator) -> CostFunction:
    weights = torch.rand(SMALL.encoding_size, generator=generator)
    return lambda encodings: encodings @ weights


def network(generator: torch.Generator) -> CostFunction:
    """A sigmoid network like the paper's LPM."""
    first = torch.randn(SMALL.encoding_size, 32, generator=generator)
    second = torch.randn(32, generator=generator)
    return lambda encodings: (encodings @ first * 0.5).sigmoid() @ second


@pytest.fixture
def alpha() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(SMALL.num_edges, 4, generator=generator).requires_grad_()


def test_enumeration_sums_to_one(alpha: Tensor) -> None:
    ones = exact(SMALL, alpha, lambda encodings: torch.ones(len(encodings)))
    torch.testing.assert_close(ones, torch.tensor(1.0))


def test_sampled_edges_are_uniform() -> None:
    kept = sample_edges(get_space("darts"), 60_000, torch.Generator().manual_seed(0))
    assert (kept.sum(1) == 8).all()
    means = kept.mean(0)
    expected = torch.tensor([1.0] * 2 + [2 / 3] * 3 + [1 / 2] * 4 + [2 / 5] * 5)
    torch.testing.assert_close(means, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("make", [linear, network])
def test_value_is_the_expectation(alpha: Tensor, make: object) -> None:
    cost = make(torch.Generator().manual_seed(2))  # type: ignore[operator]
    estimate = straight_through_latency(SMALL, alpha, cost, 100_000, torch.Generator())
    truth = exact(SMALL, alpha, cost)
    torch.testing.assert_close(estimate, truth, rtol=0.01, atol=0.01)


def test_gradient_of_a_linear_cost_is_exact_in_expectation(alpha: Tensor) -> None:
    cost = linear(torch.Generator().manual_seed(2))
    (truth,) = torch.autograd.grad(exact(SMALL, alpha, cost), alpha)
    estimate = straight_through_latency(SMALL, alpha, cost, 100_000, torch.Generator())
    (gradient,) = torch.autograd.grad(estimate, alpha)
    torch.testing.assert_close(gradient, truth, rtol=0.02, atol=0.002)
    assert (gradient[:, 0] == 0).all()  # none is never drawn


def test_gradient_of_a_network_points_the_right_way(alpha: Tensor) -> None:
    """Straight-through is biased for a non-linear cost; its direction must be close."""
    cost = network(torch.Generator().manual_seed(2))
    (truth,) = torch.autograd.grad(exact(SMALL, alpha, cost), alpha)
    estimate = straight_through_latency(SMALL, alpha, cost, 20_000, torch.Generator())
    (gradient,) = torch.autograd.grad(estimate, alpha)
    cosine = torch.cosine_similarity(gradient.flatten(), truth.flatten(), dim=0)
    assert cosine > 0.85


def test_only_whole_architectures_reach_the_cost(alpha: Tensor) -> None:
    seen: list[Tensor] = []

    def cost(encodings: Tensor) -> Tensor:
        seen.append(encodings.detach())
        return encodings.sum(1)

    straight_through_latency(SMALL, alpha, cost, 500, torch.Generator()).backward()
    matrix = SMALL.decode(seen[0].numpy().round(6))
    assert (matrix != 0).all()


def test_depends_on_the_generator_alone(alpha: Tensor) -> None:
    cost = linear(torch.Generator().manual_seed(2))
    values = [
        straight_through_latency(SMALL, alpha, cost, 20, torch.Generator().manual_seed(seed))
        for seed in (4, 4, 5)
    ]
    assert values[0] == values[1] != values[2]
