"""The order of measurements, and what is made of raw times."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latkit.backends.base import Clock, Runner, Samples
from latkit.profiling.protocol import (
    DISTURBED,
    Protocol,
    is_disturbed,
    measure_visit,
    retest_sd,
    schedule,
)


class Recording(Runner):
    """A runner with a constant time that records what was asked of it."""

    def __init__(
        self, name: str, milliseconds: float, log: list[str], clock: Clock = "cpu"
    ) -> None:
        super().__init__()
        self.name, self.milliseconds, self.log, self.clock = name, milliseconds, log, clock

    def _run(self, n: int) -> Samples:
        self.log += [self.name] * n
        return Samples((self.milliseconds,) * n, (self.milliseconds,) * n)

    def _close(self) -> None:
        pass


def test_a_visit_alternates_candidate_and_anchor() -> None:
    log: list[str] = []
    visit = measure_visit(
        Recording("c", 6.0, log), Recording("a", 2.0, log), Protocol(rounds=2), None
    )
    assert "".join(log) == "c" + "ccca" * 2
    assert visit.samples_ms == (6.0,) * 6
    assert visit.anchor_samples_ms == (2.0, 2.0)
    assert visit.ratio_to_anchor == 3.0
    assert visit.flags == ()


@pytest.mark.parametrize(
    ("clock", "wall_factor", "anchor_median", "disturbed"),
    [
        ("cpu", 1.05, 2.0, False),
        ("cpu", 1.5, 2.0, True),  # something else had the core
        ("wall", 1.0, 2.0, False),
        ("event", 1.5, 2.0, False),  # host time around a device event tells nothing
        ("cpu", 1.0, 1.0, True),  # the anchor took twice its median
        ("event", 1.0, 5.0, True),
        ("cpu", 1.0, None, False),  # no median yet
    ],
)
def test_disturbed(
    clock: Clock, wall_factor: float, anchor_median: float | None, disturbed: bool
) -> None:
    times = [6.0, 6.0, 2.0]
    walls = [t * wall_factor for t in times]
    assert is_disturbed(clock, times, walls, [2.0], anchor_median) is disturbed


def test_a_disturbed_visit_is_flagged() -> None:
    log: list[str] = []
    visit = measure_visit(Recording("c", 6.0, log), Recording("a", 2.0, log), Protocol(), 0.5)
    assert visit.flags == (DISTURBED,)


class TestSchedule:
    @given(st.integers(1, 300), st.integers(0, 5), st.integers(2, 25))
    def test_visits_each_once_and_some_again_later(self, n: int, seed: int, every: int) -> None:
        plan = list(schedule(n, seed, every))
        assert [i for i, visit in plan if visit == 0] == list(range(n))
        assert len(set(plan)) == len(plan)
        for position, (index, visit) in enumerate(plan):
            if visit == 1:
                assert (index, 0) in plan[:position]
        share = sum(visit for _, visit in plan) / len(plan)
        assert share <= 1 / every
        assert len(plan) < every or share > 0.5 / every

    @given(st.integers(1, 200), st.integers(0, 100))
    def test_a_longer_plan_begins_with_the_shorter(self, n: int, more: int) -> None:
        short = list(schedule(n, 3, 20))
        assert list(schedule(n + more, 3, 20))[: len(short)] == short

    def test_depends_on_the_seed(self) -> None:
        assert list(schedule(300, 0, 20)) != list(schedule(300, 1, 20))


class TestRetestSd:
    def test_recovers_a_known_noise(self) -> None:
        rng = np.random.default_rng(0)
        truth = rng.uniform(0.5, 2, 4000)
        noise = np.exp(rng.normal(0, 0.03, (2, 4000)))
        pairs = list(zip(truth * noise[0], truth * noise[1], strict=True))
        sd = retest_sd(pairs)
        assert sd is not None
        assert math.isclose(sd, 0.03, rel_tol=0.05)

    def test_needs_two_pairs(self) -> None:
        assert retest_sd([]) is None
        assert retest_sd([(1.0, 1.1)]) is None
        assert retest_sd([(1.0, 1.0), (2.0, 2.0)]) == 0.0
