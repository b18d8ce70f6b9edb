"""LPMs that a few measurements correct, against the textbook's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from latkit.core.errors import LPMError
from latkit.lpm.base import LPM
from latkit.lpm.conditioned import LEAST_ERROR, ConditionedLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.training import fit
from tests.support.synthetic import MICRO, SPACE, formula_ms

IDS = SPACE.sample(140, 3)
ENCODINGS = SPACE.encode(SPACE.unrank(IDS)).astype(np.float64)
TRUE = formula_ms(IDS)
NONE = np.zeros(140)


@pytest.fixture(scope="module")
def lpm() -> LPM:
    """Of 40 architectures, off by some percent; "measured" is 1.3 times the formula."""
    noise = np.random.default_rng(0).normal(1, 0.04, 40)
    return fit(Rows(SPACE, MICRO, ENCODINGS[:40], TRUE[:40] * noise), Recipe("op-count"))


def test_the_equations(lpm: LPM) -> None:
    """By a Gaussian process written out, where the LPM is not further off than it says."""
    measured, other = slice(40, 46), slice(50, 60)
    predicted, std = lpm.predict(ENCODINGS), lpm.predict_std(ENCODINGS)
    share = (std[measured] / predicted[measured]).mean()
    values = predicted[measured] * (1 + share * np.array([0.5, -0.5, 0.2, 0.9, -0.3, 0.1]))
    errors = np.full(6, 0.05)
    edges = ENCODINGS[0].sum()
    alike = (1 + (ENCODINGS @ ENCODINGS.T / edges) ** 2) / 2
    noise = np.diag((errors / (share * predicted[measured])) ** 2)
    inverse = np.linalg.inv(alike[measured, measured] + noise)
    off = (values / predicted[measured] - 1) / share
    assert off @ inverse @ off < len(off)
    expected = predicted[other] * (1 + share * alike[other, measured] @ inverse @ off)
    left = 1 - np.einsum("ij,jk,ik->i", alike[other, measured], inverse, alike[other, measured])
    made = ConditionedLPM(lpm, ENCODINGS[measured], values, errors)
    np.testing.assert_allclose(made.predict(ENCODINGS[other]), expected, rtol=1e-5)
    np.testing.assert_allclose(
        made.predict_std(ENCODINGS[other]), std[other] * np.sqrt(left), rtol=1e-4
    )


def test_what_is_slower_everywhere(lpm: LPM) -> None:
    """30 % slower than predicted where it was measured: so is what is like that, and less sure."""
    measured, others = slice(40, 60), slice(60, 140)
    made = ConditionedLPM(lpm, ENCODINGS[measured], 1.3 * TRUE[measured], NONE[measured])
    exact = made.predict(ENCODINGS[measured])
    np.testing.assert_allclose(exact, 1.3 * TRUE[measured], rtol=0.01)
    errors = [
        np.abs(one.predict(ENCODINGS[others]) / (1.3 * TRUE[others]) - 1).mean()
        for one in (lpm, made)
    ]
    assert errors[1] < 0.3 * errors[0]
    # They are further off than the LPM says, and the intervals know it now.
    assert (made.predict_std(ENCODINGS[others]) > lpm.predict_std(ENCODINGS[others])).all()
    assert (made.predict_std(ENCODINGS[measured]) < lpm.predict_std(ENCODINGS[measured])).all()
    assert (made.predict_std(ENCODINGS) > 0.1 * LEAST_ERROR * TRUE).all()
    margin = made.margin(torch.tensor(ENCODINGS[others]), 0.9)
    assert (margin > 0).all()


def test_it_is_the_same_for_tensors_of_both_types(lpm: LPM) -> None:
    made = ConditionedLPM(lpm, ENCODINGS[40:43], TRUE[40:43], NONE[:3])
    for dtype in (torch.float32, torch.float64):
        encodings = torch.tensor(ENCODINGS[:5], dtype=dtype)
        mean: Tensor = made.mean(encodings)
        assert mean.dtype == dtype
        np.testing.assert_allclose(mean.numpy(), made.predict(ENCODINGS[:5]), rtol=1e-5)


def test_without_measurements_there_is_none(lpm: LPM) -> None:
    with pytest.raises(LPMError):
        ConditionedLPM(lpm, ENCODINGS[:0], TRUE[:0], NONE[:0])
