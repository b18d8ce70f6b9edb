"""Tables from elsewhere: every kind of bad row is named by its number, good rows come in whole."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latkit.core.errors import DatasetError, InputError, LatkitError
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import check_dataset
from latkit.dataset.merge import merge_datasets
from latkit.dataset.tables import (
    MeasuredTable,
    TableColumn,
    export_dataset,
    read_table,
    write_imported,
)
from latkit.dataset.writer import DatasetWriter
from latkit.spaces import parse_setting
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.zoo import ZOO
from tests.support.synthetic import SPACE, made_dataset, made_manifest, made_row

TARGET = Target("darts", "p100", "torch-cuda", parse_setting("paper"))
IDS = SPACE.sample(6, 0).tolist()
ARCHS = [SPACE.format(SPACE.unrank(i)[0]) for i in IDS]


def write_csv(path: Path, rows: list[list[Any]], delimiter: str = ",") -> Path:
    # The writer of Python 3.10 refuses NUL.
    plain = [[c.replace("\0", "\ue000") if isinstance(c, str) else c for c in row] for row in rows]
    with io.StringIO(newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(plain)
        path.write_bytes(file.getvalue().replace("\ue000", "\0").encode())
    return path


def read(path: Path, unit: str = "ms") -> MeasuredTable:
    return read_table(path, TARGET, "cell", {"latency_ms": TableColumn("took", unit)})


def test_a_clean_table(tmp_path: Path) -> None:
    rows = [["note", "took", "cell"]] + [["x", str(10 + i), a] for i, a in enumerate(ARCHS)]
    table = read(write_csv(tmp_path / "t.csv", rows))
    assert table.bad_rows == ()
    dataset = write_imported(table, TARGET, tmp_path / "d")
    assert dataset.table["arch_id"].to_pylist() == IDS
    assert dataset.table["arch"].to_pylist() == ARCHS
    assert dataset.table["latency_ms"].to_pylist() == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    cost = architecture_cost(
        SPACE.genotype(SPACE.unrank(IDS[0])[0], ZOO["darts_v2"]), TARGET.setting
    )
    assert dataset.table["macs"][0].as_py() == cost.macs
    assert dataset.table["params"][0].as_py() == cost.params
    assert dataset.manifest.target == TARGET
    assert dataset.manifest.anchor is None
    assert dataset.manifest.origin == {
        "files": ["t.csv"], "arch_column": "cell", "latency_column": "took", "unit": "ms",
        "rows_left_out": 0,
    }  # fmt: skip
    # What was not measured is not there.
    assert dataset.table.column_names == [
        "arch_id", "arch", "latency_ms", "visit", "flags", "macs", "params",
    ]  # fmt: skip
    assert dataset.anchor_median_ms is None
    report = check_dataset(dataset).to_dict()
    assert report["verdict"] == "usable"
    assert report["clock"] is None
    assert report["anchor_history"] == report["panel_runs"] == []


BAD_ROWS: list[tuple[list[str], str]] = [
    (["", "5"], "no architecture"),
    (["|sep_conv_9x9~0|skip_connect~1|", "5"], "unknown architecture '|sep_conv_9x9"),
    (["hello, world", "5"], "unknown architecture 'hello, world'"),
    (["Genotype(normal=[)", "5"], "unknown architecture 'Genotype("),
    (["Genotype()", "5"], "unknown architecture 'Genotype()'"),
    ([str(SPACE.size), "5"], f"no architecture has the identifier '{SPACE.size}'"),
    (["9" * 400, "5"], "no architecture has the identifier"),
    (["-1", "5"], "unknown architecture '-1'"),
    (["1.5", "5"], "unknown architecture '1.5'"),
    (["1.2e+05", "5"], "unknown architecture '1.2e+05'"),
    (["\x1b[31mred" * 999, "5"], "unknown architecture '\\x1b[31mred"),
    (["²", "5"], "unknown architecture"),
    ([ARCHS[1], ""], "the latency '' is not a positive number"),
    ([ARCHS[1], "fast"], "the latency 'fast' is not a positive number"),
    ([ARCHS[1], "nan"], "the latency 'nan'"),
    ([ARCHS[1], "inf"], "the latency 'inf'"),
    ([ARCHS[1], "-3"], "the latency '-3'"),
    ([ARCHS[1], "0"], "the latency '0'"),
    ([ARCHS[1], "1e999"], "the latency '1e999'"),
    ([ARCHS[1], "1_000"], "the latency '1_000'"),
    ([ARCHS[1]], "1 cells under 2 column names"),
    ([ARCHS[1], "5", "6"], "3 cells under 2 column names"),
    (["\x00", "5"], "unknown architecture"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_each_bad_row_is_named_and_the_others_come_in(
    tmp_path: Path, row: list[str], reason: str
) -> None:
    table = [["cell", "took"], [ARCHS[0], "5"], row, [ARCHS[2], "7"]]
    table = read(write_csv(tmp_path / "t.csv", table))
    assert [bad.place for bad in table.bad_rows] == ["line 3"]
    assert reason in table.bad_rows[0].reason
    assert "\n" not in table.bad_rows[0].reason
    assert len(table.bad_rows[0].reason) < 400
    dataset = write_imported(table, TARGET, tmp_path / "d")
    assert dataset.table["arch_id"].to_pylist() == [IDS[0], IDS[2]]
    assert dataset.manifest.origin["rows_left_out"] == 1


def test_all_bad_rows_of_one_file(tmp_path: Path) -> None:
    table = [["cell", "took"], [ARCHS[0], "5"], *(row for row, _ in BAD_ROWS)]
    table = read(write_csv(tmp_path / "t.csv", table))
    assert [bad.number for bad in table.bad_rows] == list(range(3, len(BAD_ROWS) + 3))
    assert table.rows.num_rows == 1


def test_numbers_are_those_of_the_files_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'note,cell,took\n\n"two\nlines",{ARCHS[0]},5\n\nx,unknown,5\n')
    table = read(path)
    assert [bad.place for bad in table.bad_rows] == ["line 6"]
    assert table.rows["arch_id"].to_pylist() == [IDS[0]]


def test_an_open_quote_does_not_swallow_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'cell,took\n{ARCHS[0]},5\n"{ARCHS[1]},5\n{ARCHS[2]},5\n')
    with pytest.raises(DatasetError, match="line 3"):
        read(path)


@pytest.mark.parametrize(
    ("odd", "last"),
    [('"a"b,5', 3), (f'"{ARCHS[1]},5\n{ARCHS[1]},"6"', 4), (f"{'x' * 200_000},5", 3)],
    ids=["text behind a quote", "over two lines", "a very long cell"],
)
def test_an_odd_cell_costs_its_own_row(tmp_path: Path, odd: str, last: int) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"cell,took\n{ARCHS[0]},5\n{odd}\n{ARCHS[2]},7\n")
    table = read(path)
    assert [bad.place for bad in table.bad_rows] == ["line 3"]
    assert (f"lines 3 to {last}" in table.bad_rows[0].reason) == (last > 3)
    assert len(table.bad_rows[0].reason) < 400
    assert table.rows["latency_ms"].to_pylist() == [5.0, 7.0]


def test_rows_of_one_architecture_are_repeated_measurements(tmp_path: Path) -> None:
    rows = [["cell", "took"], *([ARCHS[i % 3], str(10 * (i % 3 + 1) + i // 3)] for i in range(9))]
    rows += [[str(IDS[0]), "13"]]
    table = read(write_csv(tmp_path / "t.csv", rows))
    assert table.bad_rows == ()
    dataset = write_imported(table, TARGET, tmp_path / "d")
    assert dataset.table["visit"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert dataset.manifest.requested == dataset.architectures == 3
    assert dataset.usable()["latency_ms"].to_pylist() == [11.5, 21.0, 31.0]
    assert dataset.usable()["visits"].to_pylist() == [4, 3, 3]
    # The pooled sd of the logarithms about the mean of each architecture.
    logs = [np.log(own) for own in ([10, 11, 12, 13], [20, 21, 22], [30, 31, 32])]
    squares = sum(((own - own.mean()) ** 2).sum() for own in logs)
    report = check_dataset(dataset).to_dict()
    assert report["repeats"] == 7
    assert report["retest_sd_percent"] == pytest.approx(100 * (squares / 7) ** 0.5)
    assert report["error_percent"] == pytest.approx(report["retest_sd_percent"] / 3**0.5)
    # Their advice is not about a command that measures.
    unfit = check_dataset(dataset, max_error=0.01).to_dict()
    assert unfit["verdict"] == "unfit"
    assert not any("latkit profile" in finding["text"] for finding in unfit["findings"])


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"cell,took\n\xff\xfe,5\n" + ARCHS[0].encode() + b",6\n")
    table = read(path)
    assert [bad.number for bad in table.bad_rows] == [2]
    assert table.rows["arch_id"].to_pylist() == [IDS[0]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_a_byte_order_mark(tmp_path: Path, delimiter: str) -> None:
    path = write_csv(tmp_path / "t.csv", [["cell", "took"], [ARCHS[0], "5"]], delimiter)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path).rows["latency_ms"].to_pylist() == [5.0]


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1), ("s", 1000), ("us", 1e-3), ("ns", 1e-6)])
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    path = write_csv(tmp_path / "t.csv", [["cell", "took"], [ARCHS[0], "5"]])
    assert read(path, unit).rows["latency_ms"].to_pylist() == [pytest.approx(5 * factor)]
    with pytest.raises(InputError, match="unknown unit 'min'"):
        read(path, "min")


@pytest.mark.parametrize(
    "text", [ARCHS[3], str(IDS[3]), str(SPACE.genotype(SPACE.unrank(IDS[3])[0], ZOO["darts_v1"]))]
)
def test_ways_to_name_an_architecture(tmp_path: Path, text: str) -> None:
    path = write_csv(tmp_path / "t.csv", [["cell", "took"], [text, "5"]])
    assert read(path).rows["arch_id"].to_pylist() == [IDS[3]]


class TestOtherCosts:
    """Energies and peak memories come in beside the latency, in the units of the format."""

    HEADS = ("cell", "took", "drew", "held")

    def read(self, path: Path, energy: str = "J", memory: str = "MiB") -> MeasuredTable:
        columns = {
            "peak_memory_mb": TableColumn("held", memory),
            "energy_mj": TableColumn("drew", energy),
            "latency_ms": TableColumn("took", "ms"),
        }
        return read_table(path, TARGET, "cell", columns)

    @pytest.mark.parametrize(
        ("energy", "mj"),
        [("mJ", 0.25), ("J", 250.0), ("uJ", 0.00025), ("Wh", 900e3), ("kWh", 900e6)],
    )
    @pytest.mark.parametrize(
        ("memory", "mib"), [("MiB", 3.0), ("KiB", 3 / 1024), ("GiB", 3072), ("MB", 3 / 1.048576)]
    )
    def test_units(self, tmp_path: Path, energy: str, mj: float, memory: str, mib: float) -> None:
        path = write_csv(tmp_path / "t.csv", [[*self.HEADS], [ARCHS[0], "5", "0.25", "3"]])
        table = self.read(path, energy, memory)
        dataset = write_imported(table, TARGET, tmp_path / "d")
        assert dataset.quantities == ("latency_ms", "energy_mj", "peak_memory_mb")
        assert dataset.table["latency_ms"].to_pylist() == [5.0]
        assert dataset.table["energy_mj"].to_pylist() == [pytest.approx(mj)]
        assert dataset.table["peak_memory_mb"].to_pylist() == [pytest.approx(mib)]
        origin = dataset.manifest.origin
        assert (origin["energy_mj_column"], origin["energy_mj_unit"]) == ("drew", energy)
        assert (origin["peak_memory_mb_column"], origin["peak_memory_mb_unit"]) == ("held", memory)

    @pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
    def test_a_row_without_one_is_a_bad_row(self, tmp_path: Path, name: str) -> None:
        rows: list[list[Any]] = [
            [ARCHS[0], 5.0, 1.0, 3.0], [ARCHS[1], 5.0, None, 3.0], [ARCHS[2], 5.0, 1.0, 0.0]
        ]  # fmt: skip
        path = tmp_path / name
        if name.endswith("csv"):
            write_csv(path, [[*self.HEADS], *rows])
        else:
            columns = dict(zip(self.HEADS, map(list, zip(*rows, strict=True)), strict=True))
            pq.write_table(pa.table(columns), path)
        table = self.read(path)
        assert [bad.reason for bad in table.bad_rows] == [
            "the energy '' is not a positive number",
            "the peak memory '0.0' is not a positive number",
        ]
        assert table.rows["arch_id"].to_pylist() == [IDS[0]]

    def test_refusals(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "t.csv", [[*self.HEADS], [ARCHS[0], "5", "1", "3"]])
        with pytest.raises(InputError, match=r"unknown unit 'MJ' of energy.*mJ, J, uJ"):
            self.read(path, "MJ")
        with pytest.raises(InputError, match="no column of latency"):
            read_table(path, TARGET, "cell", {"energy_mj": TableColumn("drew", "J")})
        same = {name: TableColumn("took", unit) for name, unit in
                (("latency_ms", "ms"), ("energy_mj", "mJ"))}  # fmt: skip
        with pytest.raises(InputError, match="'took' is named twice"):
            read_table(path, TARGET, "cell", same)

    def test_exported_and_imported_they_are_what_they_were(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path / "d", made_manifest(1, metrics=("energy_mj",))) as writer:
            writer.append(made_row(7, 5.0, energy_mj=4.0))
        export_dataset(LatencyDataset.open(tmp_path / "d"), tmp_path / "t.csv")
        columns = {
            "latency_ms": TableColumn("latency_ms", "ms"),
            "energy_mj": TableColumn("energy_mj", "mJ"),
        }
        table = read_table(tmp_path / "t.csv", TARGET, "arch", columns)
        assert table.rows.select(["arch_id", "latency_ms", "energy_mj"]).to_pylist() == [
            {"arch_id": 7, "latency_ms": 5.0, "energy_mj": 4.0}
        ]

    def test_a_merge_keeps_rows_that_differ_in_energy_alone(self, tmp_path: Path) -> None:
        made = []
        for number, energy in enumerate(("1", "2", "2")):
            path = tmp_path / f"{number}.csv"
            write_csv(path, [[*self.HEADS], [ARCHS[0], "5", energy, "3"]])
            made.append(write_imported(self.read(path), TARGET, tmp_path / f"d{number}"))
        merged = merge_datasets(made, tmp_path / "m")
        assert merged.table["energy_mj"].to_pylist() == [1000.0, 2000.0]
        assert merged.usable()["energy_mj"].to_pylist() == [1500.0]


class TestParquet:
    def test_with_bad_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        columns = {"cell": [ARCHS[0], None, ARCHS[1], ARCHS[2]], "took": [5.5, 6.0, None, np.nan]}
        pq.write_table(pa.table(columns), path)
        table = read(path)
        assert table.rows["latency_ms"].to_pylist() == [5.5]
        assert [bad.place for bad in table.bad_rows] == ["row 2", "row 3", "row 4"]
        assert table.bad_rows[0].reason == "no architecture"

    def test_of_identifiers(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table({"cell": IDS, "took": np.arange(1, 7, dtype=np.float32)}), path)
        table = read(path)
        assert table.rows["arch_id"].to_pylist() == IDS
        assert table.rows["latency_ms"].to_pylist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    def test_that_is_torn(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table({"cell": IDS, "took": [5.0] * 6}), path)
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(DatasetError, match=r"t\.parquet"):
            read(path)


class TestUnreadable:
    @pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
    def test_missing(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(LatkitError, match="Cannot read"):
            read(tmp_path / name)

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").touch()
        with pytest.raises(InputError, match=r"no column 'cell'.*its columns are: \(none\)"):
            read(tmp_path / "t.csv")

    def test_another_column(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "t.csv", [["arch", "took"], [ARCHS[0], "5"]])
        with pytest.raises(InputError, match=r"no column 'cell'.*its columns are: arch, took"):
            read(path)
        path = write_csv(tmp_path / "t.csv", [["cell", "cell", "took"]])
        with pytest.raises(InputError, match="several columns 'cell'"):
            read(path)

    def test_no_good_row(self, tmp_path: Path) -> None:
        table = read(write_csv(tmp_path / "t.csv", [["cell", "took"], ["x", "5"]]))
        with pytest.raises(DatasetError, match="no row that can be imported"):
            write_imported(table, TARGET, tmp_path / "d")
        assert not (tmp_path / "d").exists()

    @settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.binary(max_size=300), st.booleans())
    def test_any_bytes(self, tmp_path: Path, content: bytes, headed: bool) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes((b"cell,took\n" if headed else b"") + content)
        with contextlib.suppress(LatkitError):
            table = read(path)
            assert table.rows.num_rows + len(table.bad_rows) <= content.count(b"\n") + (
                content.count(b"\r") + 1
            )


class TestExport:
    @pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
    def test_comes_back_as_it_was(self, tmp_path: Path, name: str) -> None:
        dataset = made_dataset(tmp_path / "d", 20)
        assert export_dataset(dataset, tmp_path / name) == 20
        columns = {"latency_ms": TableColumn("latency_ms", "ms")}
        table = read_table(tmp_path / name, TARGET, "arch", columns)
        assert table.bad_rows == ()
        with pytest.raises(InputError, match="exists"):
            export_dataset(dataset, tmp_path / name)
        again = write_imported(table, TARGET, tmp_path / "again")
        assert again.table["arch_id"].to_pylist() == dataset.table["arch_id"].to_pylist()
        np.testing.assert_allclose(
            again.table["latency_ms"].to_numpy(), dataset.table["latency_ms"].to_numpy()
        )

    def test_has_all_that_was_measured(self, tmp_path: Path) -> None:
        with DatasetWriter(tmp_path / "d", made_manifest(1, metrics=("energy_mj",))) as writer:
            for visit, energy in enumerate((4.0, 6.0)):
                writer.append(made_row(7, 5.0 + visit, visit, energy_mj=energy))
            writer.append(made_row(8, 5.0, flags=["disturbed"], energy_mj=1.0))
        assert export_dataset(LatencyDataset.open(tmp_path / "d"), tmp_path / "t.parquet") == 1
        (row,) = pq.read_table(tmp_path / "t.parquet").to_pylist()
        assert (row["arch_id"], row["latency_ms"], row["visits"], row["energy_mj"]) == (
            7, 5.5, 2, 5.0,
        )  # fmt: skip
        assert row["macs"] > 0
        assert row["params"] > 0

    def test_refusals(self, tmp_path: Path) -> None:
        dataset = made_dataset(tmp_path / "d", 3)
        with DatasetWriter(tmp_path / "n", made_manifest(1)) as writer:
            writer.append(made_row(8, 5.0, flags=["disturbed"]))
        with pytest.raises(DatasetError, match="no undisturbed measurement to export"):
            export_dataset(LatencyDataset.open(tmp_path / "n"), tmp_path / "t.csv")
        with pytest.raises(InputError, match=r"the format of .* is unknown"):
            export_dataset(dataset, tmp_path / "t.xls")
        with pytest.raises(LatkitError, match="Cannot write"):
            export_dataset(dataset, tmp_path / "nowhere" / "t.csv")


def test_imported_datasets_merge(tmp_path: Path) -> None:
    made: list[LatencyDataset] = []
    for number, rows in enumerate(([0, 1], [1, 2])):
        table: list[Any] = [["cell", "took"], *([ARCHS[i], str(5 + i + number)] for i in rows)]
        table = read(write_csv(tmp_path / f"{number}.csv", table))
        made.append(write_imported(table, TARGET, tmp_path / f"d{number}"))
    merged = merge_datasets(made, tmp_path / "m")
    assert merged.usable()["latency_ms"].to_pylist() == [5.0, 6.5, 8.0]
    # The same table twice is no repeated measurement.
    twice = merge_datasets([made[0], made[0]], tmp_path / "twice")
    assert twice.digest() == made[0].digest()
    assert twice.retest().repeats == 0


def test_a_merge_keeps_equal_repeated_measurements(tmp_path: Path) -> None:
    rows = [["cell", "took"], *([ARCHS[0], took] for took in ("5", "5", "6"))]
    repeated = write_imported(read(write_csv(tmp_path / "a.csv", rows)), TARGET, tmp_path / "a")
    single = write_imported(read(write_csv(tmp_path / "b.csv", rows[:2])), TARGET, tmp_path / "b")
    for name, order in (("ab", [repeated, single]), ("ba", [single, repeated])):
        merged = merge_datasets(order, tmp_path / name)
        assert sorted(merged.table["latency_ms"].to_pylist()) == [5.0, 5.0, 6.0]
