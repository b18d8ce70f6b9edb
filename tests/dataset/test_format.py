"""The dataset format: what is written is read, and what is broken is named."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import latkit.dataset.writer
from latkit.core.errors import DatasetError, LatkitError
from latkit.dataset import LatencyDataset
from latkit.dataset.format import (
    JOURNAL,
    MANIFEST,
    SCHEMA,
    part_paths,
)
from latkit.dataset.writer import DatasetWriter, write_dataset
from latkit.profiling.protocol import PRESETS
from tests.support.synthetic import formula_ms, made_dataset, made_manifest, made_row


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    with DatasetWriter(folder, made_manifest(len(rows))) as writer:
        for row in rows:
            writer.append(row)


def rewrite_part(folder: Path, schema: pa.Schema = SCHEMA, **columns: list[Any]) -> None:
    """Replace columns of the first part."""
    path = part_paths(folder)[0]
    table = pq.ParquetFile(path).read()
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(
            index, schema.field(name), pa.array(values, schema.field(name).type)
        )
    pq.write_table(table, path)


class TestRoundTrip:
    def test_rows_and_manifest(self, tmp_path: Path) -> None:
        rows = [made_row(i, 5.0 + i) for i in range(3)]
        write(tmp_path / "d", rows)
        dataset = LatencyDataset.open(tmp_path / "d")
        assert dataset.manifest == made_manifest(3)
        read = dataset.table.to_pylist()
        for row in read:
            row["measured_at"] = int(row["measured_at"].timestamp() * 1e6)
            row["latency_std_ms"] = pytest.approx(row["latency_std_ms"])
        assert read == [{**row, "latency_ms": pytest.approx(row["latency_ms"])} for row in rows]

    def test_foreign_readers_see_the_final_latency(self, tmp_path: Path) -> None:
        dataset = made_dataset(tmp_path / "d", 20)
        plain = pq.read_table(str(part_paths(tmp_path / "d")[0]))
        np.testing.assert_allclose(
            plain["latency_ms"].to_numpy(), formula_ms(plain["arch_id"].to_numpy())
        )
        content = json.loads((tmp_path / "d" / MANIFEST).read_text())
        assert content["format_version"] == 1
        assert content["counts"] == {"rows": 20, "architectures": 20}
        assert dataset.table.schema.equals(SCHEMA)

    def test_latency_is_on_the_scale_of_the_whole_dataset(self, tmp_path: Path) -> None:
        # The machine is twice as slow in the second session; the ratios are the same.
        write(tmp_path / "d", [made_row(0, 20.0)])
        slow = made_row(1, 40.0, anchor_samples_ms=[20.0, 20.0], ratio_to_anchor=2.0)
        with DatasetWriter(tmp_path / "d", made_manifest(2)) as writer:
            writer.append(slow)
        latencies = [
            pq.read_table(str(path))["latency_ms"][0].as_py() for path in part_paths(tmp_path / "d")
        ]
        assert latencies == [30.0, 30.0]  # ratio 2 times the median anchor of 15

    def test_disturbed_rows_do_not_move_the_others(self, tmp_path: Path) -> None:
        """Not even by the anchor time that all latencies refer to."""
        quiet = [made_row(i, 20.0 + i) for i in range(3)]
        slow = [
            made_row(i, 90.0, flags=["disturbed"], anchor_samples_ms=[30.0] * 6)
            for i in range(10, 20)
        ]
        write(tmp_path / "d", [*quiet, *slow])
        dataset = LatencyDataset.open(tmp_path / "d")
        assert dataset.anchor_median_ms == 10.0
        assert dataset.usable()["latency_ms"].to_pylist() == [20.0, 21.0, 22.0]
        stored = pq.read_table(str(part_paths(tmp_path / "d")[0]))["latency_ms"].to_pylist()
        assert stored[:3] == [20.0, 21.0, 22.0]
        write(tmp_path / "e", slow)
        assert LatencyDataset.open(tmp_path / "e").anchor_median_ms == 30.0

    def test_continuing_forgets_nothing(self, tmp_path: Path) -> None:
        with DatasetWriter(
            tmp_path / "d", made_manifest(100, fingerprint={"cpu": "x", "driver": "5", "smt": None})
        ) as writer:
            writer.append(made_row(0, 5.0))
        later = made_manifest(10, fingerprint={"cpu": "x", "smt": True, "governor": None})
        with DatasetWriter(tmp_path / "d", later):
            pass
        manifest = LatencyDataset.open(tmp_path / "d").manifest
        assert manifest.requested == 100
        assert manifest.fingerprint == {"cpu": "x", "driver": "5", "smt": True, "governor": None}
        with pytest.raises(DatasetError, match=r"another machine.*driver: 6 / 5"):
            DatasetWriter(
                tmp_path / "d", made_manifest(10, fingerprint={"cpu": "x", "driver": "6"})
            ).__enter__()

    def test_a_row_with_other_fields_is_refused_before_it_is_written(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path / "d", made_manifest(1)) as writer:
            with pytest.raises(ValueError, match="a row of this dataset has"):
                writer.append(made_row(0, 5.0, energy_mj=3.0))
            writer.append(made_row(0, 5.0))
        assert LatencyDataset.open(tmp_path / "d").table.num_rows == 1

    def test_digest_is_of_the_content(self, tmp_path: Path) -> None:
        rows = [made_row(i, 5.0 + i) for i in range(4)]
        write(tmp_path / "a", rows)
        for row in reversed(rows):
            write(tmp_path / "b", [row])
        a, b = LatencyDataset.open(tmp_path / "a"), LatencyDataset.open(tmp_path / "b")
        assert len(part_paths(tmp_path / "b")) == 4
        assert a.digest() == b.digest()
        rows[0]["ratio_to_anchor"] += 1e-9
        write(tmp_path / "c", rows)
        assert LatencyDataset.open(tmp_path / "c").digest() != a.digest()

    def test_digest_and_retest_of_a_metric(self, tmp_path: Path) -> None:
        """Of two datasets that differ in energy alone, the latencies' digest is the same."""
        manifest, opened = made_manifest(2, metrics=("energy_mj",)), []
        for name, factor in (("a", 1.0), ("b", 2.0)):
            with DatasetWriter(tmp_path / name, manifest) as writer:
                for visit, energy in enumerate((4.0, 4.0, 4.0 * math.e)):
                    writer.append(made_row(0, 5.0, visit, energy_mj=energy * factor))
            opened.append(LatencyDataset.open(tmp_path / name))
        a, b = opened
        assert a.quantities == ("latency_ms", "energy_mj")
        assert a.digest() == b.digest()
        assert a.digest("energy_mj") not in (a.digest(), b.digest("energy_mj"))
        assert a.retest().sd == pytest.approx(0)
        # Logarithms 0, 0 and 1 about their mean of a third: variance (1/9 + 1/9 + 4/9) / 2.
        assert a.retest("energy_mj").sd == pytest.approx((1 / 3) ** 0.5)

    def test_usable_rows(self, tmp_path: Path) -> None:
        flagged = made_row(0, 99.0, visit=1, flags=["disturbed"])
        twice = [made_row(5, 20.0), made_row(5, 22.0, visit=1)]
        lone = made_row(7, 50.0, flags=["disturbed"])
        write(tmp_path / "d", [made_row(0, 10.0), flagged, *twice, lone])
        dataset = LatencyDataset.open(tmp_path / "d")
        assert dataset.flagged.tolist() == [False, True, False, False, True]
        usable = dataset.usable()
        assert usable["arch_id"].to_pylist() == [0, 5]
        assert usable["latency_ms"].to_pylist() == [10.0, 21.0]

    def test_metrics_are_columns_of_the_whole_dataset(self, tmp_path: Path) -> None:
        manifest = made_manifest(1, metrics=("energy_mj", "peak_memory_mb"))
        with DatasetWriter(tmp_path / "d", manifest) as writer:
            writer.append(made_row(0, 5.0, energy_mj=120.0, peak_memory_mb=33.5))
        table = LatencyDataset.open(tmp_path / "d").table
        assert table.column_names == [*SCHEMA.names, "energy_mj", "peak_memory_mb"]
        assert table["energy_mj"].to_pylist() == [120.0]
        with pytest.raises(DatasetError, match="another kind"):
            DatasetWriter(tmp_path / "d", made_manifest(1)).__enter__()

    @pytest.mark.parametrize("energy", [0.0, -1.0, math.nan])
    def test_a_metric_that_is_no_measurement(self, tmp_path: Path, energy: float) -> None:
        """An absent source is an absent column, never a zero."""
        manifest = made_manifest(1, metrics=("energy_mj",))
        with DatasetWriter(tmp_path / "d", manifest) as writer:
            writer.append(made_row(0, 5.0, energy_mj=1.0))
        rewrite_part(tmp_path / "d", manifest.schema, energy_mj=[energy])
        with pytest.raises(DatasetError, match="1 rows whose energy_mj are not positive numbers"):
            LatencyDataset.open(tmp_path / "d")

    def test_a_row_that_lacks_a_metric(self, tmp_path: Path) -> None:
        manifest = made_manifest(1, metrics=("energy_mj",))
        with DatasetWriter(tmp_path / "d", manifest) as writer:
            writer.append(made_row(0, 5.0, energy_mj=1.0))
        rewrite_part(tmp_path / "d", manifest.schema, energy_mj=[None])
        with pytest.raises(DatasetError, match=r"has empty cells \(energy_mj\)"):
            LatencyDataset.open(tmp_path / "d")

    def test_the_panel_is_not_of_the_list(self, tmp_path: Path) -> None:
        start = [made_row(i, 9.0, flags=["panel-start"]) for i in (50, 51)]
        end = [made_row(i, 9.0, visit=1, flags=["panel-end", "disturbed"]) for i in (50, 51)]
        write(tmp_path / "d", [*start, made_row(0, 10.0), *end])
        dataset = LatencyDataset.open(tmp_path / "d")
        assert dataset.in_panel.tolist() == [True, True, False, True, True]
        assert dataset.architectures == 1
        assert dataset.usable()["arch_id"].to_pylist() == [0]
        content = json.loads((tmp_path / "d" / MANIFEST).read_text())
        assert content["counts"] == {"rows": 5, "architectures": 1}

    def test_unanchored_latencies_are_plain_means(self, tmp_path: Path) -> None:
        manifest = made_manifest(1, protocol=PRESETS["paper"].to_dict())
        row = made_row(0, 7.0, samples_ms=[5.0, 9.0], anchor_samples_ms=[3.5], ratio_to_anchor=2.0)
        with DatasetWriter(tmp_path / "d", manifest) as writer:
            writer.append(row)
        table = LatencyDataset.open(tmp_path / "d").table
        assert table["latency_ms"].to_pylist() == [7.0]
        assert table["latency_std_ms"].to_pylist() == [2.0]

    @settings(max_examples=30)
    @given(
        st.lists(
            st.tuples(
                st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=5),
                st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=5),
                st.sets(st.sampled_from(["disturbed", "spread", "panel-start"])),
            ),
            min_size=1,
            max_size=8,
        )
    )
    def test_any_rows_come_back_as_they_were(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        times: list[tuple[list[float], list[float], set[str]]],
    ) -> None:
        folder = tmp_path_factory.mktemp("any")
        rows = [
            made_row(
                i, 1.0, samples_ms=samples, anchor_samples_ms=anchors, flags=sorted(flags),
                ratio_to_anchor=float(np.mean(samples) / np.mean(anchors)),
            )
            for i, (samples, anchors, flags) in enumerate(times)
        ]  # fmt: skip
        write(folder, rows)
        read = LatencyDataset.open(folder).table.to_pylist()
        for row, back in zip(rows, read, strict=True):
            for name in ("samples_ms", "anchor_samples_ms", "flags", "ratio_to_anchor", "arch"):
                assert back[name] == row[name]
        quiet = [anchors for _, anchors, flags in times if "disturbed" not in flags]
        median = np.median(np.concatenate(quiet or [anchors for _, anchors, _ in times]))
        for row, back in zip(rows, read, strict=True):
            assert back["latency_ms"] == pytest.approx(row["ratio_to_anchor"] * median)
            spread = np.std(row["samples_ms"]) / np.mean(row["samples_ms"])
            assert back["latency_std_ms"] == pytest.approx(
                spread * back["latency_ms"], rel=1e-6, abs=1e-9 * back["latency_ms"]
            )


