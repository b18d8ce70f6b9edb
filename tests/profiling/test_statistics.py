"""Estimates and repeatability against what they must be by definition or construction."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latkit.dataset.statistics import (
    MAX_REPLICATES,
    RetestError,
    faster_half_mean,
    faster_half_spread,
    median_absolute_deviation,
    replicates_for,
)

TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=40)


class TestFasterHalfMean:
    def test_of_few(self) -> None:
        assert faster_half_mean([3.0]) == 3.0
        assert faster_half_mean([9.0, 2.0]) == 2.0
        assert faster_half_mean([9.0, 2.0, 4.0]) == 3.0
        assert faster_half_mean([8.0, 2.0, 4.0, 6.0]) == 3.0

    @given(TIMES, st.randoms())
    def test_lies_between_the_least_and_the_median(self, times: list[float], rng: object) -> None:
        estimate = faster_half_mean(times)
        assert min(times) * (1 - 1e-12) <= estimate
        # The median may average two times, the greater of which is not in the half.
        assert estimate <= statistics.median_high(times) * (1 + 1e-12)
        shuffled = list(times)
        rng.shuffle(shuffled)  # type: ignore[attr-defined]
        assert faster_half_mean(shuffled) == pytest.approx(estimate)

    @given(TIMES, st.floats(0.1, 10))
    def test_scales_with_the_times(self, times: list[float], factor: float) -> None:
        assert faster_half_mean([t * factor for t in times]) == pytest.approx(
            factor * faster_half_mean(times)
        )

    @given(st.lists(st.floats(1, 2), min_size=2, max_size=20), st.floats(3, 1e6))
    def test_one_slow_run_among_two_or_more_does_not_count(
        self, times: list[float], slow: float
    ) -> None:
        disturbed = [*times[:-1], slow]
        assert faster_half_mean(disturbed) <= 2.0


def test_faster_half_spread() -> None:
    assert faster_half_spread([5.0]) == 0.0
    assert faster_half_spread([9.0, 5.0]) == 0.0
    assert faster_half_spread([9.0, 5.0, 6.0]) == pytest.approx(0.2)
    assert faster_half_spread([9.0, 5.0, 6.0, 8.0]) == pytest.approx(0.2)


class TestRetestError:
    def test_recovers_a_known_noise(self) -> None:
        rng = np.random.default_rng(0)
        retest = RetestError()
        for thing in range(3000):
            truth = rng.uniform(0.5, 2)
            for _ in range(1 + thing % 3):
                retest.add(thing, truth * math.exp(rng.normal(0, 0.03)))
        assert retest.sd == pytest.approx(0.03, rel=0.05)
        assert retest.repeats == 3000

    def test_of_pairs_is_the_textbook_formula(self) -> None:
        pairs = [(1.0, 1.1), (2.0, 1.9), (3.0, 3.3)]
        retest = RetestError((i, v) for i, pair in enumerate(pairs) for v in pair)
        expected = math.sqrt(statistics.fmean(math.log(a / b) ** 2 / 2 for a, b in pairs))
        assert retest.sd == pytest.approx(expected)

    @given(st.lists(st.tuples(st.integers(0, 4), st.floats(0.1, 10)), max_size=40))
    def test_is_the_pooled_standard_deviation_of_logarithms(
        self, measured: list[tuple[int, float]]
    ) -> None:
        retest = RetestError(measured)
        squares, freedom = 0.0, 0
        for thing in {thing for thing, _ in measured}:
            logs = np.log([value for other, value in measured if other == thing])
            squares += float(((logs - logs.mean()) ** 2).sum())
            freedom += len(logs) - 1
        assert retest.repeats == freedom
        if freedom < 2:
            assert retest.sd is None
        else:
            assert retest.sd == pytest.approx(math.sqrt(squares / freedom), abs=1e-7)


class TestVisitsFor:
    @pytest.mark.parametrize(
        ("sd", "target", "visits"),
        [(0.03, 0.03, 1), (0.03, 0.015, 4), (0.031, 0.015, 5), (0.01, 0.05, 1), (1.0, 0.01, 16)],
    )
    def test_examples(self, sd: float, target: float, visits: int) -> None:
        assert replicates_for(sd, target) == visits

    @given(st.floats(1e-4, 1), st.floats(1e-4, 0.5))
    def test_is_enough_and_not_more_than_needed(self, sd: float, target: float) -> None:
        visits = replicates_for(sd, target)
        assert 1 <= visits <= MAX_REPLICATES
        if visits < MAX_REPLICATES:
            assert sd / visits**0.5 <= target * (1 + 1e-6)
        if visits > 1:
            assert sd / (visits - 1) ** 0.5 > target * (1 - 1e-6)


def test_median_absolute_deviation() -> None:
    logs = np.log([1.0, 1.02, 0.98, 1.5])
    expected = np.median(np.abs(logs - np.median(logs)))
    assert median_absolute_deviation(logs) == pytest.approx(np.expm1(expected))
    assert median_absolute_deviation(logs + 3) == pytest.approx(np.expm1(expected))
