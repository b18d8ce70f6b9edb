"""Parquet files that are small and stand for more numbers than memory holds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from latkit.core import parquet


def test_more_values_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal numbers, and lists of them, are counted before they are read."""
    monkeypatch.setattr(parquet, "MOST_VALUES", 1000)
    column = pa.array([1.0] * 600)
    lists = pa.array([[1.0] * 1001])
    for table, reads in (
        (pa.table({"a": column}), True),
        (pa.table({"a": column, "b": column}), False),
        (pa.table({"a": lists}), False),
    ):
        parquet.write_parquet(tmp_path / "t", table)
        if reads:
            assert parquet.read_parquet(tmp_path / "t").equals(table)
            continue
        with pytest.raises(ValueError, match="most allowed"):
            parquet.read_parquet(tmp_path / "t")
