"""``benchmarks/paper.py`` from its first stage to its report, at a size that says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.paper import SCALES, Study
from latkit.core.events import Listener
from tests.search.test_data import write_parquet


def test_all_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A training on all cores would wait, step by step, for what runs beside this test.
    monkeypatch.setattr("benchmarks.paper.usable_cores", lambda: 1)
    write_parquet(Path("data"), [number % 2 for number in range(24)])
    (Path("data") / "test.parquet").write_bytes((Path("data") / "train.parquet").read_bytes())
    study = Study(SCALES["test"], "here", ("torch-cpu",), "data", tmp_path / "work", Listener())
    results = study.run()
    (device,) = results["devices"].values()
    assert results["scaled_down"]
    assert [len(device["searches"][kind]) for kind in ("lambda", "noise", "macs")] == [2, 0, 0]
    for search in device["searches"]["lambda"]:
        assert len(search["test_error_percent"]["seeds"]) == 2
    names = [row["name"] for row in results["tables"]["torch-cpu"]["cifar"]["rows"]]
    assert len(names) > 6
    study.write(results)
    written = json.loads((tmp_path / "work" / "results.json").read_text())
    assert written["devices"].keys() == {"torch-cpu"}
    assert "scaled down" in (tmp_path / "work" / "report.html").read_text()
