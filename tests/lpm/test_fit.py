"""LPMs straight from ``fit``: what they know of their error."""

from __future__ import annotations

import numpy as np
import pytest

from latkit.core.errors import LPMError
from latkit.lpm.base import LPM
from latkit.lpm.kinds import LPM_KINDS
from latkit.lpm.linear import OperationCountLPM
from latkit.lpm.paper import PaperRecipe
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.training import fit
from tests.support.synthetic import MICRO, SPACE, formula_ms


def rows(n: int) -> Rows:
    """Architectures and their latencies with 2 % noise."""
    ids = SPACE.sample(n, 0)
    noise = 1 + 0.02 * np.random.default_rng(0).normal(size=n)
    encodings = SPACE.encode(SPACE.unrank(ids)).astype(np.float64)
    return Rows(SPACE, MICRO, encodings, formula_ms(ids) * noise, "latency_ms")


@pytest.mark.parametrize("kind", LPM_KINDS.names())
def test_an_lpm_straight_from_fit_has_intervals(kind: str) -> None:
    """That hold about as many further architectures as they say."""
    train, test = rows(220).take(np.arange(150)), rows(220).take(np.arange(150, 220))
    options = PaperRecipe(epochs=300) if kind == "paper" else None
    lpm: LPM = fit(train, Recipe(kind, options=options))
    error = np.abs(lpm.predict(test.encodings) - test.values)
    half, most = (lpm.predict_half_width(test.encodings, level) for level in (0.5, 0.9))
    assert (half > 0).all()
    assert (most > half).all()
    assert 0.25 <= np.mean(error <= half) <= 0.75
    assert np.mean(error <= most) >= 0.75


@pytest.mark.parametrize("kind", ["macs-only", "lookup-table"])
def test_two_rows_are_enough(kind: str) -> None:
    lpm = fit(rows(2), Recipe(kind))
    assert np.isfinite(lpm.predict_std(rows(2).encodings)).all()


def test_one_row_is_not() -> None:
    with pytest.raises(LPMError):
        fit(rows(1), Recipe("op-count"))


def test_intervals_that_nothing_is_known_of_are_refused() -> None:
    some = rows(20)
    lpm = OperationCountLPM.fit(some, Recipe("op-count"))
    assert np.isfinite(lpm.predict(some.encodings)).all()
    with pytest.raises(LPMError):
        lpm.predict_std(some.encodings)
