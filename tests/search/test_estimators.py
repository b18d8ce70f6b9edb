"""LAT(α) and its gradient against exact enumeration of small spaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.search.estimators import (
    ESTIMATORS,
    CostFunction,
    Distribution,
    get_estimator,
    strength_of,
)
from latkit.spaces import ABSENT, SearchSpace, get_space
from tests.search.made_objectives import SMALL

NAMES = ESTIMATORS.names()
UNBIASED = ["marginal", "score-function"]


def linear() -> CostFunction:
    generator = torch.Generator().manual_seed(2)
    weights = torch.rand(SMALL.encoding_size, generator=generator, dtype=torch.float64)
    return lambda encodings: 3 + encodings @ weights.to(encodings.dtype)


def network() -> CostFunction:
    """A sigmoid network like the paper's LPM, far from linear."""
    generator = torch.Generator().manual_seed(2)
    first = torch.randn(SMALL.encoding_size, 32, generator=generator, dtype=torch.float64)
    second = torch.randn(32, generator=generator, dtype=torch.float64)
    return lambda x: (x @ first.to(x.dtype) * 0.5).sigmoid() @ second.to(x.dtype)


def parameters(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    alpha = torch.randn(SMALL.num_edges, 4, generator=generator, dtype=torch.float64)
    strength = torch.rand(SMALL.num_edges, generator=generator, dtype=torch.float64)
    return alpha.to(dtype).requires_grad_(), (strength + 0.2).to(dtype).requires_grad_()


def probabilities(space: SearchSpace, alpha: Tensor, strength: Tensor | None) -> Tensor:
    """Of every architecture in the order of ``arch_id``, by the definition of S(α)."""
    matrix = torch.from_numpy(space.unrank(np.arange(space.size)).astype(np.int64))
    choices = list(space.choices)
    operations = torch.zeros_like(alpha)
    operations[:, choices] = alpha[:, choices].exp() / alpha[:, choices].exp().sum(1, keepdim=True)
    chosen = operations[torch.arange(space.num_edges), matrix.clamp_min(0)]
    result = torch.where(matrix == ABSENT, 1.0, chosen).prod(1)
    for group, sets in zip(space.groups, space.kept_combinations, strict=True):
        if strength is None:
            result = result / len(sets)
            continue
        columns = list(group.edges)
        own = torch.where(matrix[:, columns] == ABSENT, 1.0, strength[columns]).prod(1)
        result = result * own / strength[torch.from_numpy(sets)].prod(1).sum()
    return result


def exact(space: SearchSpace, alpha: Tensor, cost: CostFunction, strength: Tensor | None) -> Tensor:
    """E[cost] over every architecture."""
    encodings = torch.from_numpy(space.encode(space.unrank(np.arange(space.size))))
    return probabilities(space, alpha, strength) @ cost(encodings.to(alpha.dtype))


def gradients(value: Tensor, alpha: Tensor, strength: Tensor | None) -> Tensor:
    wanted = [alpha] if strength is None else [alpha, strength]
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, wanted)])


def repeated(
    name: str, cost: CostFunction, samples: int, repeats: int, weighted: bool
) -> tuple[Tensor, Tensor]:
    """Values and gradients of many estimates."""
    alpha, strength = parameters()
    given = strength if weighted else None
    generator = torch.Generator().manual_seed(0)
    values, slopes = [], []
    for _ in range(repeats):
        value = get_estimator(name)(SMALL, alpha, cost, samples, generator, given)
        values.append(value.detach())
        slopes.append(gradients(value, alpha, given))
    return torch.stack(values), torch.stack(slopes)


