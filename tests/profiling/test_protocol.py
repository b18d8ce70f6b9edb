"""One visit: who runs when, by which clock, and what shows that something disturbed it."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latkit.backends.base import Clock, Runner, Samples
from latkit.core.errors import InputError
from latkit.profiling.anchor import anchor_architecture, anchor_name, anchor_setting
from latkit.profiling.protocol import (
    DISTURBED,
    JUMPED,
    PREEMPTED,
    PRESETS,
    SPREAD_OUT,
    Protocol,
    choose_clock,
    disturbances,
    measure_once,
)
from latkit.spaces import get_preset


class Recording(Runner):
    """A runner with given times that records what was asked of it."""

    def __init__(
        self,
        name: str,
        milliseconds: list[float],
        log: list[str],
        clock: Clock = "cpu",
        wall: float = 1.0,
    ) -> None:
        super().__init__()
        self.name, self.log, self.clock, self.wall = name, log, clock, wall
        self.times = milliseconds
        self.collecting: list[bool] = []

    def _run(self, n: int) -> Samples:
        self.log += [self.name] * n
        self.collecting.append(gc.isenabled())
        times = [
            self.times[(self.log.count(self.name) - n + i) % len(self.times)] for i in range(n)
        ]
        return Samples(tuple(times), tuple(t * self.wall for t in times))

    def _logits(self) -> Any:
        return None

    def _close(self) -> None:
        pass


def visit(protocol: Protocol, candidate: list[float], anchor: list[float], **more: object):  # type: ignore[no-untyped-def]
    log: list[str] = []
    level = more.pop("level", None)
    return measure_once(
        Recording("c", candidate, log, **more),  # type: ignore[arg-type]
        Recording("a", anchor, log, **more),  # type: ignore[arg-type]
        protocol,
        level,  # type: ignore[arg-type]
    ), "".join(log)


class TestVisit:
    def test_alternates_candidate_and_anchor(self) -> None:
        made, log = visit(Protocol(runs=3), [9.0, 6.0, 6.0, 6.0], [2.0])
        assert log == "c" + "ca" * 3
        assert made.samples_ms == (6.0,) * 3  # the warm-up is not among them
        assert made.anchor_samples_ms == (2.0,) * 3
        assert made.ratio_to_anchor == 3.0
        assert made.flags == ()
        assert not made.disturbed

    def test_the_estimate_is_of_the_faster_halves(self) -> None:
        protocol = Protocol(runs=4, warmup_runs=0)
        made, _ = visit(protocol, [6.0, 6.2, 99.0, 6.3], [2.0, 2.0, 2.0, 50.0])
        assert made.ratio_to_anchor == pytest.approx(6.1 / 2.0)

    def test_the_papers_is_a_plain_mean_by_the_wall_clock(self) -> None:
        made, log = visit(PRESETS["paper"], [6.0, 8.0], [2.0], wall=3.0)
        assert log == "c" * 25 + "a"
        assert made.clock == "wall"
        assert made.samples_ms == (24.0, 18.0) * 10
        assert made.ratio_to_anchor == 21.0 / 6.0
        # What it does not do is to notice that it was preempted all the time.
        assert made.flags == ()

    def test_the_wall_clock_may_be_asked_for(self) -> None:
        made, _ = visit(Protocol(clock="wall"), [6.0], [2.0], wall=1.1)
        assert made.clock == "wall"
        assert made.samples_ms == made.wall_samples_ms == pytest.approx((6.6,) * 6)
        assert made.ratio_to_anchor == pytest.approx(3)

    def test_nothing_is_collected_while_it_times(self) -> None:
        log: list[str] = []
        candidate, anchor = (Recording(name, [1.0], log) for name in "ca")
        assert gc.isenabled()
        measure_once(candidate, anchor, Protocol(), None)
        assert candidate.collecting[1:] == anchor.collecting == [False] * 6
        assert gc.isenabled()

    def test_peak_memory_is_asked_before_the_anchor_runs(self) -> None:
        log: list[str] = []

        class Measuring(Recording):
            def peak_memory_mb(self) -> float:
                self.log.append("m")
                return 12.5

        made = measure_once(
            Measuring("c", [1.0], log), Recording("a", [1.0], log), Protocol(), None
        )
        assert "".join(log).startswith("cmca")
        assert made.metrics == {"peak_memory_mb": 12.5}

    def test_absent_metrics_are_absent(self) -> None:
        assert visit(Protocol(), [1.0], [1.0])[0].metrics == {}


class TestDisturbances:
    QUIET = ([6.0, 6.1, 6.0], [2.0, 2.0, 2.0])

    def flags(
        self,
        samples: list[float] | None = None,
        anchors: list[float] | None = None,
        wall: float = 1.0,
        cpu: bool = True,
        level: float | None = 2.0,
    ) -> tuple[str, ...]:
        samples, anchors = samples or self.QUIET[0], anchors or self.QUIET[1]
        times = [*samples, *anchors]
        walls = [t * wall for t in times]
        return disturbances(samples, anchors, walls, times if cpu else None, level)

    def test_a_quiet_visit(self) -> None:
        assert self.flags() == ()
        assert self.flags(wall=1.1) == ()
        assert self.flags(level=None) == ()

    def test_preempted(self) -> None:
        assert self.flags(wall=1.2) == (DISTURBED, PREEMPTED)
        # Around a device's own clock, host time tells nothing.
        assert self.flags(wall=1.2, cpu=False) == ()

    def test_the_anchor_jumps(self) -> None:
        assert self.flags(level=1.6) == (DISTURBED, JUMPED)
        assert self.flags(level=2.6) == (DISTURBED, JUMPED)
        assert self.flags(level=1.8) == ()
        # One slow run of three is not a jump: the estimate leaves it out too.
        assert JUMPED not in self.flags(anchors=[2.0, 9.0, 2.0])

    def test_spread_out(self) -> None:
        assert self.flags(samples=[6.0, 7.0, 8.0]) == (DISTURBED, SPREAD_OUT)
        assert self.flags(anchors=[2.0, 2.4, 2.4], level=None) == (DISTURBED, SPREAD_OUT)
        # What the estimate leaves out may be as slow as it likes.
        assert self.flags(samples=[6.0, 6.1, 60.0]) == ()

    def test_all_at_once(self) -> None:
        assert self.flags(samples=[6.0, 7.0, 8.0], wall=2.0, level=9.0) == (
            DISTURBED, PREEMPTED, JUMPED, SPREAD_OUT,
        )  # fmt: skip

    @given(
        st.lists(st.integers(5, 50), min_size=2, max_size=12),
        st.lists(st.integers(5, 50), min_size=2, max_size=12),
        st.integers(5, 50),
        st.integers(-6, 6),
    )
    def test_do_not_depend_on_the_unit(
        self, samples: list[int], anchors: list[int], level: int, power: int
    ) -> None:
        def scaled(unit: float) -> tuple[str, ...]:
            c, a = [unit * s for s in samples], [unit * s for s in anchors]
            return disturbances(c, a, [*c, *a], [*c, *a], unit * level)

        assert scaled(2.0**power) == scaled(1.0)


class TestClock:
    @pytest.mark.parametrize(
        ("asked", "own", "chosen"),
        [
            ("auto", "cpu", "cpu"), ("auto", "event", "event"), ("wall", "event", "wall"),
            ("event", "event", "event"), ("wall", "wall", "wall"),
        ],
    )  # fmt: skip
    def test_choice(self, asked: Clock, own: Clock, chosen: Clock) -> None:
        assert choose_clock(asked, own) == chosen

    @pytest.mark.parametrize(
        ("asked", "own", "fix"),
        [("event", "cpu", "--clock cpu"), ("cpu", "event", "--clock event"),
         ("cpu", "wall", "--threads 1")],
    )  # fmt: skip
    def test_a_clock_that_is_not_there(self, asked: Clock, own: Clock, fix: str) -> None:
        with pytest.raises(InputError, match=f"no clock '{asked}'.*Fix: .*{fix}"):
            choose_clock(asked, own)


class TestProtocol:
    def test_presets(self) -> None:
        assert [PRESETS[name].runs for name in ("fast", "standard", "precise")] == [
            3, 6, 12,
        ]  # fmt: skip
        paper = PRESETS["paper"]
        assert (paper.runs, paper.anchored, paper.clock) == (20, False, "wall")

    @pytest.mark.parametrize(
        "values",
        [{"warmup_runs": -1}, {"threads": 0}, {"replicate_every": 1}, {"replicate_every": 0}],
    )
    def test_values_that_are_too_small(self, values: dict[str, int]) -> None:
        with pytest.raises(InputError, match="is too small"):
            Protocol(**values)  # type: ignore[arg-type]

    def test_from_a_dataset(self) -> None:
        for protocol in (*PRESETS.values(), Protocol(threads=2, cores=(0, 3))):
            assert Protocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol
        assert Protocol.from_dict({}) == Protocol()
        # The keys of files that were measured before.
        assert list(Protocol().to_dict()) == [
            "runs_per_visit", "warmup_runs", "anchored", "clock", "threads", "cores",
            "revisit_every",
        ]  # fmt: skip
        with pytest.raises(InputError, match="unknown to this version"):
            Protocol.from_dict({"rounds": 2})

    def test_values_that_cannot_be(self) -> None:
        with pytest.raises(InputError, match="use at least 2"):
            Protocol(runs=1)
        with pytest.raises(InputError, match="2 threads do not fit on 1 core"):
            Protocol(threads=2, cores=(1,))

    @pytest.mark.parametrize(("setting", "cells"), [("imagenet", 4), ("cifar", 6), ("tiny", 3)])
    def test_the_anchor_is_a_third_as_deep(self, setting: str, cells: int) -> None:
        assert anchor_setting(get_preset(setting)).network.cells == cells
        assert anchor_name(get_preset(setting)) == f"darts_v2,cells={cells}"

    @pytest.mark.parametrize(("cells", "anchor_cells"), [(15, 3), (3, 3), (30, 9), (60, 18)])
    def test_the_anchor_of_nasbench201_fills_its_stages(
        self, cells: int, anchor_cells: int
    ) -> None:
        setting = get_preset("nasbench201").replace(cells=cells)
        text = str(anchor_architecture(setting))
        assert text.startswith("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+")
        assert anchor_setting(setting).network.cells == anchor_cells
        assert anchor_name(setting) == f"{text},cells={anchor_cells}"
