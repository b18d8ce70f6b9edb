"""Tables whose row numbers are the identifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import InputError
from latkit.dataset import Target
from latkit.dataset.tables import TableColumn, read_table
from tests.dataset.test_table_files import SPACE, read
from tests.support.synthetic import MICRO

TARGET = Target("darts", "made", "elsewhere", MICRO)


class TestRowNumbers:
    """Rows are counted only where counting them gives the numbers that they were written with."""

    PANDAS = '{"index_columns": %s, "columns": []}'

    def write(self, path: Path, index: str, rows: int, **columns: Any) -> Path:
        table = pa.table({"took": [5.0 + i for i in range(rows)], **columns})
        metadata = {"pandas": self.PANDAS % index}
        pq.write_table(table.replace_schema_metadata(metadata), path)
        return path

    def ids(self, path: Path) -> list[int]:
        table = read_table(path, TARGET, None, {"latency_ms": TableColumn("took", "ms")})
        return [int(i) for i in table.rows["arch_id"].to_pylist()]

    def test_a_whole_range(self, tmp_path: Path) -> None:
        index = '[{"kind": "range", "start": 10, "stop": 13, "step": 1, "name": null}]'
        assert self.ids(self.write(tmp_path / "t.parquet", index, 3)) == [10, 11, 12]

    def test_rows_are_missing(self, tmp_path: Path) -> None:
        index = '[{"kind": "range", "start": 0, "stop": 40, "step": 1, "name": null}]'
        with pytest.raises(InputError, match="25 of the 40"):
            self.ids(self.write(tmp_path / "t.parquet", index, 25))

    def test_numbers_in_a_column(self, tmp_path: Path) -> None:
        column = {"__index_level_0__": [0, 4, 5]}
        path = self.write(tmp_path / "t.parquet", '["__index_level_0__"]', 3, **column)
        with pytest.raises(InputError, match="--arch-column '__index_level_0__'"):
            self.ids(path)

    def test_numbers_in_a_column_without_a_name(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(",took\n0,5\n4,6\n")
        with pytest.raises(InputError, match="--arch-column 'Unnamed: 0'"):
            self.ids(path)


class TestCountedFromZero:
    def write(self, path: Path, n: int) -> Path:
        path.write_text("took\n" + "".join(f"{5 + i}\n" for i in range(n)))
        return path

    def ids(self, *files: Path) -> list[int]:
        return list(read(*files, cell=None).rows["arch_id"].to_pylist())

    def test_count_from_zero_through_all_files(self, tmp_path: Path) -> None:
        files = [self.write(tmp_path / f"{i}.csv", 3) for i in range(2)]
        assert self.ids(*files) == [0, 1, 2, 3, 4, 5]
        pq.write_table(pa.table({"took": [5.0, 6.0]}), tmp_path / "p")
        assert self.ids(*files, tmp_path / "p") == list(range(8))

    def test_a_bad_row_has_a_number_too(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("took\n5\nx\n7\n\n9\n\n\n")
        table = read(path, cell=None)
        assert table.rows["arch_id"].to_pylist() == [0, 2, 4]
        # An empty line is a missing number, but for those at the end.
        assert [bad.number for bad in table.bad_rows] == [3, 5]

    @pytest.mark.parametrize(
        ("stored", "ids"), [((0, 3, 1), [0, 1, 2]), ((50, 53, 1), [50, 51, 52]),
                            ((3, 9, 2), [3, 5, 7])]
    )  # fmt: skip
    def test_a_range_that_pandas_stored(
        self, tmp_path: Path, stored: tuple[int, int, int], ids: list[int]
    ) -> None:
        assert self.ids(self.write_stored(tmp_path / "t", *stored)) == ids

    def write_stored(self, path: Path, start: int, stop: int, step: int) -> Path:
        index = f'{{"kind": "range", "start": {start}, "stop": {stop}, "step": {step}}}'
        meta = {b"pandas": f'{{"index_columns": [{index}], "columns": []}}'.encode()}
        pq.write_table(pa.table({"took": [5.0, 6.0, 7.0]}).replace_schema_metadata(meta), path)
        return path

    def test_beyond_the_space(self, tmp_path: Path) -> None:
        last = SPACE.size - 1
        table = read(self.write_stored(tmp_path / "t", last, last + 3, 1), cell=None)
        assert table.rows["arch_id"].to_pylist() == [last]
        assert [bad.number for bad in table.bad_rows] == [2, 3]


@pytest.mark.parametrize(
    "note",
    [b"7", b'{"index_columns": 7}', b'{"index_columns": [{"kind": "range"}]}',
     b'{"index_columns": [{"kind": "range", "start": "a", "stop": 1, "step": 1}]}',
     b'{"index_columns": [{"kind": "range", "start": 0, "stop": 9, "step": 0}]}',
     b'{"index_columns": [{"kind": "range", "start": 0, "stop": 1e999, "step": 1}]}',
     b"[" * 100_000],
)  # fmt: skip
def test_a_malformed_note_of_pandas(tmp_path: Path, note: bytes) -> None:
    from latkit.dataset.tables.rows import _stored_index

    schema = pa.schema([("ms", pa.float64())]).with_metadata({b"pandas": note})
    with pytest.raises(InputError):
        _stored_index(schema, "t.parquet")
