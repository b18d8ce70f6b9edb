"""How one architecture is measured, and in which order many are.

A candidate is timed in alternation with an *anchor network* that stays loaded: one warm-up,
then ``rounds`` times (``runs_per_round`` candidate runs, ``anchor_runs_per_round`` anchor runs).
The estimate is the ratio of the two means, so that slow drift of the machine cancels.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from latkit.backends.base import Clock, Runner

# A single-threaded run whose wall time exceeds its CPU time by more than this was interrupted.
DISTURBED_WALL_OVER_CPU = 1.15
# An anchor mean this far from the median of the session tells of a passing change of speed that
# pairing cannot be trusted to cancel.
DISTURBED_ANCHOR_JUMP = 0.5

DISTURBED = "disturbed"


@dataclass(frozen=True)
class Protocol:
    """The measuring protocol; it is part of a dataset's identity.

    Attributes:
        rounds: alternations of candidate and anchor in one visit.
        runs_per_round: candidate runs before each anchor block.
        anchor_runs_per_round: anchor runs in each block.
        warmup_runs: untimed candidate runs at the start of a visit.
        threads: CPU threads.
        revisit_every: one visit in so many measures an earlier architecture again.
    """

    rounds: int = 2
    runs_per_round: int = 3
    anchor_runs_per_round: int = 1
    warmup_runs: int = 1
    threads: int = 1
    revisit_every: int = 20

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Visit:
    """The raw times of one visit, in milliseconds, and what follows from them."""

    clock: Clock
    samples_ms: tuple[float, ...]
    anchor_samples_ms: tuple[float, ...]
    wall_samples_ms: tuple[float, ...]
    flags: tuple[str, ...]

    @property
    def ratio_to_anchor(self) -> float:
        """Mean candidate time over mean anchor time."""
        return statistics.fmean(self.samples_ms) / statistics.fmean(self.anchor_samples_ms)


def measure_visit(
    candidate: Runner, anchor: Runner, protocol: Protocol, anchor_median_ms: float | None
) -> Visit:
    """Measure one candidate once.

    Args:
        candidate: the network to be measured.
        anchor: the reference network.
        protocol: how often each runs.
        anchor_median_ms: the session's median anchor time so far, to notice a jump; None at the
            session's start.

    Raises:
        BackendError: a run failed.
    """
    candidate.run(protocol.warmup_runs)
    samples: list[float] = []
    anchors: list[float] = []
    walls: list[float] = []
    anchor_walls: list[float] = []
    for _ in range(protocol.rounds):
        timed = candidate.run(protocol.runs_per_round)
        samples += timed.clock_ms
        walls += timed.wall_ms
        timed = anchor.run(protocol.anchor_runs_per_round)
        anchors += timed.clock_ms
        anchor_walls += timed.wall_ms
    disturbed = is_disturbed(
        candidate.clock, [*samples, *anchors], [*walls, *anchor_walls], anchors, anchor_median_ms
    )
    return Visit(
        candidate.clock,
        tuple(samples),
        tuple(anchors),
        tuple(walls),
        (DISTURBED,) if disturbed else (),
    )


def is_disturbed(
    clock: Clock,
    clock_ms: list[float],
    wall_ms: list[float],
    anchor_ms: list[float],
    anchor_median_ms: float | None,
) -> bool:
    """Whether something else used the machine during a visit."""
    if clock == "cpu" and sum(wall_ms) > DISTURBED_WALL_OVER_CPU * sum(clock_ms):
        return True
    if anchor_median_ms is None:
        return False
    jump = abs(statistics.fmean(anchor_ms) / anchor_median_ms - 1)
    return jump > DISTURBED_ANCHOR_JUMP


def schedule(n: int, seed: int, revisit_every: int) -> Iterator[tuple[int, int]]:
    """The order of measurements: (index into the sampled list, visit number).

    Architectures come in the order of the list, which is random already; every
    ``revisit_every``-th visit goes back to an architecture chosen at random among those measured
    once. The order is a function of the arguments, and a longer one begins with a shorter one.
    """
    once: list[int] = []
    position = 0
    for index in range(n):
        position += 1
        if position % revisit_every == 0:
            rng = np.random.default_rng((seed, position))
            # Swap with the last to take one out in constant time.
            chosen = int(rng.integers(len(once)))
            once[chosen], once[-1] = once[-1], once[chosen]
            yield once.pop(), 1
            position += 1
        once.append(index)
        yield index, 0


def retest_sd(ratio_pairs: list[tuple[float, float]]) -> float | None:
    """Relative standard deviation of one measurement, from pairs of repeated ones.

    The difference of two logarithms has twice the variance of one, hence the division by 2.
    None with fewer than two pairs.
    """
    if len(ratio_pairs) < 2:
        return None
    logs = np.log(np.asarray(ratio_pairs))
    return float(np.sqrt(np.mean((logs[:, 0] - logs[:, 1]) ** 2) / 2))
