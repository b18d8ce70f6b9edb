"""docs/scale.md's numbers are those of the committed result, and its fleet is the driver's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.scale import grown
from benchmarks.scale_fleet import SimulatedKind, SimulatedPool, simulate
from benchmarks.scale_page import PAGE, newest_result, rewrite
from latkit.core.events import SILENT
from latkit.dataset import LatencyDataset, Target
from latkit.profiling.fleet.driver import Fleet, FleetPlan
from latkit.profiling.protocol import PRESETS
from latkit.spaces import Setting

KIND = SimulatedKind(3, (0.1, 0.2, 0.4), start_seconds=5.0, disturbed=0.1)


def test_the_page_is_what_the_result_gives() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rewrite(text, newest_result()) == text


@pytest.mark.parametrize("lost_per_hour", [0.0, 200.0])
def test_the_simulation_is_of_what_the_driver_does(
    tmp_path: Path, micro: Setting, lost_per_hour: float
) -> None:
    """Of equal draws both make about as many measurements, in about the same simulated time."""
    kind = dataclasses.replace(KIND, lost_per_hour=lost_per_hour, back_seconds=2.0)
    pool = SimulatedPool(kind, 1)
    plan = FleetPlan(
        Target("darts", "made", "torch-cpu", micro), PRESETS["fast"], 150, 1, tmp_path / "d"
    )
    Fleet(plan, pool, kind.workers, SILENT).run()
    run = simulate(kind, 150, 1)
    assert run.runs == 1
    assert (run.measurements, run.lost) == (pool.measured, pool.lost)
    assert (pool.lost > 0) == (lost_per_hour > 0)
    assert run.seconds == pytest.approx(pool.now)
    usable = LatencyDataset.open(tmp_path / "d").usable().num_rows
    assert 150 - run.architectures_unusable == usable


def test_a_fleet_that_is_lost_is_started_again() -> None:
    run = simulate(dataclasses.replace(KIND, workers=1, lost_per_hour=3000.0), 60, 0)
    assert run.runs > 1
    assert run.architectures_unusable == 0


def test_a_straight_line() -> None:
    line = grown([(1, 12.0), (10, 30.0), (100, 210.0)], 1000)
    assert line["extrapolated"] == pytest.approx(2010)
    assert line["per_unit"] == pytest.approx(2)
    assert 0.8 < line["exponent"] < 1
