"""What `dataset check` says of datasets whose faults are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from latkit.dataset import LatencyDataset
from latkit.dataset.check import check_dataset
from latkit.dataset.writer import DatasetWriter, write_dataset
from tests.support.synthetic import SPACE, made_manifest, made_row

SECOND = 1_000_000
BEGIN = 1_700_000_000 * SECOND


def make(
    folder: Path,
    n: int = 60,
    noise: float = 0.01,
    repeats: int = 20,
    disturbed: range = range(0),
    panel_shift: float | None = 0.0,
    requested: int | None = None,
    anchor_ms: Any = lambda position: 10.0,
    panel_size: int = 16,
    gpu: tuple[tuple[range, str], ...] = (),
) -> LatencyDataset:
    """Architectures of known latency with known noise, the first of them visited again."""
    rng = np.random.default_rng(0)
    ids = SPACE.sample(n, 0).tolist()
    truth = dict(zip(ids, rng.uniform(5, 20, n), strict=True))
    rows: list[dict[str, Any]] = []

    def add(arch_id: int, visit: int, latency: float, *flags: str) -> None:
        position = len(rows)
        measured = latency * math.exp(rng.normal(0, noise))
        rows.append(
            made_row(
                arch_id, measured, visit, flags=list(flags),
                measured_at=BEGIN + position * SECOND,
                anchor_samples_ms=[anchor_ms(position)] * 6, ratio_to_anchor=measured / 10,
                samples_ms=[measured * (1 + 1e-3 * k) for k in range(6)],
            )
        )  # fmt: skip

    panel = SPACE.sample(panel_size, 99).tolist()
    if panel_shift is not None:
        for k, arch_id in enumerate(panel):
            add(arch_id, 0, 8.0 + k, "panel-start")
    for k, arch_id in enumerate(ids):
        flags = ["disturbed", "spread"] if k in disturbed else []
        add(arch_id, 0, truth[arch_id], *flags, *(flag for where, flag in gpu if k in where))
    for arch_id in ids[:repeats]:
        add(arch_id, 1, truth[arch_id])
    if panel_shift is not None:
        for k, arch_id in enumerate(panel):
            add(arch_id, 1, (8.0 + k) * (1 + panel_shift), "panel-end")
    with DatasetWriter(folder, made_manifest(requested or n)) as writer:
        for row in rows:
            writer.append(row)
    return LatencyDataset.open(folder)


def texts(report: dict[str, Any]) -> str:
    return " | ".join(f"{f['level']}: {f['text']}" for f in report["findings"])


def test_a_good_one(tmp_path: Path) -> None:
    report = check_dataset(make(tmp_path / "d")).to_dict()
    assert report["verdict"] == "good"
    assert report["findings"] == []
    assert report["retest_sd_percent"] == pytest.approx(1, rel=0.5)
    assert report["repeats"] == 20
    assert report["architectures"] == 60
    assert report["rows_panel"] == 32
    assert report["duplicate_rows"] == 0


def test_a_noisy_one(tmp_path: Path) -> None:
    dataset = make(tmp_path / "d", noise=0.1)
    report = check_dataset(dataset).to_dict()
    assert report["verdict"] == "unfit"
    assert "unfit: a latency is known only to" in texts(report)
    assert "--target-error" in texts(report)
    assert "known only to" not in texts(check_dataset(dataset, max_error=0.3).to_dict())


def test_more_visits_make_a_noisy_one_fit(tmp_path: Path) -> None:
    """What is judged is the mean that training uses, not the single visit."""
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "d", made_manifest(30)) as writer:
        for visit in range(9):
            for k, arch_id in enumerate(SPACE.sample(30, 0).tolist()):
                latency = (5.0 + k) * math.exp(rng.normal(0, 0.09))
                at = BEGIN + (30 * visit + k) * SECOND
                writer.append(made_row(arch_id, latency, visit, measured_at=at))
    report = check_dataset(LatencyDataset.open(tmp_path / "d")).to_dict()
    assert report["retest_sd_percent"] == pytest.approx(9, rel=0.2)
    assert report["error_percent"] == pytest.approx(report["retest_sd_percent"] / 3)
    assert report["verdict"] == "good"


def test_nothing_but_the_panel(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", made_manifest(3)) as writer:
        writer.append(made_row(1, 5.0, flags=["panel-start"]))
    report = check_dataset(LatencyDataset.open(tmp_path / "d")).to_dict()
    assert report["verdict"] == "unfit"
    assert texts(report) == (
        "unfit: nothing of the list is measured yet: repeat the latkit profile command"
    )


@pytest.mark.parametrize(("repeats", "says"), [(0, "too few replicates"), (5, "from 5 repeats")])
def test_few_repeats(tmp_path: Path, repeats: int, says: str) -> None:
    report = check_dataset(make(tmp_path / "d", repeats=repeats)).to_dict()
    assert report["verdict"] == "usable"
    assert says in texts(report)


def test_disturbed_ones(tmp_path: Path) -> None:
    report = check_dataset(make(tmp_path / "a", disturbed=range(20))).to_dict()
    assert report["disturbed"] == {"share": 20 / 80, "rows_by_reason": {"spread": 20}}
    assert report["architectures_unusable"] == 0  # each of them has a second measurement
    assert report["verdict"] == "usable"
    assert "25 % of the measurements were disturbed" in texts(report)

    report = check_dataset(make(tmp_path / "b", disturbed=range(10, 35))).to_dict()
    assert report["architectures_unusable"] == 15
    assert report["verdict"] == "unfit"
    assert "15 of 60 architectures have only disturbed measurements" in texts(report)

    report = check_dataset(make(tmp_path / "c", repeats=0, disturbed=range(60))).to_dict()
    assert report["latency_ms"] is None
    assert "no architecture has an undisturbed measurement" in texts(report)


def test_a_gpu_that_was_slowed_and_shared(tmp_path: Path) -> None:
    flags = (
        (range(30), "throttled: power cap"), (range(2), "throttled: sync boost"),
        (range(4), "other-processes: 1"), (range(4, 8), "other-processes: 2"),
    )  # fmt: skip
    dataset = make(tmp_path / "a", disturbed=range(1), gpu=flags)
    report = check_dataset(dataset).to_dict()
    assert report["disturbed"] == {"share": 1 / 80, "rows_by_reason": {"spread": 1}}
    assert report["rows_by_gpu_state"] == {
        "throttled: power cap": 30, "throttled: sync boost": 2, "other-processes": 8
    }  # fmt: skip
    assert report["verdict"] == "usable"
    assert len(report["findings"]) == 2
    assert "in 38 % of the measurements the GPU was slowed (power cap)" in texts(report)
    assert "in 10 % of the measurements other processes were on the GPU" in texts(report)
    # Such rows are used: a paired ratio is that of two networks on the same GPU.
    assert dataset.usable().num_rows == 60


def test_an_unfinished_one(tmp_path: Path) -> None:
    report = check_dataset(make(tmp_path / "d", requested=100)).to_dict()
    assert report["verdict"] == "usable"
    assert "60 of 100 architectures are measured" in texts(report)


def test_a_panel_that_moved(tmp_path: Path) -> None:
    report = check_dataset(make(tmp_path / "d", panel_shift=0.06)).to_dict()
    (run,) = report["panel_runs"]
    assert run["architectures"] == 16
    assert run["shift_percent"] == pytest.approx(6, abs=1)
    assert run["deviation_percent"] < 3
    assert run["started"] < run["ended"]
    assert "the panel's latencies moved by +" in texts(report)
    assert check_dataset(make(tmp_path / "e", panel_shift=None)).to_dict()["panel_runs"] == []


@pytest.mark.parametrize(("panel_size", "shift", "noted"), [(2, 0.02, False), (16, 0.06, True)])
def test_a_small_panel_moves_by_chance(
    tmp_path: Path, panel_size: int, shift: float, noted: bool
) -> None:
    """Five percent are little where one measurement repeats to three and the panel has two."""
    made = make(tmp_path / "d", noise=0.03, panel_shift=shift, panel_size=panel_size)
    report = check_dataset(made).to_dict()
    (run,) = report["panel_runs"]
    assert 4 < run["shift_percent"] < 8
    assert ("panel's latencies moved" in texts(report)) == noted


def test_the_panel_of_a_killed_run_is_not_paired(tmp_path: Path) -> None:
    """Start (killed), start, end: one run has both, and it is the second."""
    flags = ["panel-start", "panel-start", "panel-end"]
    with DatasetWriter(tmp_path / "d", made_manifest(2)) as writer:
        for visit, (flag, factor) in enumerate(zip(flags, (5.0, 1.0, 1.1), strict=True)):
            for arch_id in (7, 8):
                at = BEGIN + (10 * visit + arch_id) * SECOND
                writer.append(made_row(arch_id, 10.0 * factor, visit, flags=[flag], measured_at=at))
    (run,) = check_dataset(LatencyDataset.open(tmp_path / "d")).to_dict()["panel_runs"]
    assert run["architectures"] == 2
    assert run["shift_percent"] == pytest.approx(10)


def test_copied_rows(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", made_manifest(3)) as writer:
        for arch_id, visit in ((1, 0), (1, 1), (2, 0)):
            writer.append(
                made_row(arch_id, 5.0 + arch_id, visit, measured_at=BEGIN + arch_id * SECOND)
            )
    report = check_dataset(LatencyDataset.open(tmp_path / "d")).to_dict()
    assert report["duplicate_rows"] == 1
    assert report["verdict"] == "unfit"
    assert "rows were copied" in texts(report)


def test_the_anchors_history(tmp_path: Path) -> None:
    """Twice as slow in the second half, which the ratios do not see and the history shows."""
    dataset = make(tmp_path / "d", n=200, anchor_ms=lambda p: 10.0 if p < 126 else 20.0)
    history = check_dataset(dataset).to_dict()["anchor_history"]
    assert len(history) == 60
    assert sum(stretch["rows"] for stretch in history) == dataset.table.num_rows
    assert [s["from"] for s in history] == sorted(s["from"] for s in history)
    levels = [s["anchor_median_ms"] for s in history]
    assert levels[:25] == [10.0] * 25
    assert levels[-25:] == [20.0] * 25


def test_one_without_anchor_or_origin(tmp_path: Path) -> None:
    """As another program may write it: it has no panel, and no moments to look for one by."""
    manifest = made_manifest(1, anchor=None)
    row = {name: made_row(5, 3.0)[name] for name in manifest.schema.names}
    write_dataset(tmp_path / "d", manifest, pa.Table.from_pylist([row], schema=manifest.schema))
    assert check_dataset(LatencyDataset.open(tmp_path / "d")).panel_runs == ()
