"""Every command and its Python twin (docs/python.md) give the same result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import latkit
from latkit.cli.main import cli
from latkit.registry import Registry
from latkit.search.retarget import explore
from latkit.spaces import Setting
from tests.support.accuracy import write_run
from tests.support.boards import run_here
from tests.support.commands import MICRO_TEXT, RunLatkit, ok
from tests.support.synthetic import both_lpm, made_dataset, made_lpm

RunJson = Callable[..., Any]
# What two runs of one command do not share.
VARIES = {"created_at", "seconds", "fit_seconds", "location", "epochs", "anchor_median_ms"}


@pytest.fixture(autouse=True)
def published(tmp_path: Path, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(explore, "EVALUATIONS", 1500)
    trained = made_lpm(tmp_path / "made")
    Registry(registry_url).publish(trained.lpm, trained.card)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in VARIES}
    return [without_times(item) for item in value] if isinstance(value, (list, tuple)) else value


def commands(group: click.Group, prefix: str = "latkit") -> list[str]:
    context = click.Context(group)
    names = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        path = f"{prefix} {name}"
        names += commands(command, path) if isinstance(command, click.Group) else [path]
    return names


def test_every_command_is_in_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(latkit [^`]*)` \|", page, re.MULTILINE)
    for command in commands(cli):
        assert [line for line in documented if f"{line} ".startswith(f"{command} ")], command
    for name in re.findall(r"`latkit\.(\w+)\(", page):
        assert callable(getattr(latkit, name)), name


def test_what_is_here(latkit_json: RunJson) -> None:
    assert latkit_json("spaces") == [space.to_dict() for space in latkit.spaces()]
    probes = {name: probe.to_dict() for name, probe in latkit.backends().items()}
    assert latkit_json("backends", "list") == probes
    parts = [row["part"] for row in latkit_json("doctor")]
    assert parts == [row.part for row in latkit.doctor().rows]


def test_profile(latkit_json: RunJson) -> None:
    printed = latkit_json(
        "profile", "--setting", MICRO_TEXT, "--n", 6, "--protocol", "paper", "--device", "here",
        "--out", "a",
    )  # fmt: skip
    result = latkit.profile(setting=MICRO_TEXT, n=6, protocol="paper", device="here", out="b")
    mine = result.to_dict()
    assert mine["target"] == printed["target"]
    assert mine["architectures"] == printed["architectures"] == 6
    tables = [latkit.open_dataset(name).table for name in ("a", "b")]
    assert tables[0]["arch_id"].to_pylist() == tables[1]["arch_id"].to_pylist()
    # Measured again by the other one, there is nothing to measure.
    again = latkit.profile(setting=MICRO_TEXT, n=6, protocol="paper", device="here", out="a")
    assert again.to_dict() == printed


def test_measure(latkit_json: RunJson) -> None:
    options = ["--setting", MICRO_TEXT, "--device", "here", "--backend", "torch-cpu",
               "--measurements", 1, "--runs", 2]  # fmt: skip
    printed = latkit_json("measure", "zoo:darts_v2", *options, "--out", "a")
    fields: dict[str, Any] = {"setting": MICRO_TEXT, "device": "here", "backend": "torch-cpu"}
    fields |= {"measurements": 1, "runs": 2}
    result = latkit.measure("zoo:darts_v2", out="b", **fields)
    assert [row.arch for row in result.rows] == [row["arch"] for row in printed["rows"]]
    # Measured again by the other one, there is nothing to measure.
    assert latkit.measure(["zoo:darts_v2"], out="a", **fields).to_dict() == printed
    request = latkit.MeasureRequest(what=("zoo:darts_v2",), out=Path("a"), **fields)
    assert latkit.measure(request).to_dict() == printed


def test_datasets(latkit_json: RunJson, latkit_run: RunLatkit, micro: Setting) -> None:
    first, second = made_dataset(Path("d"), 30), made_dataset(Path("e"), 30)
    assert latkit_json("dataset", "list", ".")["datasets"] == [
        found.to_dict() for found in latkit.list_datasets(Path())
    ]
    shown = latkit.summarize(first).to_dict()
    assert shown.items() <= latkit_json("dataset", "show", "d").items()
    checked = latkit.check_dataset(first)
    done = latkit_run("dataset", "check", "d", "--json")
    assert json.loads(done.stdout) == {"dataset": "d", **checked.to_dict()}
    assert (done.returncode == 3) == (checked.verdict == "unfit")
    compared = latkit.compare_datasets(first, second).to_dict()
    assert compared.items() <= latkit_json("dataset", "compare", "d", "e").items()

    rows = latkit.export_dataset(first, Path("a.csv"))
    assert latkit_json("dataset", "export", "d", "b.csv")["rows"] == rows
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()

    target = latkit.Target("darts", "board", "litert", micro)
    columns = {"latency_ms": latkit.TableColumn("latency_ms", "ms")}
    request = latkit.ImportRequest(["a.csv"], target, columns, Path("f"), arch_column="arch")
    imported = latkit.import_table(request).to_dict()
    printed = latkit_json(
        "dataset", "import", "b.csv", "--space", "darts", "--device", "board", "--backend",
        "litert", "--setting", MICRO_TEXT, "--latency-column", "latency_ms", "--arch-column",
        "arch", "--unit", "ms", "--out", "g",
    )  # fmt: skip
    assert {**printed, "dataset": "f"} == imported

    pushed = latkit.push_dataset("d", "there").to_dict()
    assert {**latkit_json("dataset", "push", "d", "too"), "destination": "there"} == pushed
    pulled = latkit.pull_dataset("there", "j").to_dict()
    assert {**latkit_json("dataset", "pull", "there", "k"), "destination": "j"} == pulled

    opened = [latkit.open_dataset(name) for name in ("f", "g")]
    merged = latkit.summarize(latkit.merge_datasets(opened, Path("h"))).to_dict()
    printed = latkit_json("dataset", "merge", "f", "g", "--out", "i")
    assert printed == {"dataset": "i", **merged}


def test_bundles(latkit_json: RunJson) -> None:
    options = ["--setting", MICRO_TEXT, "--n", 3, "--protocol", "fast"]
    printed = latkit_json("bundle", *options, "--out", "a.pyz")
    made = latkit.bundle(setting=MICRO_TEXT, n=3, protocol="fast", out="b.pyz").to_dict()
    assert {**printed, "file": "b.pyz"} == made
    assert Path("a.pyz").read_bytes() == Path("b.pyz").read_bytes()

    assert run_here(Path("a.pyz"), Path("results")) == 0
    printed = latkit_json("dataset", "import", "results", "--device", "board", "--out", "d")
    imported = latkit.import_results("results", "e", device="board").to_dict()
    assert {**printed, "dataset": "e"} == imported


def test_lpms(latkit_json: RunJson, registry_url: str) -> None:
    made_dataset(Path("d"), 60)
    trained = latkit.train_lpm("d", kind="op-count")
    printed = latkit_json("train-lpm", "d", "--kind", "op-count")
    assert without_times(printed) | {"reference": ""} == without_times(trained.to_dict()) | {
        "reference": ""
    }
    assert [trained.entry.version + 1 for _ in "1"] == [int(printed["reference"][-1])]

    listed = latkit_json("lpms", "list")
    assert listed["lpms"] == [lpm.to_dict() for lpm in latkit.list_lpms(latkit.Registry())]
    lpm = latkit.load_lpm("formula")
    assert (lpm.space, lpm.quantity, lpm.unit) == ("darts", "latency_ms", "ms")
    card = latkit_json("lpms", "show", "formula")
    assert lpm.card.to_dict().items() <= card.items()
    compared = [found.to_dict() for found in latkit.compare_lpms(["formula", "p100"])]
    assert latkit_json("lpms", "compare", "formula", "p100") == compared

    predicted = latkit.predict(["darts_v2", 7], device="p100").to_dict()
    assert latkit_json("predict", "--device", "p100", "darts_v2", 7) == predicted

    before = {entry.reference for entry in latkit.Registry().entries()}
    removed = latkit_json("lpms", "rm", f"formula@{trained.entry.version}", "--yes")["removed"]
    registry = latkit.Registry()
    registry.remove(registry.resolve_version(f"formula@{trained.entry.version + 1}", "darts"))
    after = {entry.reference for entry in registry.entries()}
    assert removed == trained.entry.reference
    assert len(before - after) == 2


def test_lpms_of_several_datasets(latkit_json: RunJson) -> None:
    for device in ("one", "two"):
        made_dataset(Path(device), 60, device)
    printed = latkit_json("train-lpm", "one", "two", "--kind", "op-count")
    assert [row["is_new"] for row in printed] == [True, True]
    # By the other one, there is nothing to train.
    rows = latkit.train_lpms(["one", "two"], kind="op-count")
    assert [{**row.to_dict(), "is_new": True} for row in rows] == printed
    request = latkit.TrainRequest(kind="op-count")
    assert [row.to_dict() for row in latkit.train_lpms("two", request)] == [rows[1].to_dict()]


def test_search_and_export(latkit_json: RunJson) -> None:
    values = {"cells": 3, "channels": 2, "epochs": 1, "batch": 16, "limit": 64}
    options = [text for name, value in values.items() for text in (f"--{name}", value)]
    printed = latkit_json(
        "search", "--device", "formula", "--preset", "cpu", *options, "--out", "a"
    )
    result = latkit.search(device="formula", preset="cpu", out="b", **values)
    assert without_times(result.to_dict()) == without_times(printed)
    assert result.found.predicted_ms == printed["found"]["predicted_ms"]

    exported = latkit.export("b/result.json", setting=MICRO_TEXT, out="b.onnx").to_dict()
    printed = latkit_json("export", "a/result.json", "--setting", MICRO_TEXT, "--out", "a.onnx")
    assert {**printed, "file": "b.onnx"} == exported
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()


def test_retarget(latkit_json: RunJson, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", both_lpm("energy_mj"))
    printed = latkit_json(
        "retarget", run, "--device", "formula", "--max-ms", 20, "--max-params", 1, "--confidence",
        0.9, "--front", 3, "--out", "a",
    )  # fmt: skip
    fields: dict[str, Any] = {"max_ms": (20.0,), "max_params_millions": 1.0, "confidence": 0.9}
    result = latkit.retarget(run, device="formula", front=3, out="b", **fields)
    assert json.loads(json.dumps(result.to_dict())) == printed
    request = latkit.RetargetRequest(run, ("formula",), front=3, out=Path("a"), **fields)
    assert latkit.retarget(request).to_dict() == printed
    assert Path("a/result.json").read_bytes() == Path("b/result.json").read_bytes()


def test_draw_and_report(latkit_json: RunJson) -> None:
    printed = latkit_json("draw", "gdas", "--device", "formula", "--out", "a.svg")
    drawn = latkit.draw("gdas", device="formula", out="b.svg").to_dict()
    assert {**printed, "file": "b.svg"} == drawn
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()

    printed = latkit_json("report", "made", "formula", "--out", "a.json")
    reported = latkit.report(["made", "formula"], out="b.json").to_dict()
    assert {**printed, "file": "b.json"} == reported
    contents = [json.loads(Path(name).read_text()) for name in ("a.json", "b.json")]
    assert without_times(contents[0]) == without_times(contents[1])


def test_train(latkit_json: RunJson) -> None:
    values = {"cells": 3, "channels": 2, "epochs": 1, "batch": 16, "limit": 64, "data": "digits"}
    options = [text for name, value in values.items() for text in (f"--{name}", value)]
    printed = latkit_json("train", "darts_v2", "--preset", "cpu-small", *options, "--out", "a")
    request = latkit.TrainingRequest("darts_v2", preset="cpu-small", out="b")
    result = latkit.train(request, **values)
    assert without_times(result.to_dict()) == without_times(printed)
    weights = [Path(out, "seed-0", "last.safetensors").read_bytes() for out in ("a", "b")]
    assert weights[0] == weights[1]


@pytest.fixture
def latkit_run(latkit: RunLatkit) -> RunLatkit:
    """The fixture of the command line, beside the module of its name."""
    return latkit


@pytest.fixture
def latkit_json(latkit_run: RunLatkit) -> RunJson:
    return lambda *arguments: ok(latkit_run, *arguments)
