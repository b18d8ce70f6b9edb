"""Files that were made to break their readers, as benchmarks/fuzz.py found them: one line each."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from latkit.lpm.store import card_text
from latkit.registry import Registry
from tests.support import report_files
from tests.support.commands import RunLatkit, ok, refused
from tests.support.synthetic import made_lpm

DEEP = "[" * 3000
HUGE = "9" * 400  # a whole number that no float holds


@pytest.fixture
def version(tmp_path: Path, registry_url: str) -> Path:
    """The folder of a published LPM."""
    made = made_lpm(tmp_path / "made")
    registry = Registry(registry_url)
    return Path(registry.location(registry.publish(made.lpm, made.card)))


@pytest.mark.parametrize("text", [f"x = {DEEP}", f"{'a.' * 3000}b = 1", f"json.{'a.' * 3000}b = 1"])
def test_options_nested_without_end(latkit: RunLatkit, tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(f"[spaces]\n{text}")
    refused(latkit, "spaces", "--config", "c.toml", code=2)


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\ud800"', DEEP, "[" * 900 + "]" * 900])
def test_a_card_with_what_json_has_not(latkit: RunLatkit, version: Path, value: str) -> None:
    card = version / "lpm.json"
    card.write_text(re.sub('"cost": "[^"]*"', lambda _: f'"cost": {value}', card.read_text()))
    refused(latkit, "predict", "darts_v2", "--device", "formula")
    listed = latkit("lpms", "list")
    assert listed.returncode == 0
    assert "lpm.json is corrupt" in listed.stderr


def test_a_card_whose_numbers_are_too_large(latkit: RunLatkit, version: Path) -> None:
    """Its digest is right: who writes to a registry can make that."""
    card = version / "lpm.json"
    content: dict[str, Any] = json.loads(card.read_text())
    for value in (float(10**300), 10**400, [], {}, "x"):
        for name in ("hyper_parameters", "metrics", "dataset", "fingerprint"):
            changed = {**content, name: dict.fromkeys(content[name], value)}
            card.write_text(card_text(changed))
            done = latkit("predict", "darts_v2", "--device", "formula")
            assert done.returncode in (0, 1, 2), done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("change", ["shape", "nan", "no share"])
def test_weights_that_do_not_fit_together(latkit: RunLatkit, version: Path, change: str) -> None:
    """Their digest is right, and each of them alone is."""
    path = version / "weights.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = next(name for name in sorted(tensors) if name.startswith("features.center"))
    wrong = tensors[name]
    tensors[name] = wrong.reshape(-1, 1) if change == "shape" else wrong * float("nan")
    if change == "no share":
        tensors |= {name: wrong, "model.0.share": 0 * tensors["model.0.share"]}
    content = safetensors.torch.save(tensors)
    path.write_bytes(content)
    card = json.loads((version / "lpm.json").read_text())
    card["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (version / "lpm.json").write_text(card_text(card))
    refused(latkit, "predict", "darts_v2", "--device", "formula", code=1)


@pytest.mark.parametrize("name", ["lpm.json", "weights.safetensors"])
def test_a_file_of_a_registry_without_end(latkit: RunLatkit, version: Path, name: str) -> None:
    (version / name).unlink()
    (version / name).symlink_to("/dev/zero")
    refused(latkit, "predict", "darts_v2", "--device", "formula")


def test_nothing_is_published_through_a_link(
    latkit: RunLatkit, version: Path, tmp_path: Path
) -> None:
    registry = version.parents[4]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "darts").symlink_to(tmp_path / "elsewhere")
    done = refused(latkit, "registry", "pull", str(registry), "--registry", "other", code=1)
    assert "darts is a symbolic link" in done
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["0", "00"])
def test_a_version_with_the_number_of_what_is_built_in(
    latkit: RunLatkit, version: Path, name: str
) -> None:
    version.rename(version.with_name(name))
    assert "formula" not in json.dumps(ok(latkit, "lpms", "list"))


@pytest.mark.parametrize("to", ["nothing", "lpm.json", "x" * 300])
def test_a_report_of_a_link_to_nothing(latkit: RunLatkit, tmp_path: Path, to: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "lpm.json").symlink_to(to)
    (tmp_path / "ok.json").write_text(json.dumps(report_files.search()))
    done = latkit("report", "d", "ok.json", "--out", "p.html")
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stderr


@pytest.mark.parametrize("value", [HUGE, "NaN", '"\\ud800"', DEEP + "]" * 3000])
def test_a_result_with_what_no_number_is(latkit: RunLatkit, tmp_path: Path, value: str) -> None:
    text = json.dumps({**report_files.search(), "genotype_epoch": "HERE"})
    (tmp_path / "result.json").write_text(text.replace('"HERE"', value))
    refused(latkit, "report", "result.json", "--out", "page.html", code=2)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("fingerprint", []), ("metrics", {}), ("baselines", {"macs_only": 1}), ("training", "x"),
     ("dataset", {"digest": "x"}), ("created_at", 7), ("hyper_parameters", None)],
)  # fmt: skip
def test_a_card_with_fields_of_other_types(
    latkit: RunLatkit, version: Path, field: str, value: Any
) -> None:
    """Whoever reads cards, and not only predictions, relies on them."""
    card = version / "lpm.json"
    card.write_text(card_text({**json.loads(card.read_text()), field: value}))
    for command in (("report", "formula", "--out", "p.html"), ("lpms", "show", "formula")):
        refused(latkit, *command)


@pytest.mark.parametrize("wanted", [2, "x", {}])
def test_lists_that_are_none(latkit: RunLatkit, tmp_path: Path, wanted: Any) -> None:
    content = {"kind": "retarget", "format_version": 1, "space": "darts", "devices": []}
    for points in ([], [{"accuracy_percent": 1.0}]):
        made = {**content, "points": points, "wanted": wanted}
        (tmp_path / "r.json").write_text(json.dumps(made))
        refused(latkit, "report", "r.json", "--out", "p.html", code=2)


def test_a_benchmark_with_a_number_that_no_float_holds(latkit: RunLatkit, tmp_path: Path) -> None:
    content = {**report_files.benchmark(), "more": [10**400]}
    (tmp_path / "b.json").write_text(json.dumps(content))
    refused(latkit, "report", "b.json", "--out", "p.html", code=2)


@pytest.mark.parametrize("devices", [None, []])
def test_a_retargeting_to_no_device(
    latkit: RunLatkit, tmp_path: Path, devices: list[Any] | None
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(report_files.retargeted(devices=devices)))
    refused(latkit, "report", "r.json", "--out", "p.html", code=2)


def test_an_option_of_a_model_nested_without_end(latkit: RunLatkit) -> None:
    refused(latkit, "measure", f"torchvision:resnet18?x={'(' * 3000}", "--backend", "torch-cpu")
