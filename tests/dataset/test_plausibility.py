"""Doubts about the units of imported tables: none where they are right, one where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import check_dataset
from latkit.dataset.plausibility import doubts
from latkit.dataset.tables import TableColumn, read_table, write_imported
from latkit.spaces import get_preset
from tests.support.places import SHARED
from tests.support.synthetic import made_dataset

COSTS = {"took": "latency_ms", "drew": "energy_mj", "held": "peak_memory_mb"}


def imported(folder: Path, units: dict[str, str], batch: int = 1, copies: int = 1,
             **columns: list[float]) -> LatencyDataset:  # fmt: skip
    """Cells of NAS-Bench-201: the first few, ``copies`` times each."""
    setting = get_preset("nasbench201").replace(batch=batch)
    target = Target("nasbench201", "pi", "litert", setting)
    folder.mkdir()
    n = len(columns["took"])
    table = pa.table({"cell": [i // copies for i in range(n)], **columns})
    pq.write_table(table, folder / "t")
    named = {COSTS[name]: TableColumn(name, units[name]) for name in columns}
    table = read_table(folder / "t", target, "cell", named)
    return write_imported(table, target, folder / "d")


LATENCIES = np.linspace(3, 30, 10)


@pytest.mark.parametrize(
    ("factor", "unit", "doubted"),
    [(1, "ms", False), (1e-3, "s", False), (1e-3, "ms", True), (1e3, "us", False),
     (1e3, "ms", True), (1e6, "ns", False), (1e6, "us", True)],
)  # fmt: skip
def test_latencies(tmp_path: Path, factor: float, unit: str, doubted: bool) -> None:
    dataset = imported(tmp_path / "i", {"took": unit}, took=(LATENCIES * factor).tolist())
    found = list(doubts(dataset))
    assert len(found) == doubted
    report = check_dataset(dataset).to_dict()
    assert report["verdict"] == "usable"
    texts = [finding["text"] for finding in report["findings"]]
    assert set(found) <= set(texts)
    assert len(texts) == 1 + doubted  # that nothing was measured twice


def test_five_milliseconds_in_seconds(tmp_path: Path) -> None:
    (text,) = doubts(imported(tmp_path / "i", {"took": "ms"}, took=[0.005] * 10))
    assert "unit" in text


@pytest.mark.parametrize(
    ("energy", "unit", "doubted"),
    [(20.0, "mJ", False), (0.02, "J", False), (0.02, "mJ", True), (20.0, "kWh", True)],
)
def test_energies(tmp_path: Path, energy: float, unit: str, doubted: bool) -> None:
    units = {"took": "ms", "drew": unit}
    dataset = imported(tmp_path / "i", units, took=LATENCIES.tolist(), drew=[energy] * 10)
    assert len(list(doubts(dataset))) == doubted


@pytest.mark.parametrize(
    ("memory", "unit", "doubted"),
    [(200.0, "MiB", False), (200.0, "B", True), (2e8, "MiB", True), (2e8, "B", False)],
)
def test_memories(tmp_path: Path, memory: float, unit: str, doubted: bool) -> None:
    units = {"took": "ms", "held": unit}
    dataset = imported(tmp_path / "i", units, took=LATENCIES.tolist(), held=[memory] * 10)
    assert len(list(doubts(dataset))) == doubted


def test_rows_that_were_copied(tmp_path: Path) -> None:
    took = np.repeat(LATENCIES, 2)
    dataset = imported(tmp_path / "i", {"took": "ms"}, copies=2, took=took.tolist())
    (text,) = doubts(dataset)
    assert "10 of 10" in text
    # Real repeated measurements differ.
    took[1::2] *= 1.01
    assert not list(doubts(imported(tmp_path / "j", {"took": "ms"}, copies=2, took=took.tolist())))


def test_what_was_measured_here_is_not_doubted(tmp_path: Path) -> None:
    assert not list(doubts(made_dataset(tmp_path / "d", 5, scale=1e-9)))


def test_public_tables(tmp_path: Path) -> None:
    """Thirty devices: no doubt about the right unit, one about each of its neighbours."""
    tables = {
        space: SHARED / "data" / space / "latency.parquet" for space in ("nasbench201", "fbnet")
    }
    if not all(path.exists() for path in tables.values()):
        pytest.skip("the public tables are not beside this checkout")
    for space, path in tables.items():
        table = pq.read_table(path).slice(0, 20)
        pq.write_table(table, tmp_path / "t")
        for name in table.column_names[1:]:
            batch = name.split("_")[-2]
            few = batch.isdecimal() and int(batch) < 1000
            setting = get_preset(space).replace(batch=int(batch) if few else 1)
            target = Target(space, "x", "y", setting)
            for unit, doubted in (("ms", 0), ("us", 1), ("s", 1)):
                columns = {"latency_ms": TableColumn(name, unit)}
                table = read_table(tmp_path / "t", target, "arch", columns)
                dataset = write_imported(table, target, tmp_path / space / name / unit)
                assert len(list(doubts(dataset))) == doubted, (space, name, unit)