class TestWholeDatasets:
    def test_appear_complete_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = made_dataset(tmp_path / "d", 10).table
        monkeypatch.setattr(latkit.dataset.writer, "PART_ROWS", 4)
        write_dataset(tmp_path / "whole", made_manifest(10), table)
        assert len(part_paths(tmp_path / "whole")) == 3
        assert LatencyDataset.open(tmp_path / "whole").table.equals(table)

        def fail(*arguments: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(latkit.dataset.writer, "write_json_atomically", fail)
        with pytest.raises(LatkitError, match=r"No space left.*Fix: free some disk"):
            write_dataset(tmp_path / "other", made_manifest(10), table)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "whole"]

    def test_do_not_replace_anything(self, tmp_path: Path) -> None:
        table = made_dataset(tmp_path / "d", 3).table
        (tmp_path / "file").touch()
        for path in (tmp_path / "d", tmp_path / "file"):
            with pytest.raises(DatasetError, match=r"exists and is not empty.*Fix:.*--out"):
                write_dataset(path, made_manifest(3), table)
        (tmp_path / "empty").mkdir()
        write_dataset(tmp_path / "empty", made_manifest(3), table)
        assert LatencyDataset.open(tmp_path / "empty").table.num_rows == 3


class TestCrashes:
    def test_the_journal_holds_what_is_in_no_part(self, tmp_path: Path) -> None:
        writer = DatasetWriter(tmp_path / "d", made_manifest(3)).__enter__()
        for i in range(3):
            writer.append(made_row(i, 5.0 + i))
        # The process dies here: nothing is closed.
        assert not part_paths(tmp_path / "d")
        assert LatencyDataset.open(tmp_path / "d").table["arch_id"].to_pylist() == [0, 1, 2]
        writer._lock.release()
        with DatasetWriter(tmp_path / "d", made_manifest(3)) as again:
            assert again.done.keys() == {(0, 0), (1, 0), (2, 0)}

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.integers(0, 10_000))
    def test_a_journal_cut_at_any_byte_keeps_its_whole_lines(
        self, tmp_path_factory: pytest.TempPathFactory, cut: int
    ) -> None:
        folder = tmp_path_factory.mktemp("cut")
        writer = DatasetWriter(folder, made_manifest(5)).__enter__()
        for i in range(5):
            writer.append(made_row(i, 5.0 + i))
        writer._lock.release()
        journal = folder / JOURNAL
        content = journal.read_bytes()[:cut]
        journal.write_bytes(content)
        whole = content.count(b"\n")
        with DatasetWriter(folder, made_manifest(5)) as again:
            assert again.done.keys() == {(i, 0) for i in range(whole)}

    def test_death_between_part_and_journal_does_not_double_rows(self, tmp_path: Path) -> None:
        writer = DatasetWriter(tmp_path / "d", made_manifest(2)).__enter__()
        writer.append(made_row(0, 5.0))
        writer.append(made_row(1, 6.0))
        journal = (tmp_path / "d" / JOURNAL).read_bytes()
        writer.__exit__(None, None, None)
        (tmp_path / "d" / JOURNAL).write_bytes(journal)
        assert LatencyDataset.open(tmp_path / "d").table.num_rows == 2
        with DatasetWriter(tmp_path / "d", made_manifest(2)) as again:
            assert len(again.done) == 2
        assert LatencyDataset.open(tmp_path / "d").table.num_rows == 2

    @pytest.mark.parametrize("where", ["after the part", "before the part"])
    def test_ctrl_c_in_the_middle_of_a_flush(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        original = latkit.dataset.writer.write_atomically
        interrupted = []

        def interrupting(path: Path, write: Any) -> None:
            if path.suffix == ".parquet" and not interrupted:
                interrupted.append(path)
                if where == "after the part":
                    original(path, write)
                raise KeyboardInterrupt
            original(path, write)

        monkeypatch.setattr(latkit.dataset.writer, "write_atomically", interrupting)
        monkeypatch.setattr(latkit.dataset.writer, "PART_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "d", [made_row(0, 5.0), made_row(1, 5.0)])
        assert interrupted
        assert LatencyDataset.open(tmp_path / "d").table["arch_id"].to_pylist() == [0]
        write(tmp_path / "d", [made_row(1, 5.0)])
        assert LatencyDataset.open(tmp_path / "d").table["arch_id"].to_pylist() == [0, 1]

    def test_the_journal_becomes_a_part_in_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(latkit.dataset.writer, "PART_SECONDS", 0.0)
        with DatasetWriter(tmp_path / "d", made_manifest(2)) as writer:
            writer.append(made_row(0, 5.0))
            assert len(part_paths(tmp_path / "d")) == 1
            assert (tmp_path / "d" / JOURNAL).read_bytes() == b""
            writer.append(made_row(1, 5.0))
        assert LatencyDataset.open(tmp_path / "d").table.num_rows == 2

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
    def test_a_full_disk_is_named_and_loses_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "d", [made_row(0, 5.0)])
        writer = DatasetWriter(tmp_path / "d", made_manifest(2)).__enter__()
        writer._journal.close()
        writer._journal = open("/dev/full", "w")  # noqa: SIM115
        with pytest.raises(LatkitError, match=r"No space left.*Fix: free some disk") as raised:
            writer.append(made_row(1, 6.0))
        writer.__exit__(raised.type, raised.value, raised.tb)
        assert LatencyDataset.open(tmp_path / "d").table["arch_id"].to_pylist() == [0]
        write(tmp_path / "d", [made_row(1, 6.0)])
        assert LatencyDataset.open(tmp_path / "d").table.num_rows == 2

    def test_a_second_writer_is_refused(self, tmp_path: Path) -> None:
        with (
            DatasetWriter(tmp_path / "d", made_manifest(1)),
            pytest.raises(DatasetError, match="another process is writing"),
        ):
            DatasetWriter(tmp_path / "d", made_manifest(1)).__enter__()
        write(tmp_path / "d", [made_row(0, 5.0)])
