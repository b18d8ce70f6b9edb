"""Costs against what they are sums of, and exact expectations against enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latkit.core.errors import InputError
from latkit.lpm.default import DefaultLPM
from latkit.lpm.linear import OperationCountLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.search.estimators import get_estimator
from latkit.search.objectives import (
    MacsObjective,
    NoisyObjective,
    ObjectiveParts,
    PredictedObjective,
    WeightedSum,
    WorstCase,
    evaluate,
    expectation,
    make_objective,
)
from latkit.spaces import get_preset, get_space
from latkit.spaces.architecture import architecture_cost, architecture_costs
from latkit.spaces.darts.zoo import ZOO
from tests.search.made_objectives import SMALL, CurvedObjective, everything, linear_objective
from tests.support.synthetic import MICRO, SPACE, formula_ms


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.asarray(SPACE.sample(100, 0))


def test_lpm_cost_is_what_the_lpm_predicts(ids: np.ndarray) -> None:
    x = SPACE.encode(SPACE.unrank(ids)).astype(np.float64)
    lpm = DefaultLPM.fit(Rows(SPACE, MICRO, x, formula_ms(ids)), Recipe())
    cost = PredictedObjective(lpm)
    assert (cost.quantity, cost.unit) == ("latency_ms", "ms")
    assert cost.coefficients() is None
    fresh = SPACE.unrank(SPACE.sample(50, 1))
    np.testing.assert_allclose(evaluate(SPACE, cost, fresh), lpm.predict(SPACE.encode(fresh)))
    np.testing.assert_allclose(
        evaluate(SPACE, cost, fresh), formula_ms(SPACE.rank(fresh)), rtol=0.01
    )
    encodings = torch.from_numpy(x[:3]).requires_grad_()
    values = cost(encodings)
    assert values.dtype == torch.float64
    values.sum().backward()
    assert encodings.grad is not None
    # The default estimator's LAT(α) of the fitted LPM is that of the formula.
    alpha = torch.randn(14, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    lat = get_estimator("marginal")(SPACE, alpha, cost, 50, torch.Generator())
    drawn = formula_ms(SPACE.sample(2000, 3)).mean()
    assert abs(float(lat.detach()) / drawn - 1) < 0.2
    lat.backward()
    assert alpha.grad is not None
    assert (alpha.grad[:, 0] == 0).all()


def test_a_table_lpm_has_an_exact_expectation(ids: np.ndarray) -> None:
    x = SPACE.encode(SPACE.unrank(ids)).astype(np.float64)
    lpm = OperationCountLPM.fit(Rows(SPACE, MICRO, x, formula_ms(ids)), Recipe())
    cost = PredictedObjective(lpm)
    value = expectation(SPACE, torch.zeros(14, 8), cost)
    # Uniform α: 8 edges with a mean operation of the formula's seven.
    np.testing.assert_allclose(float(value), 10 + 8 * (8.9 / 7), rtol=1e-4)


def test_energy_has_its_own_unit_and_unknown_ones_are_refused() -> None:
    lpm = OperationCountLPM.fit(Rows(SPACE, MICRO, np.eye(112)[:3], np.ones(3)), Recipe())
    assert PredictedObjective(lpm, "energy_mj").unit == "mJ"
    with pytest.raises(InputError, match="unknown quantity 'beauty'"):
        PredictedObjective(lpm, "beauty")


@pytest.mark.parametrize("setting", [MICRO, get_preset("paper"), get_preset("nasbench201")])
def test_macs_are_those_of_whole_networks(setting: object) -> None:
    space = get_space(setting.space)  # type: ignore[attr-defined]
    matrix = space.unrank(space.sample(20, 0))
    cost = MacsObjective(space, setting)  # type: ignore[arg-type]
    expected = [c.macs / 1e6 for c in architecture_costs(space, matrix, setting)]  # type: ignore[arg-type]
    np.testing.assert_allclose(evaluate(space, cost, matrix), expected, rtol=1e-6)


def test_macs_of_a_published_network() -> None:
    space = get_space("darts")
    row = space.from_genotype(ZOO["darts_v2"])
    macs = float(evaluate(space, MacsObjective(space, get_preset("imagenet")), row)[0])
    assert macs == pytest.approx(
        architecture_cost(ZOO["darts_v2"], get_preset("imagenet")).macs / 1e6
    )
    assert macs == pytest.approx(529.9, abs=0.1)


def test_macs_of_another_space_are_refused() -> None:
    with pytest.raises(InputError, match="networks are of nasbench201, the space is darts"):
        MacsObjective(get_space("darts"), get_preset("nasbench201"))


@pytest.mark.parametrize("weighted", [False, True])
def test_expectation_is_that_of_enumeration(weighted: bool) -> None:
    from tests.search.test_estimators import exact, gradients, parameters

    alpha, strength = parameters()
    given = strength if weighted else None
    cost = WeightedSum([linear_objective(0), linear_objective(1)], [0.3, 2.0])
    value, truth = expectation(SMALL, alpha, cost, given), exact(SMALL, alpha, cost, given)
    torch.testing.assert_close(value, truth)
    torch.testing.assert_close(gradients(value, alpha, given), gradients(truth, alpha, given))


def test_expectation_of_a_curved_cost_is_refused() -> None:
    with pytest.raises(InputError, match="no sum over operations"):
        expectation(SMALL, torch.zeros(7, 4), CurvedObjective())


def test_weighted_sum() -> None:
    rows = everything(SMALL)[::50]
    a, b = linear_objective(0), CurvedObjective(1)
    both = WeightedSum([a, b], [0.25, 3])
    expected = 0.25 * evaluate(SMALL, a, rows) + 3 * evaluate(SMALL, b, rows)
    np.testing.assert_allclose(evaluate(SMALL, both, rows), expected, rtol=1e-5)
    assert (both.quantity, both.unit, both.coefficients()) == ("latency_ms", "ms", None)
    mean = WeightedSum([a, linear_objective(1)])
    assert mean.coefficients() is not None
    np.testing.assert_allclose(
        evaluate(SMALL, mean, rows),
        (evaluate(SMALL, a, rows) + evaluate(SMALL, linear_objective(1), rows)) / 2,
        rtol=1e-6,
    )
    macs = linear_objective(2)
    macs.unit = "MMACs"
    with pytest.raises(InputError, match="MMACs and ms do not add up"):
        WeightedSum([a, macs])


def test_worst_case() -> None:
    rows = everything(SMALL)[::50]
    a, b = linear_objective(0), CurvedObjective(1)
    worst = WorstCase([a, b], [5.0, 22.0])
    shares = np.stack([evaluate(SMALL, a, rows) / 5, evaluate(SMALL, b, rows) / 22])
    np.testing.assert_allclose(evaluate(SMALL, worst, rows), shares.max(0), rtol=1e-6)
    assert (shares.argmax(0) == 0).any()
    assert (shares.argmax(0) == 1).any()  # each device is the worst somewhere
    assert worst.coefficients() is None


def test_noise_is_fresh_normal_and_decided_by_the_generator() -> None:
    encodings = torch.zeros(20_000, SMALL.encoding_size, dtype=torch.float64)
    noisy = NoisyObjective(linear_objective(), 0.025, torch.Generator().manual_seed(3))
    first, second = noisy(encodings), noisy(encodings)
    assert not torch.equal(first, second)
    noise = first - 2.0
    assert abs(float(noise.mean())) < 4 * 0.025 / np.sqrt(20_000)
    assert float(noise.std()) == pytest.approx(0.025, rel=0.03)
    again = NoisyObjective(linear_objective(), 0.025, torch.Generator().manual_seed(3))
    assert torch.equal(again(encodings), first)
    assert noisy.coefficients() is None


def test_costs_by_name() -> None:
    space = get_space("darts")
    lpms = [linear_objective(0, space), linear_objective(1, space)]
    one = ObjectiveParts(space, get_preset("tiny"), lpms[:1])
    two = ObjectiveParts(space, get_preset("tiny"), lpms, (1.0, 2.0))
    assert make_objective("predicted", one) is lpms[0]
    assert isinstance(make_objective("macs", one), MacsObjective)
    assert isinstance(make_objective("weighted-sum", two), WeightedSum)
    assert isinstance(make_objective("worst-case", two), WorstCase)


@pytest.mark.parametrize(
    ("name", "count", "factors", "message"),
    [
        ("beauty", 1, None, "unknown objective 'beauty'.*use one of: predicted, energy, macs"),
        ("predicted", 2, None, "2 devices do not make one"),
        ("weighted-sum", 2, (1.0,), "1 weights for 2 objectives"),
        ("weighted-sum", 0, None, "0 weights for 0 objectives"),
        ("worst-case", 2, None, "needs a target for each"),
        ("worst-case", 2, (1.0, 0.0), "0.0 is no target"),
        ("worst-case", 2, (1.0, float("nan")), "nan is no target"),
    ],
)
def test_bad_input(name: str, count: int, factors: object, message: str) -> None:
    costs = [linear_objective(i) for i in range(count)]
    with pytest.raises(InputError, match=message):
        make_objective(name, ObjectiveParts(SMALL, MICRO, costs, factors))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no standard deviation"):
        NoisyObjective(linear_objective(), -1.0, torch.Generator())
