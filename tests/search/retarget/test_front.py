"""Fronts and choices against enumeration of a small space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from torch import Tensor

from latkit.core.errors import InputError
from latkit.lpm.base import FloatArray
from latkit.search.decode import TOLERANCE
from latkit.search.objectives import Objective, evaluate
from latkit.search.retarget import (
    Condition,
    Known,
    Limit,
    Near,
    explore,
    most_accurate,
    pareto_front,
)
from latkit.search.retarget.conditions import reach
from latkit.search.retarget.indicators import gd_plus, hypervolume, igd_plus
from latkit.spaces import get_space
from tests.search.made_objectives import SMALL, CurvedObjective, everything, linear_objective

ACCURACY, LATENCY, ENERGY = CurvedObjective(1), CurvedObjective(3), linear_objective(4)
ROWS = everything(SMALL)
TRUE = {objective: evaluate(SMALL, objective, ROWS) for objective in (ACCURACY, LATENCY, ENERGY)}
ENUMERATE, SEARCH = 10_000, 0


def not_dominated(points: FloatArray) -> FloatArray:
    """By comparing all pairs; all of equal points."""
    better = (points[:, None] <= points[None]).all(2) & (points[:, None] < points[None]).any(2)
    return np.flatnonzero(~better.any(0))


def expected(costs: Sequence[Objective], kept: FloatArray) -> FloatArray:
    points = np.column_stack([-TRUE[ACCURACY], *(TRUE[cost] for cost in costs)])
    index = np.flatnonzero(kept)
    return index[not_dominated(points[index])]


def limits(share: float) -> tuple[list[Condition], FloatArray]:
    """Limits on both costs at a quantile of each, and which architectures keep them."""
    latency, energy = (float(np.quantile(TRUE[cost], share)) for cost in (LATENCY, ENERGY))
    conditions = [Limit("latency", LATENCY, latency), Limit("energy", ENERGY, energy)]
    return conditions, (TRUE[LATENCY] <= latency) & (TRUE[ENERGY] <= energy)


@pytest.mark.parametrize("enumerated", [ENUMERATE, SEARCH])
@pytest.mark.parametrize("costs", [(LATENCY,), (ENERGY,), (LATENCY, ENERGY)])
@pytest.mark.parametrize("share", [None, 0.6])
def test_a_front_is_that_of_all_pairs(
    enumerated: int, costs: tuple[Objective, ...], share: float | None
) -> None:
    conditions, kept = ([], np.ones(len(ROWS))) if share is None else limits(share)
    front = pareto_front(SMALL, ACCURACY, costs, conditions, enumerated=enumerated)
    index = SMALL.rank(front.rows)
    assert set(index.tolist()) == set(expected(costs, kept).tolist())
    np.testing.assert_array_equal(front.accuracy, TRUE[ACCURACY][index])
    for column, cost in zip(front.costs.T, costs, strict=True):
        np.testing.assert_allclose(column, TRUE[cost][index])
    assert (np.diff(front.costs[:, 0]) >= 0).all()
    assert front.exhaustive == (enumerated == ENUMERATE)
    assert front.evaluated <= len(ROWS)


@pytest.mark.parametrize("enumerated", [ENUMERATE, SEARCH])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_most_accurate_within_limits(enumerated: int, share: float) -> None:
    conditions, kept = limits(share)
    choice = most_accurate(SMALL, ACCURACY, conditions, enumerated=enumerated)
    assert choice.accuracy == TRUE[ACCURACY][kept].max()
    assert kept[SMALL.rank(choice.row)[0]]


@pytest.mark.parametrize("enumerated", [ENUMERATE, SEARCH])
def test_the_most_accurate_near_a_target_and_within_a_limit(enumerated: int) -> None:
    target, limit = (float(np.median(TRUE[cost])) for cost in (LATENCY, ENERGY))
    conditions = [Near("latency", LATENCY, target), Limit("energy", ENERGY, limit)]
    kept = (np.abs(TRUE[LATENCY] / target - 1) <= TOLERANCE) & (TRUE[ENERGY] <= limit)
    choice = most_accurate(SMALL, ACCURACY, conditions, enumerated=enumerated)
    assert choice.accuracy == TRUE[ACCURACY][kept].max()


@pytest.mark.parametrize("enumerated", [ENUMERATE, SEARCH])
def test_without_conditions_it_is_the_most_accurate_of_all(enumerated: int) -> None:
    choice = most_accurate(SMALL, ACCURACY, (), enumerated=enumerated)
    assert choice.accuracy == TRUE[ACCURACY].max()


def test_conditions_that_nothing_keeps_are_refused() -> None:
    low, high = reach(SMALL, LATENCY)
    assert (low, high) == (TRUE[LATENCY].min(), TRUE[LATENCY].max())
    for value in (low * 0.99, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError) as info:
            most_accurate(SMALL, ACCURACY, [Limit("latency", LATENCY, value)])
        assert "\n" not in str(info.value)
    for value in (low * 0.9, high * 1.1):
        with pytest.raises(InputError, match=f"{low:.4g} to {high:.4g}"):
            pareto_front(SMALL, ACCURACY, [ENERGY], [Near("latency", LATENCY, value)])
    # Each of the two can be kept alone.
    least = Limit("energy", ENERGY, TRUE[ENERGY].min() * 1.0001)
    least_latency = Limit("latency", LATENCY, low * 1.0001)
    for conditions in ([least], [least_latency]):
        most_accurate(SMALL, ACCURACY, conditions)
    with pytest.raises(InputError, match=r"latency .* and energy"):
        most_accurate(SMALL, ACCURACY, [least_latency, least])


def test_a_front_has_a_cost() -> None:
    with pytest.raises(InputError):
        pareto_front(SMALL, ACCURACY, [])


def test_points_are_spread_from_end_to_end() -> None:
    front = pareto_front(SMALL, ACCURACY, [LATENCY, ENERGY])
    assert len(front) > 12
    few = front.spread(8)
    assert len(few) == 8
    assert (np.diff(few.costs[:, 0]) >= 0).all()
    assert few.accuracy.max() == front.accuracy.max()
    every = {row.tobytes() for row in front.rows}
    assert {row.tobytes() for row in few.rows} <= every
    assert len(front.spread(2)) == 2
    assert front.spread(len(front)) is front
    with pytest.raises(InputError):
        front.spread(0)
    # Evenly: of a front of one cost, no gap is more than three times the even one.
    line = pareto_front(SMALL, linear_objective(1), [linear_objective(2)])
    points = np.column_stack([line.spread(6).accuracy, line.spread(6).costs])
    whole = np.column_stack([line.accuracy, line.costs])
    gaps = np.linalg.norm(np.diff(points, axis=0) / np.ptp(whole, axis=0), axis=1)
    assert gaps.max() < 3 * gaps.sum() / len(gaps)


def test_a_search_is_that_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "EVALUATIONS", 3000)
    space = get_space("darts")
    accuracy, latency = CurvedObjective(1, space), CurvedObjective(2, space)
    first, again, other = (
        pareto_front(space, accuracy, [latency], seed=seed) for seed in (0, 0, 1)
    )
    assert not first.exhaustive
    assert 3000 <= first.evaluated < 20_000
    np.testing.assert_array_equal(first.rows, again.rows)
    assert not np.array_equal(first.rows, other.rows)
    assert len(space.rank(first.rows)) == len(first)  # architectures of the space


@pytest.mark.parametrize("seed", [1, 2])
def test_a_search_reaches_the_front_of_enumeration(seed: int) -> None:
    """At most a thousandth of the hypervolume is lost, for a part of the evaluations."""
    space = get_space("nasbench201")
    accuracy, latency = CurvedObjective(seed, space), CurvedObjective(seed + 10, space)
    exact = pareto_front(space, accuracy, [latency])
    found = pareto_front(space, accuracy, [latency], enumerated=SEARCH)
    assert (exact.exhaustive, found.exhaustive) == (True, False)
    reference = np.array([-exact.accuracy.min(), exact.costs.max()])
    volumes = [
        hypervolume(np.column_stack([-front.accuracy, front.costs]), reference)
        for front in (exact, found)
    ]
    assert volumes[1] >= 0.999 * volumes[0]
    assert found.evaluated < space.size / 2


def test_indicators_by_hand() -> None:
    truth, points = np.array([[0.0, 0.5], [0.5, 0.0]]), np.array([[0.0, 0.5], [0.7, 0.2]])
    assert hypervolume(truth, np.ones(2)) == pytest.approx(0.75)
    assert hypervolume(points, np.ones(2)) == pytest.approx(0.5 + 0.3 * 0.3)
    # (0.5, 0) is missed by 0.2 in both; (0.7, 0.2) is 0.2 behind the nearest in one or two.
    assert igd_plus(points, truth) == pytest.approx(np.hypot(0.2, 0.2) / 2)
    assert gd_plus(points, truth) == pytest.approx(np.hypot(0.2, 0.2) / 2)
    better = np.array([[0.0, 0.0]])
    assert igd_plus(better, truth) == gd_plus(better, truth) == 0


class Shifted(Objective):
    """A latency that is predicted too low by the same everywhere."""

    quantity, unit = "latency_ms", "ms"

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, encodings: Tensor) -> Tensor:
        return LATENCY(encodings) - self.by


@pytest.mark.parametrize("enumerated", [ENUMERATE, SEARCH])
def test_what_is_predicted_to_take_no_time_is_left_out(enumerated: int) -> None:
    by = float(np.quantile(TRUE[LATENCY], 0.3))
    shifted, positive = Shifted(by), TRUE[LATENCY] > by
    front = pareto_front(SMALL, ACCURACY, [shifted], enumerated=enumerated)
    assert set(SMALL.rank(front.rows).tolist()) == set(expected([LATENCY], positive).tolist())
    tight = Limit("latency", shifted, 1e-9)
    with pytest.raises(InputError):
        most_accurate(SMALL, ACCURACY, [tight], enumerated=enumerated)


@pytest.mark.parametrize("enumerated", [ENUMERATE, SEARCH])
def test_what_the_lpm_is_not_relied_on_for_is_left_out(enumerated: int) -> None:
    least, largest = (float(np.quantile(TRUE[LATENCY], q)) for q in (0.3, 0.7))
    known = Known("latency", LATENCY, least, largest)
    kept = (least <= TRUE[LATENCY]) & (largest >= TRUE[LATENCY])
    front = pareto_front(SMALL, ACCURACY, [LATENCY], [known], enumerated=enumerated)
    assert set(SMALL.rank(front.rows).tolist()) == set(expected([LATENCY], kept).tolist())
    choice = most_accurate(SMALL, ACCURACY, [known], enumerated=enumerated)
    assert choice.accuracy == TRUE[ACCURACY][kept].max()
    # What is named as reachable is reached within it, of another cost too.
    for cost in (LATENCY, ENERGY):
        ends = (float(TRUE[cost][kept].min()), float(TRUE[cost][kept].max()))
        assert reach(SMALL, cost, [known]) == pytest.approx(ends)
        with pytest.raises(InputError, match=f"reachable: {ends[0]:.4g} to {ends[1]:.4g}"):
            most_accurate(SMALL, ACCURACY, [Limit("cost", cost, ends[0] * 0.99), known])
    nothing = Known("latency", LATENCY, largest * 100, largest * 200)
    assert reach(SMALL, ENERGY, [nothing]) is None
    with pytest.raises(InputError):
        most_accurate(SMALL, ACCURACY, [nothing], enumerated=enumerated)
    assert Known.of("latency", LATENCY, 3.0, 8.0) == Known("latency", LATENCY, 1.5, 16.0)


@pytest.mark.parametrize("enumerated", [ENUMERATE, SEARCH])
def test_those_near_a_limit_are_more_accurate_and_little_above_it(enumerated: int) -> None:
    conditions, _ = limits(0.4)
    choice = most_accurate(SMALL, ACCURACY, conditions, enumerated=enumerated)
    near = SMALL.rank(choice.near)
    assert len(near) > 3
    accuracies = np.concatenate([[choice.accuracy], TRUE[ACCURACY][near]])
    excess = sum(c.excess(TRUE[c.objective][near]) for c in conditions)  # type: ignore[index]
    assert (np.diff(accuracies) > 0).all()
    assert (np.diff(excess) > 0).all()
    assert excess[0] > 0


def test_some_points_are_taken_before_others() -> None:
    front = pareto_front(SMALL, ACCURACY, [LATENCY, ENERGY])
    first = [3, 7, 8]
    taken = {row.tobytes() for row in front.spread(6, first).rows}
    assert len(taken) == 6
    assert {front.rows[index].tobytes() for index in first} <= taken
    few = {row.tobytes() for row in front.spread(2, first).rows}
    assert few < {front.rows[index].tobytes() for index in first}
