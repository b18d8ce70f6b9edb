"""Statistics of raw times: estimates, repeatability, and how many replicates an error needs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

# No number of replicates beyond this is planned for an error.
MAX_REPLICATES = 16


def faster_half_mean(times: Sequence[float]) -> float:
    """Mean of the faster half (rounded up) of some times.

    What disturbs a run makes it slower, never faster, and comes in bursts of several runs; on a
    shared machine this repeats better from six runs on than the mean, the median or the minimum
    (docs/measuring.md has the comparison).
    """
    return statistics.fmean(sorted(times)[: (len(times) + 1) // 2])


def faster_half_spread(times: Sequence[float]) -> float:
    """How much slower the slowest of the faster half is than the fastest, relative.

    An interquantile range of the times that count: from the 0 to the 50 % quantile.
    """
    half = sorted(times)[: (len(times) + 1) // 2]
    return half[-1] / half[0] - 1


class RetestError:
    """Repeatability, from things that were measured more than once.

    The logarithms of all repeated measurements, each about the mean of what was measured, pooled:
    the relative standard deviation of one measurement.
    """

    def __init__(self, measured: Iterable[tuple[Hashable, float]] = ()) -> None:
        self._means: dict[Hashable, tuple[int, float]] = {}
        self._squares = 0.0
        self._freedom = 0
        for thing, value in measured:
            self.add(thing, value)

    def add(self, thing: Hashable, value: float) -> None:
        """Take in a positive measurement of a thing."""
        count, mean = self._means.get(thing, (0, 0.0))
        away = math.log(value) - mean
        count += 1
        mean += away / count
        if count > 1:
            # Welford's update of the sum of squares about the running mean.
            self._squares += away * (math.log(value) - mean)
            self._freedom += 1
        self._means[thing] = (count, mean)

    @property
    def repeats(self) -> int:
        """Measurements beyond the first of each thing."""
        return self._freedom

    @property
    def sd(self) -> float | None:
        """Relative standard deviation of one measurement; None with fewer than two repeats."""
        if self._freedom < 2:
            return None
        return math.sqrt(self._squares / self._freedom)


def replicates_for(sd: float, target_error: float) -> int:
    """How many replicates' mean has a relative error of at most ``target_error``.

    At most ``MAX_REPLICATES``.
    """
    # The mean of m replicates has sd / sqrt(m); a hair of tolerance keeps an exact fit exact.
    return min(MAX_REPLICATES, max(1, math.ceil((sd / target_error) ** 2 - 1e-9)))


def median_absolute_deviation(log_ratios: npt.ArrayLike) -> float:
    """Median distance of some logarithms of ratios from their median, as a relative size."""
    values = np.asarray(log_ratios, dtype=np.float64)
    return float(np.expm1(np.median(np.abs(values - np.median(values)))))
