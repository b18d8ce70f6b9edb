"""Broken datasets: whatever is wrong with the files, it is named, and nothing else is raised."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latkit.core.errors import DatasetError, LatkitError
from latkit.dataset import LatencyDataset
from latkit.dataset.check import check_dataset
from latkit.dataset.format import (
    JOURNAL,
    MANIFEST,
    SCHEMA,
    count_rows,
    part_paths,
    read_manifest,
)
from latkit.dataset.writer import DatasetWriter
from tests.dataset.test_format import rewrite_part, write
from tests.support.synthetic import made_manifest, made_row


def use_in_every_way(folder: Path) -> None:
    """What the commands do with a dataset; only a LatkitError may come of it."""

    def judge() -> None:
        json.dumps(check_dataset(LatencyDataset.open(folder)).to_dict(), allow_nan=False)

    def show() -> None:
        json.dumps(LatencyDataset.open(folder).manifest.to_dict(), allow_nan=False)

    def count() -> None:
        read_manifest(folder)
        count_rows(folder)

    for use in (judge, show, count, lambda: write(folder, [])):
        with contextlib.suppress(LatkitError):
            use()


class TestBroken:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write(tmp_path / "d", [made_row(0, 5.0), made_row(1, 6.0)])
        return tmp_path / "d"

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"has no dataset\.json.*Fix: make a dataset"):
            LatencyDataset.open(tmp_path / "nothing")

    def test_empty(self, tmp_path: Path) -> None:
        write(tmp_path / "d", [])
        with pytest.raises(DatasetError, match="no measurements yet"):
            LatencyDataset.open(tmp_path / "d")

    def test_a_part_cut_short(self, folder: Path) -> None:
        part = part_paths(folder)[0]
        part.write_bytes(part.read_bytes()[:-20])
        for read in (LatencyDataset.open, lambda f: write(f, [])):
            with pytest.raises(
                DatasetError, match=r"part-000000\.parquet is corrupt.*Fix:.*delete"
            ):
                read(folder)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_changed_bytes_never_raise_anything_else(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        """Bytes of any file: reading, judging, listing and continuing name what is wrong."""
        folder = tmp_path_factory.mktemp("fuzz")
        write(folder, [made_row(0, 5.0), made_row(1, 6.0, flags=["panel-start", "disturbed"])])
        row = json.dumps(made_row(2, 7.0, flags=["disturbed", "spread"]))
        (folder / JOURNAL).write_text(f"{row}\n{row[:50]}")
        path = data.draw(
            st.sampled_from([folder / MANIFEST, folder / JOURNAL, part_paths(folder)[0]])
        )
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(content))
        use_in_every_way(folder)

    @pytest.mark.parametrize(
        "value", ["1e999", "NaN", "Infinity", "9" * 5000, "-1e999", "[" * 5000, '"\\ud800"']
    )
    @pytest.mark.parametrize("key", ["seed", "requested", "fingerprint", "protocol", "format"])
    def test_values_that_json_can_hold_and_nothing_else(
        self, folder: Path, key: str, value: str
    ) -> None:
        path = folder / MANIFEST
        content = json.loads(path.read_text())
        content[key] = {"fact": "VALUE"} if isinstance(content[key], dict) else "VALUE"
        path.write_text(json.dumps(content).replace('"VALUE"', value))
        use_in_every_way(folder)

    @pytest.mark.parametrize(
        "change",
        [
            {"measured_at": 9 * 10**18},
            {"arch_id": 2**70},
            {"visit": -(2**40)},
            {"flags": ["\ud800"]},
            {"arch": "\ud800"},
        ],
    )
    def test_journal_values_that_no_column_holds(
        self, folder: Path, change: dict[str, Any]
    ) -> None:
        (folder / JOURNAL).write_text(json.dumps({**made_row(5, 6.0), **change}) + "\n")
        with pytest.raises(DatasetError, match=r"journal\.jsonl"):
            LatencyDataset.open(folder)
        use_in_every_way(folder)

    def test_times_that_no_calendar_has(self, folder: Path) -> None:
        rewrite_part(folder, measured_at=[0, 9 * 10**18])
        with pytest.raises(DatasetError, match="times that no calendar has"):
            LatencyDataset.open(folder)
        use_in_every_way(folder)

    def test_text_that_is_no_text(self, folder: Path) -> None:
        """A byte of a flag is changed where the file format itself does not notice."""
        path = part_paths(folder)[0]
        table = pq.ParquetFile(path).read()
        binary = pa.array([[b"dist\xffrbed"], []], pa.list_(pa.binary()))
        flags = pa.ListArray.from_arrays(
            binary.offsets, pa.Array.from_buffers(pa.string(), 1, binary.values.buffers())
        )
        index = table.schema.get_field_index("flags")
        pq.write_table(table.set_column(index, SCHEMA.field("flags"), flags), path)
        with pytest.raises(DatasetError, match="is corrupt"):
            LatencyDataset.open(folder)
        use_in_every_way(folder)

    @pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -3.0])
    def test_latencies_that_are_no_numbers(self, folder: Path, value: float) -> None:
        rewrite_part(folder, ratio_to_anchor=[1.0, value])
        with pytest.raises(
            DatasetError, match=r"parquet holds 1 rows .* not positive numbers.*arch_id 1"
        ):
            LatencyDataset.open(folder)

    @pytest.mark.parametrize("samples", [[math.nan], [1.0, 0.0], []])
    @pytest.mark.parametrize("column", ["samples_ms", "anchor_samples_ms"])
    def test_samples_that_are_no_numbers(
        self, folder: Path, column: str, samples: list[float]
    ) -> None:
        rewrite_part(folder, **{column: [[1.0], samples]})
        for read in (LatencyDataset.open, lambda f: write(f, [])):
            with pytest.raises(DatasetError, match=r"000000\.parquet holds 1 rows .* not positive"):
                read(folder)

    def test_a_copied_part(self, folder: Path) -> None:
        part = part_paths(folder)[0]
        part.with_name("part-000009.parquet").write_bytes(part.read_bytes())
        with pytest.raises(DatasetError, match="same replicate of an architecture twice"):
            LatencyDataset.open(folder)
        with pytest.raises(
            DatasetError, match=r"part-000009\.parquet holds measurements that another"
        ):
            write(folder, [])

    def test_a_foreign_parquet_file(self, folder: Path) -> None:
        pq.write_table(pa.table({"x": [1]}), folder / "part-000009.parquet")
        with pytest.raises(DatasetError, match=r"part-000009\.parquet has other columns"):
            LatencyDataset.open(folder)

    def test_a_damaged_journal_line(self, folder: Path) -> None:
        (folder / JOURNAL).write_text('{"arch_id": 5}\n')
        with pytest.raises(DatasetError, match=r"line 1 of .*journal\.jsonl is corrupt"):
            LatencyDataset.open(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": "other"}, "does not describe a latkit dataset"),
            ({"format_version": 99}, "format version 99, this latkit reads 1"),
            ({"target": {"space": "darts"}}, "a target has the fields"),
            ({"seed": "x"}, "is corrupt"),
            ({"fingerprint": 3}, "is corrupt"),
            ({"metrics": ["beauty"]}, "unknown metrics beauty"),
            ({"metrics": 3}, "is corrupt"),
            ({"metrics": ["energy_mj"]}, "part-000000.parquet has other columns"),
            ({"anchor": None}, "part-000000.parquet has other columns"),
        ],
    )
    def test_a_changed_manifest(self, folder: Path, change: dict[str, Any], message: str) -> None:
        path = folder / MANIFEST
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(DatasetError, match=message):
            LatencyDataset.open(folder)

    def test_another_space(self, folder: Path) -> None:
        path = folder / MANIFEST
        content = json.loads(path.read_text())
        content["target"]["space"] = "mobile"
        path.write_text(json.dumps(content))
        with pytest.raises(DatasetError, match="the space 'mobile' is unknown"):
            LatencyDataset.open(folder)

    def test_parts_without_a_manifest_are_not_taken_over(self, folder: Path) -> None:
        (folder / MANIFEST).unlink()
        with pytest.raises(DatasetError, match=r"measurements but no dataset\.json"):
            write(folder, [])

    def test_another_machine_is_refused(self, folder: Path) -> None:
        other = dataclasses.replace(made_manifest(2), fingerprint={"cpu": "another"})
        with pytest.raises(DatasetError, match=r"another machine.*cpu: another / none"):
            DatasetWriter(folder, other).__enter__()

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(LatkitError, match="Cannot write the dataset"):
            write(tmp_path / "file" / "d", [])
