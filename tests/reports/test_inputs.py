"""What a report is made of: every kind, found in folders, and refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from latkit.core.errors import InputError, LatkitError
from latkit.core.events import Listener
from latkit.registry import Registry
from latkit.reports.page.inputs import read_inputs
from latkit.reports.report import ReportRequest, report
from tests.support import report_files
from tests.support.commands import RunLatkit, check, ok
from tests.support.synthetic import made_dataset, made_lpm


class Warnings(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


def test_a_folder_of_every_kind(tmp_path: Path, registry_url: str) -> None:
    trained = made_lpm(tmp_path / "d")
    entry = Registry(registry_url).publish(trained.lpm, trained.card)
    report_files.write_all(tmp_path / "all")
    shutil.move(tmp_path / "d", tmp_path / "all" / "d")
    shutil.copytree(Path(registry_url) / entry.folder, tmp_path / "all" / "lpm")
    report_files.write(tmp_path / "all" / "s" / "config.json", {"data": {}})
    (tmp_path / "all" / ".hidden").mkdir()
    report_files.write(tmp_path / "all" / ".hidden" / "result.json", {})
    inputs = read_inputs([str(tmp_path / "all")])
    counts = [
        len(kind)
        for kind in (inputs.datasets, inputs.lpms, inputs.fits, inputs.searches, inputs.sweeps,
                     inputs.trainings, inputs.measurements, inputs.benchmarks)
    ]  # fmt: skip
    assert counts == [1, 1, 1, 2, 1, 1, 2, 1]
    assert len(inputs.listed) == 10
    assert inputs.left_out == []


def test_each_is_read_once(tmp_path: Path) -> None:
    folder = report_files.write_all(tmp_path / "all")
    made_dataset(folder / "d", 20)
    given = [folder, folder / "s", folder / "s" / "result.json", folder / "d", folder / "made.json"]
    inputs = read_inputs([str(path) for path in given])
    assert len(inputs.listed) == len({name for name, _ in inputs.listed})
    assert (len(inputs.searches), len(inputs.datasets), len(inputs.benchmarks)) == (2, 1, 1)


def test_a_sweep_brings_its_searches(tmp_path: Path) -> None:
    report_files.write(tmp_path / "w" / "sweep.json", report_files.sweep())
    report_files.write(tmp_path / "w" / "a" / "result.json", report_files.search())
    inputs = read_inputs([str(tmp_path / "w")])
    assert (len(inputs.sweeps), len(inputs.searches)) == (1, 1)


def test_a_measurement_is_no_dataset_too(tmp_path: Path) -> None:
    made_dataset(tmp_path / "m", 20)
    report_files.write(tmp_path / "m" / "measurement.json", report_files.measurement())
    inputs = read_inputs([str(tmp_path / "m")])
    assert (len(inputs.measurements), len(inputs.datasets)) == (1, 0)


def test_what_a_folder_holds_that_is_broken_is_left_out(tmp_path: Path) -> None:
    folder = report_files.write_all(tmp_path / "all")
    (folder / "s" / "result.json").write_text("{")
    (folder / "broken").mkdir()
    (folder / "broken" / "dataset.json").write_text("{}")
    report_files.write(folder / "t" / "training.json", report_files.training(format_version=2))
    warnings = Warnings()
    inputs = read_inputs([str(folder)], listener=warnings)
    assert len(inputs.left_out) == len(warnings.lines) == 3
    assert len(inputs.listed) == 6


def test_refusals(latkit: RunLatkit, tmp_path: Path) -> None:
    Path("empty").mkdir()
    Path("t.csv").write_text("a,b\n")
    Path("list.json").write_text("[1]")
    Path("other.json").write_text('{"a": 1}')
    Path("bad.json").write_bytes(b"\xff{")
    report_files.write(Path("t") / "training.json", report_files.training(format_version=9))
    made_dataset(tmp_path / "d", 20)
    for given, texts in (
        ("nothing", ("'nothing'", "no LPM of the registry", "a search or sweep")),
        ("empty", ("empty holds nothing", "a dataset")),
        ("t.csv", ("t.csv is nothing", "a dataset")),
        ("other.json", ("other.json is nothing", "a dataset")),
        ("list.json", ("list.json holds no JSON object",)),
        ("bad.json", ("bad.json is not JSON",)),
        ("t", ("format version 9",)),
        ("nope@3", ("nope@3",)),
    ):
        check(latkit, "report", given, says=texts)
    check(latkit, "report", "d", "--out", "r.doc", says=("'doc' is no format", "--format"), code=2)
    check(latkit, "report", "d", "--out", "no/r.html", says=("no/r.html",))
    check(latkit, "report", says=("Missing argument",), code=2)
    assert not list(Path().glob("r*"))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (report_files.search(found={"genotype": "x"}), "no number found.macs"),
        (report_files.search(epochs=3), "no list of objects epochs"),
        (report_files.search(lpm_metrics=None), "no object lpm_metrics"),
        (report_files.search(genotype_epoch="two"), "no number genotype_epoch"),
        (report_files.training(params=None), "no number params"),
        (report_files.training(test_error_percent={"mean": "x"}), "no number test_error_percent"),
        (report_files.training(params=float("nan")), "is not JSON"),
        (report_files.measurement(rows=[{"name": "x"}]), "no number rows[0].latency_ms"),
        (report_files.measurement(device=None), "no text device"),
        (report_files.sweep(searches=[{"name": "a"}]), "no number searches[0].cost"),
    ],
)
def test_a_file_that_lacks_something(
    latkit: RunLatkit, content: report_files.Json, text: str
) -> None:
    name = f"{content['kind']}.json" if "kind" in content else "result.json"
    name = "sweep.json" if "searches" in content else name
    report_files.write(Path("x") / name, content)
    check(latkit, "report", "x", says=(text, "Fix:"))


def test_an_unreadable_cell_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    path = report_files.write(
        tmp_path / "s" / "result.json", report_files.search(genotype="Genotype(nonsense)")
    )
    done = report(ReportRequest(path, tmp_path / "r.json"))
    (cells,) = (part for part in done.report.sections if part.key == "cells")
    assert "is not drawn" in getattr(cells.blocks[0], "text", "")


def test_the_command(latkit: RunLatkit, tmp_path: Path) -> None:
    report_files.write_all(tmp_path / "all")
    printed = ok(latkit, "report", "all", "--out", "r.md")
    assert (printed["format"], printed["file"]) == ("md", "r.md")
    assert printed["bytes"] == Path("r.md").stat().st_size
    assert set(printed["best"]) == {"formula (torch-cpu)", "other (torch-cpu)"}
    assert ok(latkit, "report", "all", "--out", "r.txt", "--format", "json")["format"] == "json"
    content = json.loads(Path("r.txt").read_text())
    assert (content["kind"], content["format_version"]) == ("report", 1)
    assert [part["title"] for part in content["sections"]] == printed["sections"]
    done = latkit("report", "all")
    assert done.returncode == 0
    assert "formula (torch-cpu): Cell A" in done.stdout
    assert Path("report.html").exists()


def test_errors_are_latkits() -> None:
    with pytest.raises(InputError):
        read_inputs([""])
    with pytest.raises(LatkitError):
        read_inputs(["~nobody-of-this-name/x"])
