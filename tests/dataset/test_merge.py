"""Several datasets made into one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from latkit.core.errors import DatasetError
from latkit.dataset import LatencyDataset
from latkit.dataset.check import check_dataset
from latkit.dataset.merge import merge_datasets
from latkit.dataset.writer import DatasetWriter
from tests.support.synthetic import made_manifest, made_row

SECOND = 1_000_000


def make(folder: Path, rows: list[tuple[int, float, int]], **manifest: Any) -> LatencyDataset:
    """Rows of (architecture, latency, second); an architecture's visits are numbered in turn."""
    visits: dict[int, int] = {}
    with DatasetWriter(folder, made_manifest(len(rows), **manifest)) as writer:
        for arch_id, latency, second in rows:
            visit = visits.get(arch_id, 0)
            writer.append(made_row(arch_id, latency, visit, measured_at=second * SECOND))
            visits[arch_id] = visit + 1
    return LatencyDataset.open(folder)


def test_rows_are_in_the_order_of_measurement_with_visits_numbered_anew(tmp_path: Path) -> None:
    a = make(tmp_path / "a", [(1, 5.0, 10), (2, 6.0, 30), (1, 5.2, 50)])
    b = make(tmp_path / "b", [(1, 5.1, 20), (3, 7.0, 40)])
    merged = merge_datasets([a, b], tmp_path / "m")
    columns = merged.table.select(["arch_id", "visit", "samples_ms"]).to_pylist()
    assert [(r["arch_id"], r["visit"], r["samples_ms"][0]) for r in columns] == [
        (1, 0, 5.0), (1, 1, 5.1), (2, 0, 6.0), (3, 0, 7.0), (1, 2, 5.2),
    ]  # fmt: skip
    assert merged.manifest.origin == {"merged": [a.digest(), b.digest()]}
    assert merged.usable()["latency_ms"].to_pylist() == pytest.approx([5.1, 6.0, 7.0])
    # The sources are as they were.
    assert LatencyDataset.open(tmp_path / "a").digest() == a.digest()


def test_latencies_refer_to_the_anchor_time_of_all(tmp_path: Path) -> None:
    a = make(tmp_path / "a", [(1, 20.0, 1)])
    with DatasetWriter(tmp_path / "b", made_manifest(1)) as writer:
        writer.append(made_row(2, 60.0, anchor_samples_ms=[20.0, 20.0], ratio_to_anchor=3.0))
    merged = merge_datasets([a, LatencyDataset.open(tmp_path / "b")], tmp_path / "m")
    assert merged.anchor_median_ms == 15.0
    assert sorted(merged.table["latency_ms"].to_pylist()) == [30.0, 45.0]


def test_a_dataset_and_its_copy_are_the_dataset(tmp_path: Path) -> None:
    a = make(tmp_path / "a", [(1, 5.0, 10), (2, 6.0, 30), (1, 5.2, 50)])
    b = make(tmp_path / "b", [(1, 5.0, 10), (2, 6.0, 30), (1, 5.2, 50)])
    assert merge_datasets([a, b], tmp_path / "m").digest() == a.digest()


def test_a_merged_dataset_is_not_continued(tmp_path: Path) -> None:
    """It may be of several machines; a run would stamp its own on all of it."""
    a, b = make(tmp_path / "a", [(1, 5.0, 10)]), make(tmp_path / "b", [(2, 6.0, 30)])
    merged = merge_datasets([a, b], tmp_path / "m")
    with pytest.raises(
        DatasetError, match=r"was merged from others, and cannot be continued.*dataset merge"
    ):
        DatasetWriter(tmp_path / "m", made_manifest(3)).__enter__()
    assert LatencyDataset.open(tmp_path / "m").manifest == merged.manifest


def test_runs_that_overlapped_have_no_panel_report(tmp_path: Path) -> None:
    def run(name: str, begin: int) -> LatencyDataset:
        with DatasetWriter(tmp_path / name, made_manifest(1)) as writer:
            for visit, flag in enumerate(("panel-start", "panel-end")):
                at = (begin + 100 * visit) * SECOND
                row = made_row(5, 9.0 + begin, visit, flags=[flag], measured_at=at)
                writer.append(row)
            writer.append(made_row(begin, 9.0, measured_at=(begin + 50) * SECOND))
        return LatencyDataset.open(tmp_path / name)

    first, second = run("a", 1), run("b", 2)
    assert len(check_dataset(first).to_dict()["panel_runs"]) == 1
    assert (
        check_dataset(merge_datasets([first, second], tmp_path / "m")).to_dict()["panel_runs"] == []
    )


def test_different_hardware_only_on_request(tmp_path: Path) -> None:
    a = make(tmp_path / "a", [(1, 5.0, 10)], fingerprint={"cpu": "x", "torch": "2", "kernel": "6"})
    b = make(tmp_path / "b", [(2, 6.0, 30)], fingerprint={"cpu": "y", "torch": "2"})
    with pytest.raises(DatasetError, match=r"different hardware \(cpu: x / y\).*--unlike-machines"):
        merge_datasets([a, b], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    merged = merge_datasets([a, b], tmp_path / "m", different_hardware=True)
    assert merged.manifest.fingerprint == {"torch": "2", "kernel": "6"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target": dataclasses.replace(made_manifest(1).target, device="other")}, "device"),
        ({"protocol": {**made_manifest(1).protocol, "threads": 4}}, "threads: 1 / 4"),
        ({"anchor": "darts_v2,cells=5"}, "anchor"),
    ],
)
def test_what_does_not_belong_together(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    a = make(tmp_path / "a", [(1, 5.0, 10)])
    b = make(tmp_path / "b", [(2, 6.0, 30)], **change)
    with pytest.raises(DatasetError, match=f"do not belong together.*{named}"):
        merge_datasets([a, b], tmp_path / "m", different_hardware=True)


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a", [(1, 5.0, 10)]), make(tmp_path / "b", [(2, 6.0, 30)])
    with pytest.raises(DatasetError, match="exists and is not empty"):
        merge_datasets([a, b], tmp_path / "a")
    assert LatencyDataset.open(tmp_path / "a").digest() == a.digest()
