"""Range of costs and constrained derivation against enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latkit.core.errors import InputError
from latkit.search.decode import (
    TOLERANCE,
    CostRange,
    check_target,
    cost_range,
    derive_on_target,
    log_weights,
    neighbours,
    strongest,
)
from latkit.search.objectives import Objective, evaluate
from latkit.spaces import ABSENT, get_space
from tests.search.made_objectives import SMALL, CurvedObjective, everything, linear_objective
from tests.search.supernets import derive_cell

DARTS = get_space("darts")


def random_alpha(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(SMALL.num_edges, 4, generator=torch.Generator().manual_seed(seed))


def scores(logs: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    picked = logs[np.arange(matrix.shape[1]), np.maximum(matrix, 0)]
    return np.asarray(np.where(matrix == ABSENT, 0, picked).sum(1))


@pytest.mark.parametrize("cost", [linear_objective(3), CurvedObjective(3), CurvedObjective(4)])
def test_range_is_that_of_enumeration(cost: Objective) -> None:
    costs = evaluate(SMALL, cost, everything(SMALL))
    reach = cost_range(SMALL, cost)
    np.testing.assert_allclose([reach.low, reach.high], [costs.min(), costs.max()], rtol=1e-6)
    np.testing.assert_allclose(
        evaluate(SMALL, cost, np.stack([reach.low_row, reach.high_row])), [reach.low, reach.high]
    )
    again = cost_range(SMALL, cost)
    assert (again.low_row == reach.low_row).all()


def test_range_of_darts_by_descent_is_the_exact_one() -> None:
    linear = linear_objective(1, DARTS)
    exact = cost_range(DARTS, linear)

    class Hidden(Objective):
        """The same without coefficients."""

        quantity, unit = linear.quantity, linear.unit

        def __call__(self, encodings: torch.Tensor) -> torch.Tensor:
            return linear(encodings)

    found = cost_range(DARTS, Hidden(), restarts=2)
    np.testing.assert_allclose([found.low, found.high], [exact.low, exact.high], rtol=1e-5)


def test_a_target_outside_is_refused_with_the_range() -> None:
    row = DARTS.unrank(0)[0]
    reach = CostRange(10.0, 20.0, row, row)
    for inside in (10.0, 15.0, 20.0):
        check_target(inside, reach, "ms")
    for outside in (9.9, 20.1, float("nan")):
        with pytest.raises(InputError, match=r"target of .* ms is outside .* 10 to 20 ms") as info:
            check_target(outside, reach, "ms")
        assert "\n" not in str(info.value)


def test_neighbours_are_all_architectures_one_step_away() -> None:
    matrix = everything(SMALL)
    start = matrix[777]
    near = neighbours(SMALL, start[None])[0]
    ids = set(SMALL.rank(near).tolist())
    assert len(ids) == len(near)
    changed = (matrix != start).sum(1)
    moved = ((matrix == ABSENT) != (start == ABSENT)).sum(1)
    one_operation = (moved == 0) & (changed == 1)
    one_edge = (moved == 2) & (changed == 2)
    assert ids == set(np.flatnonzero(one_operation | one_edge).tolist())
    assert neighbours(SMALL, matrix[:50]).shape == (50, len(near), SMALL.num_edges)


def in_print(alpha: torch.Tensor) -> tuple[tuple[str, int], ...]:
    """DARTS's own derivation, as its code goes: ``none`` takes part in the softmax alone."""
    weights, first = alpha.softmax(-1).tolist(), 0
    cell: list[tuple[str, int]] = []
    for inputs in (2, 3, 4, 5):
        rows = weights[first : first + inputs]
        edges = sorted(range(inputs), key=lambda source: -max(rows[source][1:]))[:2]
        for source in sorted(edges):
            best = max(range(1, 8), key=lambda operation: rows[source][operation])
            cell.append((DARTS.operations[best], source))
        first += inputs
    return tuple(cell)


