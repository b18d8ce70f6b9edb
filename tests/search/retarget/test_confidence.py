"""Limits that are kept with a probability, by the intervals of LPMs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latkit.core.errors import InputError
from latkit.lpm.base import LEVELS, LPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.training import fit
from latkit.search.objectives import (
    MacsObjective,
    ParamsObjective,
    PredictedBound,
    PredictedObjective,
    evaluate,
)
from latkit.search.retarget import Limit, most_accurate
from latkit.spaces import get_preset, get_space
from tests.search.made_objectives import CurvedObjective

SPACE, SETTING = get_space("nasbench201"), get_preset("nasbench201")
COSTS = np.random.default_rng(0).uniform(0.1, 2.0, SPACE.encoding_size)


def rows(n: int, seed: int, noise: float) -> Rows:
    x = SPACE.encode(SPACE.unrank(SPACE.sample(n, seed))).astype(np.float64)
    true = 5 + x @ COSTS
    noisy = true * (1 + noise * np.random.default_rng(seed).normal(size=n))
    return Rows(SPACE, SETTING, x, noisy)


@pytest.fixture(scope="module", params=["default", "lookup-table"])
def lpm(request: pytest.FixtureRequest) -> LPM:
    return fit(rows(60, 1, 0.03), Recipe(request.param))


def test_the_margin_is_the_half_width_of_twice_the_tail(lpm: LPM) -> None:
    x = torch.from_numpy(rows(20, 9, 0).encodings)
    for level in LEVELS:
        torch.testing.assert_close(lpm.margin(x, 0.5 + level / 2), lpm.half_width(x, level))
    assert (lpm.margin(x, 0.5).abs() < 1e-12).all()  # older scipy: 1e-16
    grown = torch.stack([lpm.margin(x, c) for c in (0.5, 0.6, 0.75, 0.8, 0.9, 0.95, 0.99)])
    assert (grown.diff(dim=0) > 0).all()
    for none in (0.4, 1.0, float("nan")):
        with pytest.raises(InputError):
            lpm.margin(x, none)


def test_measurements_are_below_the_bound_as_often_as_asked(lpm: LPM) -> None:
    judged = rows(3000, 7, 0.03)
    for confidence in (0.75, 0.9, 0.95):
        bound = (
            lpm.predict(judged.encodings)
            + lpm.margin(torch.from_numpy(judged.encodings), confidence).numpy()
        )
        assert np.mean(judged.values <= bound) == pytest.approx(confidence, abs=0.06)


def test_a_limit_with_confidence_leaves_room(lpm: LPM) -> None:
    accuracy, latency = CurvedObjective(1, SPACE), PredictedObjective(lpm)
    every = SPACE.unrank(np.arange(SPACE.size))
    predicted = evaluate(SPACE, latency, every)
    limit = float(np.quantile(predicted, 0.8))
    bound = PredictedBound(latency, 0.9)
    upper = evaluate(SPACE, bound, every)
    assert (upper > predicted).all()
    chosen = most_accurate(SPACE, accuracy, [Limit("latency", bound, limit)])
    index = SPACE.rank(chosen.row)[0]
    assert upper[index] <= limit
    assert chosen.accuracy == evaluate(SPACE, accuracy, every)[upper <= limit].max()
    assert chosen.accuracy <= most_accurate(SPACE, accuracy, [Limit("", latency, limit)]).accuracy


def test_analytic_costs_are_exact_limits() -> None:
    accuracy = CurvedObjective(1, SPACE)
    macs, params = MacsObjective(SPACE, SETTING), ParamsObjective(SPACE, SETTING)
    choice = most_accurate(
        SPACE, accuracy, [Limit("MACs", macs, 80.0), Limit("parameters", params, 0.5)]
    )
    cost = SPACE.cost(SPACE.cell(choice.row), SETTING.network)
    assert cost.macs <= 80e6
    assert cost.params <= 0.5e6
    assert evaluate(SPACE, params, choice.row)[0] == pytest.approx(cost.params / 1e6)
