"""The default LPM of accuracies, which are no costs: only their order counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from latkit.core.errors import LPMError
from latkit.core.quantities import ACCURACY, COSTS, LATENCY, get_quantity
from latkit.dataset.format import METRICS
from latkit.lpm.base import LEVELS
from latkit.lpm.default import DefaultLPM
from latkit.lpm.linear import LookupTableLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.scores import NormalScores
from latkit.lpm.transfer import TransferPrior
from latkit.spaces import get_preset, get_space

SPACE, SETTING = get_space("nasbench201"), get_preset("nasbench201")
WORTH = np.random.default_rng(5).uniform(0, 4, (6, 5)).ravel()


def accuracies(n: int, seed: int, noise: float) -> tuple[Any, Any]:
    """Cells, and percentages that are sums of what the operations are worth."""
    x = SPACE.encode(SPACE.unrank(SPACE.sample(n, seed))).astype(np.float64)
    return x, 55 + x @ WORTH + noise * np.random.default_rng(seed).normal(size=n)


def fitted(x: Any, values: Any, **changes: Any) -> DefaultLPM:
    rows = Rows(SPACE, SETTING, x, values, ACCURACY)
    return DefaultLPM.fit(rows, Recipe(quantity=ACCURACY, **changes))


def test_what_is_a_cost() -> None:
    assert get_quantity(ACCURACY).unit == "%"
    assert not get_quantity(ACCURACY).is_cost
    assert LATENCY in COSTS
    assert ACCURACY not in (*COSTS, *METRICS)


def test_level_and_spread_make_no_difference() -> None:
    x, y = accuracies(60, 1, 0.5)
    test = accuracies(100, 9, 0)[0]
    plain, moved = fitted(x, y), fitted(x, 0.5 * y + 3)
    np.testing.assert_allclose(moved.predict(test), 0.5 * plain.predict(test) + 3, rtol=1e-5)
    np.testing.assert_allclose(moved.predict_std(test), 0.5 * plain.predict_std(test), rtol=1e-3)


def test_a_bent_scale_ranks_the_same() -> None:
    """Near the best one everything crowds together: the errors multiply, say."""
    x, y = accuracies(200, 1, 0.5)
    test, truth = accuracies(1000, 9, 0)
    bent = 100 - 60 * np.exp(-(y - 55) / 5)
    lpm = fitted(x[:150], bent[:150])
    of_line = LookupTableLPM.fit(Rows(SPACE, SETTING, x, bent, ACCURACY), Recipe("lookup-table"))
    ranks = [
        np.corrcoef(p.predict(test).argsort().argsort(), truth.argsort().argsort())[0, 1]
        for p in (lpm, of_line)
    ]
    assert ranks[0] > 0.95
    assert ranks[0] > ranks[1]
    assert (lpm.predict(test) <= 100).all()


def test_few_rows_teach_it_and_the_intervals_hold() -> None:
    test, measured = accuracies(2000, 9, 1.0)
    truth = accuracies(2000, 9, 0)[1]
    covered = []
    for seed in (1, 2, 3):
        x, y = accuracies(80, seed, 1.0)
        lpm = fitted(x, y)
        assert np.abs(lpm.predict(test) - truth).mean() < 0.4 * truth.std()
        inside = [
            np.mean(np.abs(lpm.predict(test) - measured) <= lpm.predict_half_width(test, level))
            for level in LEVELS
        ]
        covered.append(inside)
    half, _, ninety = np.mean(covered, axis=0)
    assert 0.36 < half < 0.64
    assert 0.83 < ninety < 0.97


def test_the_state_makes_the_same_lpm() -> None:
    x, y = accuracies(250, 1, 1.0)
    y = y + 3 * x[:, 3] * x[:, 8]  # enough rows for the residual
    lpm = fitted(x, y)
    again = DefaultLPM.from_state(lpm.hyper_parameters, lpm.state())
    np.testing.assert_array_equal(lpm.predict(x), again.predict(x))
    np.testing.assert_array_equal(lpm.predict_std(x), again.predict_std(x))


def test_accuracies_that_are_all_the_same_and_zeros() -> None:
    x, y = accuracies(30, 1, 1.0)
    flat = fitted(x, np.full(30, 10.0))
    np.testing.assert_array_equal(flat.predict(x), 10.0)
    np.testing.assert_array_equal(flat.predict_std(x), 0.0)
    y[:3] = 0.0
    predicted = fitted(x, y).predict(x)
    assert ((predicted >= 0) & (predicted <= 100)).all()


def test_the_curve_leads_back() -> None:
    y = np.array([10.0, 70.0, 71.0, 71.0, 75.0])
    curve = NormalScores.of(y)
    scores = curve.of_values(y)
    assert (np.diff(scores) >= 0).all()
    assert scores[2] == scores[3]
    np.testing.assert_allclose(curve.to_values(torch.from_numpy(scores)), y)
    # Worse than all that were observed: nothing, and nothing is known of it.
    low, high = torch.tensor([-9.0, 0.0]), torch.tensor([-8.0, 0.1])
    assert curve.to_values(high)[0] == 0
    assert curve.half_width(low, high)[0] > 5 > curve.half_width(low, high)[1] > 0
    assert curve.half_width(low - 100, high + 100).tolist() == [50, 50]
    # A third of the values are below the lowest third of a normal distribution.
    many = np.random.default_rng(0).uniform(20, 80, 3000)
    scores = NormalScores.of(many).of_values(many)
    assert abs(scores.mean()) < 0.01
    assert scores.std() == pytest.approx(1, abs=0.02)
    slope = torch.tensor([0.0, 5.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(curve.to_values(slope).sum(), slope)
    assert gradient[0] > 0


@pytest.mark.parametrize("change", ["scores do not rise", "values fall", "of other lengths"])
def test_a_curve_that_is_none(change: str) -> None:
    state = NormalScores.of(np.array([10.0, 70.0, 75.0])).state()
    if change == "scores do not rise":
        state["scores"] = 0 * state["scores"]
    elif change == "values fall":
        state["values"] = state["values"].flip(0)
    else:
        state["values"] = state["values"][1:]
    with pytest.raises(ValueError, match="does not rise"):
        NormalScores.from_state(state)


def test_what_is_refused() -> None:
    x, y = accuracies(30, 1, 1.0)
    with pytest.raises(LPMError):
        fitted(x, np.where(np.arange(30) == 3, np.nan, y))
    source = fitted(x, y)
    with pytest.raises(LPMError):
        fitted(x, y, transfer=TransferPrior.of(SPACE, [("a", source)]))
