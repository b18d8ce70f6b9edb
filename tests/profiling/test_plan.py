"""The order of visits: the list, revisits, further passes, and making up for disturbed ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latkit.profiling.plan import (
    PANEL_SIZE,
    REMEASURE_EACH,
    REMEASURE_LEAST,
    REMEASURE_SHARE,
    Work,
    panel,
    schedule,
)
from latkit.spaces import get_space

Outcome = tuple[int, float, bool]


def run(
    work: Work, disturbed: Callable[[int], bool] = lambda visit: False, stop: int | None = None
) -> list[Outcome]:
    """Carry out the work; ``disturbed`` decides by the number of the visit."""
    made: list[Outcome] = []
    for index in work:
        if stop is not None and len(made) == stop:
            break
        made.append((index, 1.0, disturbed(len(made))))
        work.record(*made[-1])
    return made


def indices(made: list[Outcome]) -> list[int]:
    return [index for index, _, _ in made]


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


def test_the_panel_is_fixed() -> None:
    """These identifiers must never change: they are what makes two runs comparable."""
    ids = panel(get_space("darts"), 1000).tolist()
    assert len(set(ids)) == PANEL_SIZE == 16
    assert ids[:3] == [821442901, 560843105, 864862619]
    assert not set(ids) & set(get_space("darts").sample(1000, 0).tolist())


@pytest.mark.parametrize(
    ("measurements", "size"), [(1, 2), (10, 2), (59, 2), (60, 3), (100, 5), (320, 16), (10**6, 16)]
)
def test_the_panel_scales_with_the_run(measurements: int, size: int) -> None:
    space = get_space("darts")
    ids = panel(space, measurements)
    assert len(ids) == size
    # So that runs of different length share it.
    assert (ids == panel(space, 10**6)[:size]).all()
    if measurements >= 40:
        assert 2 * size <= 0.1 * measurements


class TestQuietWork:
    def test_is_the_schedule(self) -> None:
        work = Work(50, 0, 20)
        assert work.total == len(list(schedule(50, 0, 20)))
        made = run(work)
        assert indices(made) == [i for i, _ in schedule(50, 0, 20)]
        assert work.done == work.total == len(made)
        assert run(work) == []

    @settings(max_examples=60)
    @given(st.data())
    def test_goes_on_where_it_was_stopped(self, data: st.DataObject) -> None:
        """Whatever was disturbed, and whenever it was stopped, the order is that of one go."""
        n = data.draw(st.integers(1, 40))
        visits = data.draw(st.integers(1, 3))
        bad = data.draw(st.sets(st.integers(0, 150), max_size=30))
        whole = run(Work(n, 1, 10, visits), bad.__contains__)
        stop = data.draw(st.integers(0, len(whole)))
        planned = Work(n, 1, 10, visits).total
        half = run(Work(n, 1, 10, visits), bad.__contains__, stop)
        assert half == whole[:stop]
        rest = run(Work(n, 1, 10, visits, made=half), lambda v: v + stop in bad)
        if stop <= planned:
            assert half + rest == whole
        # Later, a run begins its make-up visits anew.
        assert (half + rest)[:planned] == whole[:planned]
        assert len(half + rest) <= planned + 2 * max(REMEASURE_LEAST, planned // 4)

    def test_a_larger_n_extends(self) -> None:
        first = run(Work(30, 0, 20))
        more = run(Work(60, 0, 20, made=first))
        assert indices(first + more) == [i for i, _ in schedule(60, 0, 20)]

    def test_more_visits_are_further_passes(self) -> None:
        made = run(Work(40, 0, 20, replicates=3))
        first = [i for i, _ in schedule(40, 0, 20)]
        assert indices(made)[: len(first)] == first
        assert set(Counter(indices(made)).values()) == {3}
        later = indices(made)[len(first) :]
        assert later[:30] != sorted(later[:30])  # in another order
        assert indices(run(Work(40, 0, 20, replicates=3, made=run(Work(40, 0, 20))))) == later


class TestMakingUp:
    def test_disturbed_visits_are_made_up_at_the_end(self) -> None:
        made = run(Work(50, 0, 20), {3, 7, 20}.__contains__)
        first = [i for i, _ in schedule(50, 0, 20)]
        assert indices(made)[: len(first)] == first
        assert indices(made)[len(first) :] == sorted(first[v] for v in (3, 7, 20))

    @settings(max_examples=60)
    @given(st.integers(1, 30), st.integers(1, 3), st.sets(st.integers(0, 200)), st.booleans())
    def test_done_and_total_are_what_counting_gives(
        self, n: int, visits: int, bad: set[int], target: bool
    ) -> None:
        work = Work(n, 0, 10, visits, target_error=0.01 if target else None)
        totals = []
        made = 0
        for index in work:
            work.record(index, 1.0 + 0.02 * (made % 3), made in bad)
            made += 1
            assert work.done == made <= work.total
            totals.append(work.total)
        assert work.total == work.done == made
        if not bad and not target:
            assert set(totals) == {made}

    def test_the_total_foresees_it(self) -> None:
        work = Work(50, 0, 20)
        planned = work.total
        todo = iter(work)
        work.record(next(todo), 1.0, disturbed=True)
        assert work.total == planned + 1
        work.record(next(todo), 1.0, disturbed=False)
        assert work.total == planned + 1

    @pytest.mark.parametrize("n", [1, 5, 400])
    def test_is_bounded_where_everything_is_disturbed(self, n: int) -> None:
        work = Work(n, 0, 20)
        planned = work.total
        made = run(work, lambda visit: True)
        room = max(REMEASURE_LEAST, int(REMEASURE_SHARE * planned))
        assert len(made) == planned + min(room, REMEASURE_EACH * n)
        assert work.done == work.total == len(made)
        # The next run tries again, within the same bound.
        assert len(run(Work(n, 0, 20, made=made), lambda visit: True)) == min(
            room, REMEASURE_EACH * n
        )
        assert len(run(Work(n, 0, 20, made=made))) <= room

    def test_a_planned_repeat_is_wanted_undisturbed(self) -> None:
        plan = list(schedule(50, 0, 20))
        repeat = next(v for v, (_, visit) in enumerate(plan) if visit == 1)
        made = run(Work(50, 0, 20), {repeat}.__contains__)
        assert indices(made)[len(plan) :] == [plan[repeat][0]]


class TestTargetError:
    def noisy(self, sd: float, target: float, n: int = 60) -> tuple[Work, list[Outcome]]:
        rng = np.random.default_rng(1)
        work = Work(n, 0, 10, target_error=target)
        made = []
        for index in work:
            made.append((index, math.exp(rng.normal(0, sd)), False))
            work.record(*made[-1])
        return work, made

    def test_passes_are_added_until_the_error_is_reached(self) -> None:
        work, made = self.noisy(0.03, 0.015)
        assert work.error is not None
        assert work.error <= 0.015
        counts = set(Counter(indices(made)).values())
        assert counts <= {3, 4, 5, 6}  # (3 / 1.5)^2 = 4, known to some error

    def test_a_pass_counts_when_its_last_measurement_is_recorded(self) -> None:
        work = Work(3, 0, 10, replicates=2)
        errors = []
        for made, index in enumerate(work):
            work.record(index, 1 + 0.01 * made, False)
            errors.append((work.retest.sd, work.error))
        assert [sd for sd, _ in errors[:3]] == [None] * 3
        assert errors[-2][1] == errors[-2][0]
        assert errors[-1][1] == pytest.approx(errors[-1][0] / math.sqrt(2))

    def test_none_are_added_where_it_is_reached(self) -> None:
        _, made = self.noisy(0.01, 0.05)
        assert indices(made) == [i for i, _ in schedule(60, 0, 10)]

    def test_without_repeats_all_are_visited_twice(self) -> None:
        work, made = self.noisy(0.001, 0.01, n=3)
        assert set(Counter(indices(made)).values()) == {2}
        assert work.error is not None

    def test_gives_up_at_the_bound(self) -> None:
        work, made = self.noisy(0.5, 0.01)
        assert set(Counter(indices(made)).values()) == {16}
        assert work.error is not None
        assert work.error > 0.01