@pytest.mark.parametrize("weighted", [False, True])
def test_enumeration_sums_to_one(weighted: bool) -> None:
    alpha, strength = parameters()
    total = probabilities(SMALL, alpha, strength if weighted else None).sum()
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_draws_follow_the_distribution(weighted: bool, stratified: bool) -> None:
    """Whole architectures, so that dependence between edges would show."""
    alpha, strength = parameters()
    given = strength if weighted else None
    distribution = Distribution.of(SMALL, alpha, given)
    generator = torch.Generator().manual_seed(0)
    rounds, samples = 600, 20
    counts = np.zeros(SMALL.size)
    for _ in range(rounds):
        drawn = distribution.draw(samples, generator, stratified)
        codes = drawn.one_hot(SMALL) * drawn.kept[:, :, None]
        np.add.at(counts, SMALL.rank(SMALL.decode(codes.flatten(1).numpy())), 1)
    expected = probabilities(SMALL, alpha, given).detach().numpy()
    often = expected > 1 / 1000
    found = counts / (rounds * samples)
    error = (found - expected) / np.sqrt(expected / (rounds * samples))
    assert np.abs(error[often]).max() < 5
    assert abs(found[~often].sum() - expected[~often].sum()) < 0.02


def test_stratified_draws_are_as_even_as_numbers_allow() -> None:
    space = get_space("darts")
    alpha = torch.randn(14, 8, generator=torch.Generator().manual_seed(0))
    distribution = Distribution.of(space, alpha, None)
    drawn = distribution.draw(20, torch.Generator().manual_seed(0), stratified=True)
    counts = torch.nn.functional.one_hot(drawn.operations, 7).sum(0)
    assert ((counts - 20 * distribution.operations).abs() < 1).all()
    assert (drawn.kept[:, 9:].sum(0) == 8).all()  # two of five edges, twenty times


def test_uniform_edges_of_darts() -> None:
    distribution = Distribution.of(get_space("darts"), torch.zeros(14, 8), None)
    expected = torch.tensor([1.0] * 2 + [2 / 3] * 3 + [1 / 2] * 4 + [2 / 5] * 5)
    torch.testing.assert_close(distribution.inclusion(), expected)


def test_strength_is_the_largest_weight_without_none() -> None:
    alpha = torch.zeros(14, 8)
    alpha[3, 0], alpha[3, 5] = 5.0, 1.0
    weights = alpha.softmax(1)
    strength = strength_of(get_space("darts"), alpha)
    torch.testing.assert_close(strength[3], weights[3, 5])
    torch.testing.assert_close(strength[4], torch.tensor(1 / 8))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_value_is_unbiased(name: str, weighted: bool) -> None:
    alpha, strength = parameters()
    truth = exact(SMALL, alpha, network(), strength if weighted else None)
    values, _ = repeated(name, network(), 4, 800, weighted)
    error = (values.mean() - truth) / (values.std() / math.sqrt(len(values)))
    assert abs(error) < 4


@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("samples", [1, 4])
def test_gradient_is_unbiased(name: str, weighted: bool, samples: int) -> None:
    """Of a cost that is far from linear, with respect to α and to the strengths."""
    alpha, strength = parameters()
    given = strength if weighted else None
    truth = gradients(exact(SMALL, alpha, network(), given), alpha, given)
    _, slopes = repeated(name, network(), samples, 1000, weighted)
    spread = slopes.std(0) / math.sqrt(len(slopes))
    moving = spread > 1e-12
    assert (((slopes.mean(0) - truth) / spread)[moving].abs() < 4.5).all()
    torch.testing.assert_close(slopes.mean(0)[~moving], truth[~moving])


@pytest.mark.parametrize("weighted", [False, True])
def test_straight_through_gradient_is_unbiased_for_a_linear_objective(weighted: bool) -> None:
    alpha, strength = parameters()
    given = strength if weighted else None
    truth = gradients(exact(SMALL, alpha, linear(), given), alpha, given)
    _, slopes = repeated("straight-through", linear(), 20, 1000, weighted)
    spread = slopes.std(0) / math.sqrt(len(slopes)) + 1e-12
    assert (((slopes.mean(0) - truth) / spread).abs() < 4.5).all()


def test_straight_through_is_biased_for_a_network() -> None:
    """So that the tests above can tell the difference."""
    alpha, _ = parameters()
    truth = gradients(exact(SMALL, alpha, network(), None), alpha, None)
    _, slopes = repeated("straight-through", network(), 20, 400, False)
    spread = slopes.std(0) / math.sqrt(len(slopes)) + 1e-12
    assert (((slopes.mean(0) - truth) / spread).abs() > 10).any()


