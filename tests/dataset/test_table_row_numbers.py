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