def test_the_strongest_is_what_darts_derives() -> None:
    for seed in range(20):
        alpha = torch.randn(14, 8, generator=torch.Generator().manual_seed(seed))
        row = strongest(DARTS, log_weights(DARTS, alpha))
        assert DARTS.cell(row) == derive_cell(DARTS, alpha)
        assert DARTS.cell(row) == in_print(alpha)


def test_the_strongest_has_the_largest_score_and_heeds_edge_weights() -> None:
    alpha = random_alpha(0)
    weights = torch.tensor([1.0, 1.0, 0.01, 1.0, 1.0, 5.0, 0.5])
    for given in (None, weights):
        logs = log_weights(SMALL, alpha, given)
        matrix = everything(SMALL)
        best = matrix[scores(logs, matrix).argmax()]
        assert (strongest(SMALL, logs) == best).all()
    assert strongest(SMALL, logs)[2] == ABSENT


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.98])
@pytest.mark.parametrize("cost", [linear_objective(3), CurvedObjective(3)])
@pytest.mark.parametrize("scale", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_finds_the_strongest_on_target(
    share: float, cost: Objective, scale: float, weighted: bool
) -> None:
    matrix = everything(SMALL)
    costs = evaluate(SMALL, cost, matrix)
    target = float(costs.min() + share * (costs.max() - costs.min()))
    alpha = random_alpha(5, scale)
    weights = torch.linspace(0.1, 1.0, SMALL.num_edges) if weighted else None
    found = derive_on_target(SMALL, alpha, cost, target, weights)
    logs = log_weights(SMALL, alpha, weights)
    feasible = np.abs(costs / target - 1) <= TOLERANCE
    best = matrix[feasible][scores(logs, matrix[feasible]).argmax()]
    assert found.within
    assert found.cost == pytest.approx(float(evaluate(SMALL, cost, found.row)[0]))
    assert (found.row == best).all()
    assert found.changed == bool((found.row != strongest(SMALL, logs)).any())


def test_on_target_already_is_left_alone() -> None:
    alpha, cost = random_alpha(2), CurvedObjective()
    row = strongest(SMALL, log_weights(SMALL, alpha))
    target = float(evaluate(SMALL, cost, row)[0]) / 1.04
    found = derive_on_target(SMALL, alpha, cost, target)
    assert (found.row == row).all()
    assert (found.changed, found.within) == (False, True)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_finds_one_in_the_whole_darts_space(share: float) -> None:
    """From an α that is sure of something far away."""
    cost = linear_objective(1, DARTS)
    reach = cost_range(DARTS, cost)
    target = reach.low + share * (reach.high - reach.low)
    alpha = torch.zeros(14, 8)
    far = reach.high_row if share < 0.5 else reach.low_row
    alpha[np.flatnonzero(far != ABSENT), far[far != ABSENT]] = 6.0
    found = derive_on_target(DARTS, alpha, cost, target)
    assert found.within
    assert found.changed
    again = derive_on_target(DARTS, alpha, cost, target)
    assert (again.row == found.row).all()
    # A pass over groups that knows the cost is linear, at many prices, finds nothing much better.
    logs, own = log_weights(DARTS, alpha), cost.coefficients()
    table = own[0].numpy().reshape(14, 8)
    priced = [strongest(DARTS, logs - price * table) for price in np.linspace(-60, 60, 2001)]
    costs = evaluate(DARTS, cost, np.stack(priced))
    good = np.abs(costs / target - 1) <= TOLERANCE
    assert good.any() or share == 0.1  # there the prices jump over the target
    reference = scores(logs, np.stack(priced)[good]).max(initial=-np.inf)
    assert scores(logs, found.row[None])[0] >= reference - 1e-9


def test_the_nearest_where_none_is_on_target() -> None:
    cost = linear_objective(0)
    found = derive_on_target(SMALL, random_alpha(0), cost, 1.0)
    assert not found.within
    assert found.cost == pytest.approx(cost_range(SMALL, cost).low, rel=1e-6)
