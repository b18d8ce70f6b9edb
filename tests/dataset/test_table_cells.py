"""Cells of tables from elsewhere: architectures in their many notations, durations."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import InputError
from latkit.core.quantities import QUANTITIES
from latkit.dataset import Target
from latkit.dataset.tables import MeasuredTable, TableColumn, read_table, write_imported
from latkit.dataset.tables.architectures import operation_order, read_architecture
from latkit.dataset.tables.cells import BadCellError, Duration, measured
from latkit.spaces import ABSENT, get_preset, get_space
from tests.support.places import SHARED

FBNET, BENCH, DARTS = (get_space(name) for name in ("fbnet", "nasbench201", "darts"))
LAYERS = [7, 8, 1, 8, 4, 8, 8, 8, 7, 4, 1, 4, 7, 3, 2, 7, 3, 2, 4, 2, 4, 5]
TEXT = " ".join(map(str, LAYERS))
LATENCY = QUANTITIES["latency_ms"]


@pytest.mark.parametrize(
    "cell",
    [
        TEXT,
        f"[{TEXT}]",
        str(LAYERS),
        str(tuple(LAYERS)),
        ",".join(map(str, LAYERS)),
        str(list(map(float, LAYERS))),
        "[" + " ".join(f"{layer}." for layer in LAYERS) + "]",
        str(LAYERS).replace("1, ", "1,\n "),
        "[" + ", ".join(f"np.int64({layer})" for layer in LAYERS) + "]",
        f"  {LAYERS}  ",
        str(f"{LAYERS}".encode()),
        LAYERS,
        list(map(float, LAYERS)),
    ],
)
def test_fbnet_as_it_is_published(cell: Any) -> None:
    assert read_architecture(FBNET, cell, None, ".").tolist() == [LAYERS]
    order = operation_order(FBNET, "native")
    assert read_architecture(FBNET, cell, order, ".").tolist() == [LAYERS]


@pytest.mark.parametrize(
    "cell",
    [LAYERS[:-1], [*LAYERS, 1], [*LAYERS[:-1], 9], [*LAYERS[:-1], 1.5], [*LAYERS[:-1], None], [],
     str(LAYERS[:-1]), str([*LAYERS[:-1], 9]), "[]", "[1, 2", str([LAYERS]), list(range(9999))],
)  # fmt: skip
def test_lists_that_are_no_network(cell: Any) -> None:
    for order in (None, operation_order(FBNET, "native")):
        with pytest.raises(BadCellError) as caught:
            read_architecture(FBNET, cell, order, ".")
        assert len(str(caught.value)) < 400


class TestOrders:
    """The cell 1<-0 conv3, 2<-0 none, 2<-1 skip, 3<-0 conv1, 3<-1 pool, 3<-2 conv3."""

    CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_3x3~2|"

    @pytest.mark.parametrize(
        ("order", "numbers"),
        [
            ("native", [3, 0, 1, 2, 4, 3]),
            # Edges by their source: 0-1, 0-2, 0-3, 1-2, 1-3, 2-3.
            ("naslib", [2, 1, 3, 0, 4, 2]),
            ("avg_pool_3x3,nor_conv_1x1, nor_conv_3x3,none,skip_connect", [2, 3, 4, 1, 0, 2]),
        ],
    )
    def test_of_nasbench201(self, order: str, numbers: list[int]) -> None:
        meaning = operation_order(BENCH, order)
        for cell in (numbers, str(numbers), " ".join(map(str, numbers)), str(tuple(numbers))):
            (row,) = read_architecture(BENCH, cell, meaning, ".")
            assert BENCH.format(row) == self.CELL
        # What is no list means what it always means.
        assert BENCH.rank(read_architecture(BENCH, "12", meaning, ".")).tolist() == [12]
        assert BENCH.format(read_architecture(BENCH, self.CELL, meaning, ".")[0]) == self.CELL

    def test_without_one_numbers_mean_nothing(self) -> None:
        with pytest.raises(BadCellError, match="--op-order"):
            read_architecture(BENCH, [3, 0, 1, 2, 4, 3], None, ".")

    @pytest.mark.parametrize("numbers", [[5, 0, 1, 2, 4, 3], [3, 0, 1, 2, 4], [-1, 0, 1, 2, 4, 3]])
    def test_numbers_outside(self, numbers: list[int]) -> None:
        with pytest.raises(BadCellError):
            read_architecture(BENCH, numbers, operation_order(BENCH, "naslib"), ".")

    def test_of_darts_with_none_where_no_edge_is(self) -> None:
        matrix = DARTS.unrank([123456])
        numbers = [0 if choice == ABSENT else choice for choice in matrix[0].tolist()]
        found = read_architecture(DARTS, str(numbers), operation_order(DARTS, "native"), ".")
        assert np.array_equal(found, matrix)
        with pytest.raises(BadCellError):  # all edges kept
            read_architecture(DARTS, [1] * 14, operation_order(DARTS, "native"), ".")

    def test_refusals(self) -> None:
        with pytest.raises(InputError, match="conv_3x3") as caught:
            operation_order(BENCH, "none,skip_connect,conv_3x3")
        assert "nor_conv_3x3" in caught.value.fix
        with pytest.raises(InputError, match="twice"):
            operation_order(BENCH, "none,none")
        with pytest.raises(InputError):
            operation_order(DARTS, "naslib")


@pytest.mark.parametrize(
    "cell", [12, 12.0, "12", "12.0", "12.", " 12 ", "012", Decimal("12.00"), "b'12'", "b'12 '"]
)
def test_identifiers(cell: Any) -> None:
    assert BENCH.rank(read_architecture(BENCH, cell, None, ".")).tolist() == [12]


@pytest.mark.parametrize(
    "cell",
    [12.5, "12.5", -1, "-1", float("nan"), float("inf"), 2.0**60, "1.2e1", "1,200", "1_2", "²",
     BENCH.size, float(BENCH.size), 10**30, "9" * 5000, True, Decimal("12.5"), None, ""],
)  # fmt: skip
def test_what_is_no_identifier(cell: Any) -> None:
    with pytest.raises(BadCellError) as caught:
        read_architecture(BENCH, cell, None, ".")
    assert len(str(caught.value)) < 400


def test_a_decimal_comma_does_not_make_thousands_of_a_fraction() -> None:
    assert BENCH.rank(read_architecture(BENCH, "12,0", None, ",")).tolist() == [12]
    for cell, decimal in (("12,000", "."), ("12.000", ",")):
        with pytest.raises(BadCellError):
            read_architecture(BENCH, cell, None, decimal)


class TestDurations:
    COLUMN = TableColumn("took", None)

    @pytest.mark.parametrize(
        ("cell", "ms"),
        [
            ("0 days 00:00:00.005250", 5.25),
            ("0:00:00.005250", 5.25),
            ("1 day, 0:00:01", 86_401_000),
            ("2 days 01:02:03", 176_523_000),
            ("0 days 00:00:00.000001500", 0.0015),
            ("PT0.00525S", 5.25),
            ("P0DT0H1M0.5S", 60_500),
            (Duration(5.25), 5.25),
        ],
    )
    def test_texts(self, cell: Any, ms: float) -> None:
        assert measured(LATENCY, self.COLUMN, cell, ".") == pytest.approx(ms, rel=1e-12)

    @pytest.mark.parametrize("cell", ["00:05", "", None, "PT", "-1 days +23:59:59", "0:00:00"])
    def test_no_duration(self, cell: Any) -> None:
        with pytest.raises(BadCellError):
            measured(LATENCY, self.COLUMN, cell, ".")

    def test_a_unit_and_a_duration_contradict_each_other(self) -> None:
        for cell in ("0:00:00.005", Duration(5.0)):
            with pytest.raises(InputError, match="took"):
                measured(LATENCY, TableColumn("took", "ms"), cell, ".")

    def test_numbers_need_a_unit(self) -> None:
        for cell in (5, "5.5"):
            with pytest.raises(InputError, match="took") as caught:
                measured(LATENCY, self.COLUMN, cell, ".")
            assert "ns" in caught.value.fix

    @pytest.mark.parametrize(
        ("unit", "count"), [("s", 3), ("ms", 3000), ("us", 3_000_000), ("ns", 3_000_000_001)]
    )
    def test_columns(self, tmp_path: Path, unit: str, count: int) -> None:
        took = pa.array([count, None], pa.duration(unit))
        pq.write_table(pa.table({"cell": [4, 5], "took": took}), tmp_path / "t")
        table = self.read(tmp_path / "t")
        (ms,) = table.rows["latency_ms"].to_pylist()
        assert ms == pytest.approx(3000.000001 if unit == "ns" else 3000, rel=1e-15)
        assert [bad.place for bad in table.bad_rows] == ["row 2"]
        assert table.origin["unit"] == "duration"

    def read(self, path: Path, **others: TableColumn) -> MeasuredTable:
        target = Target("nasbench201", "pi", "litert", get_preset("nasbench201"))
        return read_table(path, target, "cell", {"latency_ms": self.COLUMN, **others})

    def test_energies_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="energy"):
            self.read(tmp_path / "t", energy_mj=TableColumn("drew", None))


class TestPublicTables:
    """As their publishers name the architectures; skipped where the tables are not."""

    def imported(self, table: pa.Table, space: str, column: str, tmp_path: Path,
                 cell: str | None = "arch", **how: Any) -> pa.Table:  # fmt: skip
        pq.write_table(table, tmp_path / "t")
        target = Target(space, "x", "y", get_preset(space))
        columns = {"latency_ms": TableColumn(column, "ms")}
        measured_table = read_table(tmp_path / "t", target, cell, columns, **how)
        assert measured_table.bad_rows == ()
        dataset = write_imported(measured_table, target, tmp_path / column)
        assert dataset.table["latency_ms"].to_pylist() == table[column].to_pylist()
        return dataset.table

    def test_fbnet_as_lists_in_brackets(self, tmp_path: Path) -> None:
        path = SHARED / "data" / "fbnet" / "latency.parquet"
        if not path.exists():
            pytest.skip("the table of FBNet is not beside this checkout")
        table = pq.read_table(path).slice(0, 1000)
        texts = table["arch"].to_pylist()
        lists = [f"[{', '.join(text.split())}]" for text in texts]
        table = table.set_column(0, "arch", pa.array(lists))
        assert self.imported(table, "fbnet", "pixel3_ms", tmp_path)["arch"].to_pylist() == texts

    def test_nasbench201_by_row_number(self, tmp_path: Path) -> None:
        path = SHARED / "data" / "nasbench201" / "latency.parquet"
        if not path.exists():
            pytest.skip("the tables of NAS-Bench-201 are not beside this checkout")
        table = pq.read_table(path).slice(0, 1000)
        rows = self.imported(table.drop_columns("arch"), "nasbench201", "pixel3_ms", tmp_path, None)
        assert rows["arch"].to_pylist() == table["arch"].to_pylist()