def test_marginal_is_exact_for_a_linear_objective_where_every_edge_is_kept() -> None:
    space = get_space("nasbench201")
    weights = torch.rand(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha.requires_grad_()

    def cost(encodings: Tensor) -> Tensor:
        return encodings @ weights

    truth = exact(space, alpha, cost, None)
    estimate = get_estimator("marginal")(space, alpha, cost, 1, torch.Generator())
    torch.testing.assert_close(estimate, truth)
    torch.testing.assert_close(
        torch.autograd.grad(estimate, alpha), torch.autograd.grad(truth, alpha)
    )


def test_marginal_varies_least() -> None:
    alpha, _ = parameters()
    truth = gradients(exact(SMALL, alpha, network(), None), alpha, None)
    errors = {}
    for name in NAMES:
        _, slopes = repeated(name, network(), 20, 100, False)
        errors[name] = float((slopes - truth).square().sum(1).mean())
    assert errors["marginal"] < 0.2 * errors["straight-through"]
    assert errors["marginal"] < 0.05 * errors["score-function"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("space_name", ["darts", "nasbench201", "fbnet", "small"])
@pytest.mark.parametrize("weighted", [False, True])
def test_only_whole_architectures_reach_the_cost(
    name: str, space_name: str, weighted: bool
) -> None:
    space = SMALL if space_name == "small" else get_space(space_name)
    alpha = torch.zeros(space.num_edges, space.num_operations, requires_grad=True)
    seen: list[Tensor] = []

    def cost(encodings: Tensor) -> Tensor:
        seen.append(encodings.detach())
        return encodings.sum(1)

    strength = strength_of(space, alpha) if weighted else None
    value = get_estimator(name)(space, alpha, cost, 5, torch.Generator(), strength)
    value.backward()
    assert len(seen) == 1
    space.decode(seen[0].numpy().round(6))  # raises for anything else
    torch.testing.assert_close(value.detach(), torch.tensor(float(space.kept_edges)))
    # Every architecture costs the same; and nothing moves what may not be chosen.
    if name == "marginal":
        assert alpha.grad is not None
        torch.testing.assert_close(alpha.grad, torch.zeros_like(alpha), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_estimators_ask_for_no_gradient_of_the_cost(name: str) -> None:
    alpha, _ = parameters()
    value = get_estimator(name)(SMALL, alpha, lambda x: linear()(x).detach(), 4, torch.Generator())
    assert torch.autograd.grad(value, alpha)[0].abs().sum() > 0


def test_straight_through_names_a_cost_without_a_gradient() -> None:
    alpha, _ = parameters()
    with pytest.raises(InputError, match="needs a cost with a gradient"):
        get_estimator("straight-through")(
            SMALL, alpha, lambda x: linear()(x).detach(), 4, torch.Generator()
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_depends_on_the_generator_alone_and_keeps_the_type(name: str, dtype: torch.dtype) -> None:
    alpha, strength = parameters(dtype)
    values = [
        get_estimator(name)(
            SMALL, alpha, network(), 20, torch.Generator().manual_seed(seed), strength
        )
        for seed in (4, 4, 5)
    ]
    assert values[0].dtype == dtype
    assert values[0] == values[1] != values[2]
    values[0].backward()
    assert alpha.grad is not None
    assert alpha.grad.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_one_hot_alpha_is_finite(name: str) -> None:
    alpha = torch.zeros(14, 8)
    alpha[:, 4] = 200.0
    alpha.requires_grad_()
    space = get_space("darts")
    value = get_estimator(name)(
        space, alpha, lambda x: x.square().sum(1), 3, torch.Generator(), strength_of(space, alpha)
    )
    value.backward()
    assert alpha.grad is not None
    assert value == 8
    assert torch.isfinite(alpha.grad).all()


def test_bad_input() -> None:
    with pytest.raises(InputError, match="use one of: marginal, straight-through, score-function"):
        get_estimator("gumbel")
    alpha, _ = parameters()
    for estimate in map(get_estimator, NAMES):
        with pytest.raises(InputError, match="0 samples"):
            estimate(SMALL, alpha, linear(), 0, torch.Generator())
