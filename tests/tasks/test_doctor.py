"""What the doctor finds, as a program gets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from latkit.backends import BACKENDS
from latkit.search.objectives import OBJECTIVES
from latkit.tasks.doctor import Diagnosis, DoctorRow, doctor

ROOT = Path(__file__).parents[2]


def test_every_part_has_a_row_with_a_fix_where_it_does_not_work() -> None:
    diagnosis = doctor()
    parts = [row.part for row in diagnosis.rows]
    assert len(set(parts)) == len(parts)
    assert {"latkit", "torch", "torchvision", "cpu", "registry", *BACKENDS.names()} <= set(parts)
    assert all(bool(row.fix) == (row.status != "ok") for row in diagnosis.rows)
    assert not diagnosis.broken
    assert [set(row) for row in diagnosis.to_dict()] == [{"part", "status", "reason", "fix"}] * len(
        parts
    )


def test_only_what_is_broken_breaks_the_diagnosis() -> None:
    rows = [DoctorRow("a", status, "", "fix") for status in ("warning", "missing", "unusable")]
    assert not Diagnosis(tuple(rows)).broken
    assert Diagnosis((*rows, DoctorRow("b", "broken", "reason", "fix"))).broken


def test_a_broken_pytorch_is_reported_and_nothing_hides_it(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libtorch\\nis broken')")
    done = subprocess.run(
        [sys.executable, "-m", "latkit.cli.main", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    rows = {row["part"]: row for row in json.loads(done.stdout)}
    assert rows["torch"]["status"] == "broken"
    assert "libtorch is broken" in rows["torch"]["reason"]
    assert rows["cpu"]["status"] == "ok"
    assert all(bool(row["fix"]) == (row["status"] != "ok") for row in rows.values())


def test_a_plug_in_that_does_not_load_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("beauty", "no_such_module:Beauty", OBJECTIVES.group)
    monkeypatch.setattr(OBJECTIVES, "_points", {"beauty": point})
    (row,) = [row for row in doctor().rows if row.part == "objective beauty"]
    assert row.status == "unusable"
    assert "no_such_module" in row.what
    assert row.fix
