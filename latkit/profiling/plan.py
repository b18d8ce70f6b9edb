"""Which architecture is measured when: the list, replicates, further passes, re-measuring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from latkit.core.errors import InputError
from latkit.dataset.statistics import RetestError, replicates_for

if TYPE_CHECKING:
    from latkit.spaces import SearchSpace
    from latkit.spaces.base import IntArray

# Architectures of the panel: with two panels in a run, one measurement in ten, within bounds.
PANEL_SIZE = 16
PANEL_LEAST = 2
PANEL_SHARE = 0.1
# Beyond the range of seeds a user can give.
PANEL_SEED = 2**32

# Measurements that one run repeats because they were disturbed: so many of one architecture, and
# this share of all that are planned.
REMEASURE_EACH = 3
REMEASURE_SHARE = 0.25
REMEASURE_LEAST = 16


def panel(space: SearchSpace, measurements: int) -> IntArray:
    """Identifiers of the architectures that a run measures at its start and end.

    The panel of a short run is the beginning of that of a longer one.

    Args:
        space: of the architectures.
        measurements: how many the run is to make between the two panels.
    """
    return space.sample(min(panel_size(measurements), space.size), PANEL_SEED)


def panel_size(measurements: int) -> int:
    """How many architectures the panel of a run has, given the measurements between the two."""
    return min(PANEL_SIZE, max(PANEL_LEAST, int(PANEL_SHARE / 2 * measurements)))


def check_count(space: SearchSpace, n: int) -> None:
    """Raises: InputError: a list of the space's architectures cannot have this length."""
    if not 1 <= n <= space.size:
        raise InputError(f"cannot measure {n} architectures", f"use --n from 1 to {space.size}")


def schedule(n: int, seed: int, replicate_every: int) -> Iterator[tuple[int, int]]:
    """The first pass: (index into the sampled list, number of the replicate).

    Architectures come in the order of the list, which is random already; every
    ``replicate_every``-th measurement is a replicate of one chosen at random among those measured
    once. The order is a function of the arguments, and a longer one begins with a shorter one.
    """
    once: list[int] = []
    position = 0
    for index in range(n):
        position += 1
        if position % replicate_every == 0:
            rng = np.random.default_rng((seed, position))
            # Swap with the last to take one out in constant time.
            chosen = int(rng.integers(len(once)))
            once[chosen], once[-1] = once[-1], once[chosen]
            yield once.pop(), 1
            position += 1
        once.append(index)
        yield index, 0


class Work:
    """The measurements still to be made, given those that were; iterating gives list indices.

    First comes the schedule. ``replicates`` > 1, or an error that one measurement does not reach,
    adds passes over the whole list in another order. After the last planned measurement,
    architectures with disturbed ones are re-measured, a bounded number of times in one run.

    After each index the caller must :meth:`record` the outcome.

    Attributes:
        done: measurements made, earlier ones and repeated ones among them.
        retest: repeatability of the undisturbed measurements so far.

    Args:
        n, seed, replicate_every: see :func:`schedule`.
        replicates: undisturbed measurements wanted of each architecture.
        target_error: wanted relative error of an architecture's mean latency; passes are added
            until the retest error over the root of their number reaches it.
        made: (index, value, disturbed) of earlier measurements; the retest error is computed of
            the values.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        replicate_every: int,
        replicates: int = 1,
        target_error: float | None = None,
        made: Iterable[tuple[int, float, bool]] = (),
    ) -> None:
        self._n = n
        self._seed = seed
        self._target_error = target_error
        self._passes = replicates
        self._first_pass = list(schedule(n, seed, replicate_every))
        self._wanted = np.full(n, replicates)
        for index, replicate in self._first_pass:
            self._wanted[index] = max(self._wanted[index], replicate + 1)
        self._made = np.zeros(n, dtype=np.int64)
        self._good = np.zeros(n, dtype=np.int64)
        self._remeasured = np.zeros(n, dtype=np.int64)
        self._given_up = np.zeros(n, dtype=bool)
        # Sums over all architectures: a measurement costs the same however long the list.
        self.done = 0
        self._all_remeasured = 0
        self._all_wanted = self._planned = int(self._wanted.sum())
        self._short = 0
        # Passes that are complete, and how many architectures the next one has still to measure.
        self._complete = 0
        self._left = n
        self.retest = RetestError()
        for index, value, disturbed in made:
            self.record(index, value, disturbed)

    def record(self, index: int, value: float, disturbed: bool) -> None:
        """Record how the measurement of an architecture ended."""
        lacking = self._lacking(index)
        self._planned -= int(self._made[index] < self._wanted[index])
        self._made[index] += 1
        self.done += 1
        self._left -= int(self._made[index] == self._complete + 1)
        while not self._left:
            self._complete += 1
            self._left = int(np.count_nonzero(self._made <= self._complete))
        if not disturbed:
            self._good[index] += 1
            self.retest.add(index, value)
        self._given_up[index] |= self._remeasured[index] >= REMEASURE_EACH
        self._short += self._lacking(index) - lacking

    @property
    def total(self) -> int:
        """Measurements made and still to come, as far as is known now."""
        return self.done + self._planned + min(self._short, self._room())

    @property
    def error(self) -> float | None:
        """Relative error of the mean latency of an architecture measured in all passes so far."""
        return None if self.retest.sd is None else self.retest.sd / max(1, self._complete) ** 0.5

    def __iter__(self) -> Iterator[int]:
        for index, replicate in self._first_pass:
            if self._made[index] <= replicate:
                yield index
        planned = 1
        while True:
            while planned < self._passes:
                planned += 1
                for index in np.random.default_rng((self._seed, planned)).permutation(self._n):
                    if self._made[index] < planned:
                        yield int(index)
            yield from self._remeasure()
            if self._target_error is None or not self._add_passes(self._target_error):
                return

    def _remeasure(self) -> Iterator[int]:
        while True:
            short = np.flatnonzero(
                (self._good < self._wanted) & (self._remeasured < REMEASURE_EACH)
            )
            for index in short.tolist():
                if not self._room():
                    return
                self._remeasured[index] += 1
                self._all_remeasured += 1
                yield index
            if not len(short):
                return

    def _lacking(self, index: int) -> int:
        """Undisturbed measurements that are still lacking, beyond those still planned."""
        if self._given_up[index]:
            return 0
        lacks = max(0, int(self._wanted[index] - self._good[index]))
        return lacks - max(0, int(self._wanted[index] - self._made[index]))

    def _room(self) -> int:
        """How many more disturbed measurements may be repeated."""
        return max(REMEASURE_LEAST, int(REMEASURE_SHARE * self._all_wanted)) - self._all_remeasured

    def _add_passes(self, target_error: float) -> bool:
        # Without repeats there is no error to plan by: measure everything once more.
        needed = 2 if self.retest.sd is None else replicates_for(self.retest.sd, target_error)
        if needed <= self._passes:
            return False
        self._passes = needed
        self._wanted = np.maximum(self._wanted, needed)
        self._all_wanted = int(self._wanted.sum())
        self._planned = int(np.maximum(self._wanted - self._made, 0).sum())
        self._short = sum(map(self._lacking, range(self._n)))
        return True
