"""The default LPM of accuracies, which are no costs: additive noise, any level, any spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latkit.core.errors import LPMError
from latkit.core.quantities import ACCURACY, COSTS, LATENCY, get_quantity
from latkit.dataset.format import METRICS
from latkit.lpm.base import LEVELS
from latkit.lpm.default import DefaultLPM
from latkit.lpm.linear import LookupTableLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
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
    plain, moved = fitted(x, y), fitted(x, 0.1 * y - 7)
    np.testing.assert_allclose(moved.predict(test), 0.1 * plain.predict(test) - 7, atol=1e-4)
    np.testing.assert_allclose(moved.predict_std(test), 0.1 * plain.predict_std(test), rtol=1e-3)


def test_few_rows_teach_it_and_the_intervals_hold() -> None:
    test, measured = accuracies(2000, 9, 1.0)
    truth = accuracies(2000, 9, 0)[1]
    covered = []
    for seed in (1, 2, 3):
        x, y = accuracies(80, seed, 1.0)
        lpm = fitted(x, y)
        table = LookupTableLPM.fit(Rows(SPACE, SETTING, x, y, ACCURACY), Recipe("lookup-table"))
        error, of_table = (np.abs(p.predict(test) - truth).mean() for p in (lpm, table))
        assert error < of_table
        assert error < 0.5 * truth.std()
        inside = [
            np.mean(np.abs(lpm.predict(test) - measured) <= lpm.predict_half_width(test, level))
            for level in LEVELS
        ]
        covered.append(inside)
        # The noise is the same for all, so that no interval is much wider than another.
        width = lpm.predict_std(test)
        assert width.max() < 2.5 * width.min()
    half, _, ninety = np.mean(covered, axis=0)
    assert 0.4 < half < 0.62
    assert 0.85 < ninety < 0.96


def test_the_state_makes_the_same_lpm() -> None:
    x, y = accuracies(250, 1, 1.0)
    y = y + 3 * x[:, 3] * x[:, 8]  # enough rows for the residual
    lpm = fitted(x, y)
    again = DefaultLPM.from_state(lpm.hyper_parameters, lpm.state())
    np.testing.assert_array_equal(lpm.predict(x), again.predict(x))
    np.testing.assert_array_equal(lpm.predict_std(x), again.predict_std(x))


def test_accuracies_that_are_all_the_same_and_zeros() -> None:
    x, y = accuracies(30, 1, 1.0)
    np.testing.assert_allclose(fitted(x, np.full(30, 10.0)).predict(x), 10.0, atol=0.1)
    y[:3] = 0.0
    assert np.isfinite(fitted(x, y).predict(x)).all()


def test_what_is_refused() -> None:
    x, y = accuracies(30, 1, 1.0)
    with pytest.raises(LPMError):
        fitted(x, np.where(np.arange(30) == 3, np.nan, y))
    source = fitted(x, y)
    with pytest.raises(LPMError):
        fitted(x, y, transfer=TransferPrior.of(SPACE, [("a", source)]))
