"""The commands as a user runs them, one after the other, with real measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from latkit.dataset.flags import is_panel
from latkit.dataset.writer import DatasetWriter
from latkit.registry import Registry
from latkit.spaces import get_space, parse_setting
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.genotype import parse_genotype
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import MICRO_TEXT, RunLatkit
from tests.support.places import SHARED
from tests.support.processes import interrupt, start_latkit, wait_for
from tests.support.synthetic import made_lpm, made_manifest, made_row

SPACE = get_space("darts")
MICRO_SEARCH = (
    "--preset", "cpu", "--cells", 3, "--channels", 2, "--batch", 16, "--epochs", 2, "--limit", 64,
)  # fmt: skip


def profile_arguments(n: int, out: object = "d") -> tuple[object, ...]:
    """By the protocol that flags nothing: how many rows there are does not depend on the noise."""
    return (
        "profile", "--backend", "torch-cpu", "--device", "this-cpu", "--setting", MICRO_TEXT,
        "--n", n, "--out", out, "--protocol", "paper",
    )  # fmt: skip


def test_profile_train_search(latkit: RunLatkit) -> None:
    """On CIFAR-10's images where they are; README's test has digits."""
    profiled = latkit(*profile_arguments(40), "--json")
    assert profiled.returncode == 0, profiled.stderr
    summary = json.loads(profiled.stdout)
    assert summary["architectures"] == 40
    assert summary["rows"] == 42 + 4
    assert summary["rows_panel"] == 4
    assert "latkit train-lpm d" in profiled.stderr

    trained = latkit("train-lpm", "d", "--epochs", 300, "--json")
    assert trained.returncode == 0, trained.stderr
    card = json.loads(trained.stdout)
    assert card["metrics"]["n_test"] == len(card["baselines"]) * 8
    assert card["target"] == summary["target"]

    images = SHARED / "data" / "cifar10"
    data = images if images.exists() else "digits"
    searched = latkit(
        "search", "--device", "this-cpu", "--data", data, "--out", "s", *MICRO_SEARCH, "--json"
    )
    assert searched.returncode == 0, searched.stderr
    result = json.loads(searched.stdout)
    assert result == json.loads(Path("s/result.json").read_text())
    assert result["lpm"] == card["reference"]
    # What is reported of the network is true of it.
    genotype = parse_genotype(result["genotype"])
    row = SPACE.from_genotype(genotype)
    assert result["arch_id"] == SPACE.rank(row)[0]
    cost = architecture_cost(SPACE.genotype(row[0], ZOO["darts_v2"]), parse_setting(MICRO_TEXT))
    assert (result["found"]["macs"], result["found"]["params"]) == (cost.macs, cost.params)
    # Of both found cells too, which is another network.
    whole = architecture_cost(genotype, parse_setting(MICRO_TEXT))
    both = result["found_genotype"]
    assert (both["macs"], both["params"]) == (whole.macs, whole.params)
    assert both["params"] != cost.params
    assert both["measured_ms"] > 0
    assert parse_genotype(both["genotype"]) == genotype
    assert parse_genotype(result["found"]["genotype"]).reduce == ZOO["darts_v2"].reduce
    # It was measured here, in the unit of the dataset; how busy the machine is may change.
    assert result["measured"]["why_not"] is None
    latency = summary["latency_ms"]
    assert latency["min"] / 30 < result["found"]["measured_ms"] < 30 * latency["max"]
    # This protocol's latency is the mean of the runs: no anchor brings it to another speed.
    for cell in (result["found"], result["darts_v2"]):
        assert cell["measured_at_profile_speed_ms"] == cell["measured_ms"]


def test_the_dataset_is_plain_parquet(latkit: RunLatkit) -> None:
    assert latkit(*profile_arguments(3)).returncode == 0
    (part,) = Path("d").glob("part-*.parquet")
    table = pq.read_table(str(part))
    assert table["arch_id"].to_pylist()[2:5] == SPACE.sample(3, 0).tolist()  # after the panel
    assert np.isfinite(table["latency_ms"].to_numpy()).all()


def test_defaults_name_themselves(latkit: RunLatkit) -> None:
    done = latkit("profile", "--n", 2, "--setting", MICRO_TEXT)
    assert done.returncode == 0
    assert done.stderr.startswith("using torch-c")
    assert "device name: " in done.stderr
    (manifest,) = Path("datasets").glob("*/*/*/dataset.json")
    assert json.loads(manifest.read_text())["requested"] == 2
    assert "usable architectures of 2 measured" in latkit("train-lpm").stderr


@pytest.mark.parametrize("flags", [["disturbed", "spread"], ["panel-start"]])
def test_nothing_to_train_on(latkit: RunLatkit, flags: list[str]) -> None:
    with DatasetWriter(Path("d"), made_manifest(1)) as writer:
        writer.append(made_row(5, 9.0, flags=flags))
    done = latkit("train-lpm", "d")
    assert done.returncode == 1
    assert "d has 0 usable architectures" in done.stderr.splitlines()[-1]


def test_the_registry_is_listed_and_shown(latkit: RunLatkit) -> None:
    (built_in,) = json.loads(latkit("lpms", "list", "--json").stdout)["lpms"]
    assert built_in["reference"].endswith("@0")
    latkit(*profile_arguments(25))
    reference = json.loads(latkit("train-lpm", "d", "--json").stdout)["reference"]
    listed = latkit("lpms", "list")
    assert "this-cpu" in listed.stdout
    assert json.loads(latkit("lpms", "list", "--json").stdout)["lpms"][0]["reference"] == reference
    shown = latkit("lpms", "show", "this-cpu@1")
    assert "Spearman" in shown.stdout
    assert "torch-cpu" in shown.stdout
    assert json.loads(latkit("lpms", "show", reference, "--json").stdout)["kind"] == "default"


def test_backends_and_doctor(latkit: RunLatkit) -> None:
    backends = json.loads(latkit("backends", "list", "--json").stdout)
    assert backends["torch-cpu"]["status"] == "ok"
    assert latkit("backends", "list").returncode == 0
    doctor = latkit("doctor")
    assert doctor.returncode == 0
    rows = {row["part"]: row for row in json.loads(latkit("doctor", "--json").stdout)}
    assert rows["torch-cuda"]["status"] == backends["torch-cuda"]["status"]
    assert rows["registry"]["status"] == "ok"
    assert all(row["fix"] or row["status"] == "ok" for row in rows.values())


@pytest.mark.parametrize(
    ("capability", "advice"),
    [
        ((6, 0), ["cu126", "onnxruntime-gpu<=1.26", "TensorRT 8.6.1"]),
        ((7, 0), ["10.5"]),
        ((7, 5), []),
    ],
)
def test_doctor_knows_what_old_gpus_need(
    latkit: RunLatkit,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    advice: list[str],
) -> None:
    for name, told in (("is_available", True), ("get_device_name", "a GPU")):
        monkeypatch.setattr(torch.cuda, name, lambda told=told: told)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    rows = {row["part"]: row for row in json.loads(latkit("doctor", "--json").stdout)}
    assert rows["gpu"]["status"] == ("warning" if advice else "ok")
    assert all(part in rows["gpu"]["fix"] for part in advice)
    if capability == (6, 0):
        assert "tensorrt==8.6.1" in rows["tensorrt"]["fix"]
        assert "onnxruntime-gpu<=1.26" in rows["onnxruntime-cuda"]["fix"]


def test_doctor_finds_a_broken_registry(
    latkit: RunLatkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LATKIT_REGISTRY", str(tmp_path / "file" / "r"))
    done = latkit("doctor")
    assert done.returncode == 1
    assert "broken" in done.stdout
    assert "LATKIT_REGISTRY" in done.stdout


class TestInterrupted:
    def test_profile(self, latkit: RunLatkit, tmp_path: Path) -> None:
        process = start_latkit(*profile_arguments(2000), cwd=tmp_path)
        wait_for(process, tmp_path / "d" / "journal.jsonl", size=40_000)
        interrupt(process)
        (part,) = (tmp_path / "d").glob("part-*.parquet")
        table = pq.read_table(str(part))
        before = table["samples_ms"]
        listed = sum(not is_panel(flags) for flags in table["flags"].to_pylist())
        assert listed > 0
        done = latkit(*profile_arguments(listed + 20))
        assert done.returncode == 0
        assert f"going on: {listed} of" in done.stderr
        assert pq.read_table(str(part))["samples_ms"].equals(before)

    def test_search(self, latkit: RunLatkit, tmp_path: Path) -> None:
        made = made_lpm(tmp_path / "made")
        Registry().publish(made.lpm, made.card)
        arguments = ("search", "--device", "formula", "--out", "s", *MICRO_SEARCH)
        process = start_latkit(*arguments, "--epochs", 60, cwd=tmp_path)
        wait_for(process, tmp_path / "s" / "checkpoint.safetensors", size=1)
        interrupt(process)
        done = latkit(*arguments, "--epochs", 2)
        assert done.returncode == 1
        assert "holds another search" in done.stderr


def test_import_and_help_load_nothing_heavy(tmp_path: Path) -> None:
    heavy = "{'torch', 'numpy', 'pyarrow', 'rich', 'scipy', 'sklearn', 'fsspec'}"
    for code in (
        "import latkit",
        "from latkit.cli.main import cli; cli.main(['--help'], standalone_mode=False)",
        "import latkit.cli.profile, latkit.cli.search, latkit.cli.train_lpm, latkit.cli.demo, "
        "latkit.cli.dataset",
    ):
        check = f"{code}\nimport sys\nsys.exit(str({heavy} & set(sys.modules) or ''))"
        done = subprocess.run(
            [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or done.stderr.strip() == "", (code, done.stderr)


@pytest.mark.parametrize(
    "command",
    ["", "doctor", "demo", "profile", "measure", "train-lpm", "predict", "search", "train",
     "export", "draw", "report", "backends", "backends list", "lpms", "lpms list", "lpms show",
     "lpms compare", "lpms rm", "dataset", "dataset list", "dataset show", "dataset check",
     "dataset compare", "dataset merge", "dataset import", "dataset export"],
)  # fmt: skip
def test_help_teaches(latkit: RunLatkit, command: str) -> None:
    done = latkit(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage: latkit" in done.stdout or "Usage: main" in done.stdout
    if command in ("profile", "measure", "train-lpm", "search", "train"):
        assert "Examples:" in done.stdout
    if command not in ("", "backends", "lpms", "dataset"):
        assert "--json" in done.stdout
