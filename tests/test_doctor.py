"""What the doctor finds, as a program gets it."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from latkit.backends import BACKENDS
from latkit.doctor import Diagnosis, DoctorRow, doctor


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


def test_a_package_that_does_not_import_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def failing(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms\ndoes not exist")
        return original(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", failing)
    (row,) = [row for row in doctor().rows if row.part == "torchvision"]
    assert (row.status, row.what) == (
        "broken", "does not import: operator torchvision::nms does not exist",
    )  # fmt: skip
