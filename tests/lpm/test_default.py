"""The default LPM on latencies whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from latkit.core.errors import LPMError
from latkit.lpm.base import LEVELS, LPM
from latkit.lpm.default import DefaultLPM
from latkit.lpm.linear import LookupTableLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.store import weights_of
from latkit.lpm.training import learning_curve, split_rows, train_lpm
from latkit.lpm.transfer import TransferPrior
from latkit.spaces import get_preset, get_space
from tests.support.synthetic import SPACE, made_dataset

SETTING = get_preset("imagenet")
RNG = np.random.default_rng(0)
COSTS = np.array([0, 0.4, 0.5, 0.1, 2.0, 2.6, 1.1, 1.4]) * RNG.uniform(0.9, 1.1, (14, 8))


def additive_ms(encodings: Any, noise: float, seed: int = 0) -> Any:
    clean = 8 + encodings @ COSTS.reshape(-1)
    return clean * (1 + noise * np.random.default_rng(seed).normal(size=len(clean)))


def _encodings(n: int, seed: int) -> Any:
    return SPACE.encode(SPACE.unrank(SPACE.sample(n, seed))).astype(np.float64)


def fitted(x: Any, values: Any, transfer: TransferPrior | None = None) -> DefaultLPM:
    return DefaultLPM.fit(Rows(SPACE, SETTING, x, values), Recipe(transfer=transfer))


def _mape(lpm: LPM, x: Any, truth: Any) -> float:
    return float(100 * np.mean(np.abs(lpm.predict(x) - truth) / truth))


def test_few_rows_teach_an_additive_device() -> None:
    test = _encodings(1000, 9)
    truth = additive_ms(test, 0)
    for n, worst in ((10, 6.0), (50, 2.5), (250, 1.2)):
        x = _encodings(n, 1)
        lpm = fitted(x, additive_ms(x, 0.02))
        assert _mape(lpm, test, truth) < worst, n
        rows = Rows(SPACE, SETTING, x, additive_ms(x, 0.02))
        line = LookupTableLPM.fit(rows, Recipe("lookup-table"))
        assert _mape(lpm, test, truth) < _mape(line, test, truth), n


def test_nothing_is_left_to_learn_on_an_additive_device() -> None:
    x = _encodings(2000, 1)
    lpm = fitted(x, additive_ms(x, 0.02))
    assert lpm.gate < 0.1
    assert _mape(lpm, _encodings(500, 9), additive_ms(_encodings(500, 9), 0)) < 0.6


def test_wild_rows_do_not_move_it() -> None:
    test = _encodings(1000, 9)
    truth = additive_ms(test, 0)
    x = _encodings(150, 1)
    y = additive_ms(x, 0.03)
    wild = y.copy()
    wild[::20] *= 3
    clean, moved = (fitted(x, values) for values in (y, wild))
    assert _mape(moved, test, truth) < 1.1 * _mape(clean, test, truth) + 0.05


@pytest.mark.parametrize(("n", "seeds"), [(10, 8), (50, 8), (200, 3)])
def test_intervals_hold_what_they_say(n: int, seeds: int) -> None:
    covered = []
    for seed in range(seeds):
        x, test = _encodings(n, seed), _encodings(500, 99)
        lpm = fitted(x, additive_ms(x, 0.03, seed))
        error = np.abs(lpm.predict(test) - additive_ms(test, 0.03, 1234))
        covered.append([np.mean(error <= lpm.predict_half_width(test, level)) for level in LEVELS])
    half, _, ninety = np.median(covered, axis=0)
    assert 0.38 < half < 0.68
    assert 0.85 <= ninety <= 0.97


def test_prediction_is_differentiable_and_knows_what_is_dear() -> None:
    x = _encodings(100, 1)
    lpm = fitted(x, additive_ms(x, 0.01))
    lpm.predict(_encodings(5, 2))  # in inference mode, which must leave nothing behind
    rows = torch.from_numpy(_encodings(5, 2)).float().requires_grad_()
    (gradient,) = torch.autograd.grad(lpm.mean(rows).sum(), rows)
    per_edge = gradient.view(5, 14, 8)
    assert (per_edge[:, :, 5].mean() - per_edge[:, :, 3].mean()).item() > 1


def test_the_state_makes_the_same_lpm() -> None:
    x = _encodings(150, 1)
    y = additive_ms(x, 0.02) + 3 * (x[:, 5] * x[:, 20])
    sources = TransferPrior.of(SPACE, [("a", fitted(x, y))])
    for transfer in (None, sources):
        lpm = fitted(x, y, transfer)
        state = safetensors.torch.load(weights_of(lpm))
        again = DefaultLPM.from_state(lpm.hyper_parameters, state)
        rows = _encodings(20, 3)
        assert np.array_equal(lpm.predict(rows), again.predict(rows))
        assert np.array_equal(lpm.predict_std(rows), again.predict_std(rows))


def test_intervals_in_single_precision_are_those_in_double() -> None:
    x = _encodings(200, 1)
    lpm = fitted(x, additive_ms(x, 0))
    rows = torch.from_numpy(_encodings(50, 2))
    single = lpm.half_width(rows.float(), 0.9).double()
    assert torch.allclose(single, lpm.half_width(rows, 0.9), rtol=0.02)


def test_nothing_that_is_no_latency_is_fitted() -> None:
    x = _encodings(5, 0)
    for wrong in (np.nan, np.inf, 0.0, -1.0):
        with pytest.raises(LPMError, match="not a positive number"):
            fitted(x, np.array([1.0, 2.0, wrong, 3.0, 4.0]))


def test_one_row_is_refused() -> None:
    with pytest.raises(LPMError, match="1 architectures"):
        fitted(_encodings(1, 0), np.array([3.0]))


class TestTransfer:
    def test_a_like_device_helps_and_an_unlike_one_does_no_harm(self) -> None:
        many, few, test = _encodings(250, 1), _encodings(8, 2), _encodings(800, 9)
        like = fitted(many, 3 * additive_ms(many, 0.02))
        unlike_costs = COSTS[:, ::-1].reshape(-1)
        unlike = fitted(many, 5 + many @ unlike_costs)
        y, truth = additive_ms(few, 0.02), additive_ms(test, 0)
        alone = _mape(fitted(few, y), test, truth)

        def with_sources(*sources: tuple[str, LPM]) -> float:
            prior = TransferPrior.of(SPACE, list(sources))
            return _mape(fitted(few, y, prior), test, truth)

        assert with_sources(("like", like)) < 0.8 * alone
        assert with_sources(("unlike", unlike)) < 1.5 * alone
        assert with_sources(("like", like), ("unlike", unlike)) < alone


class TestChoice:
    def test_active_rows_are_better_than_random_ones(self, tmp_path: Path) -> None:
        dataset = made_dataset(tmp_path / "d", 600)
        errors: dict[str, list[Any]] = {"random": [], "active": []}
        for choose, seen in errors.items():
            for seed in range(3):
                card = train_lpm(dataset, Recipe(n_train=10, choose=choose, seed=seed)).card
                seen.append(card.metrics["spearman"])
                assert card.metrics["n_train"] == 10
                assert card.metrics["n_test"] == 590
        assert np.median(errors["active"]) > np.median(errors["random"]) - 0.02

    def test_is_the_same_for_a_seed_and_repeats_nothing(self, tmp_path: Path) -> None:
        dataset = made_dataset(tmp_path / "d", 100)
        rows = Rows.of(dataset)
        recipe = Recipe(n_train=30, choose="active", seed=3)
        first, second = (split_rows(dataset, rows, recipe) for _ in range(2))
        assert np.array_equal(first[0], second[0])
        assert sorted(np.concatenate(first).tolist()) == list(range(100))


def test_learning_curve(tmp_path: Path) -> None:
    curve = learning_curve(made_dataset(tmp_path / "d", 150), Recipe())
    assert [point.n_train for point in curve] == [10, 20, 50, 100, 120]
    assert {point.metrics.n_test for point in curve} == {30}
    assert curve[-1].metrics.mape_percent < curve[0].metrics.mape_percent


@pytest.mark.parametrize("name", ["nasbench201", "fbnet"])
def test_other_spaces(name: str) -> None:
    space = get_space(name)
    x = space.encode(space.unrank(space.sample(60, 0))).astype(np.float64)
    weights = np.random.default_rng(0).uniform(0.5, 2, space.encoding_size)
    lpm = DefaultLPM.fit(Rows(space, get_preset(name), x, 5 + x @ weights), Recipe())
    again = DefaultLPM.from_state(lpm.hyper_parameters, lpm.state())
    assert np.isfinite(again.predict(x)).all()
    assert (again.predict_std(x) > 0).all()
