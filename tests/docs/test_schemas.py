"""The published JSON Schemas: what latkit writes is valid, and what is not latkit's is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latkit.dataset.sharing import push_dataset
from latkit.registry import Registry
from tests.support.commands import MICRO_TEXT, RunLatkit, ok
from tests.support.synthetic import made_dataset, made_lpm

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def validator(name: str) -> Any:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_all_fields(name: str, file: Path) -> None:
    """A file is valid, has no field that the schema leaves out, and none that it could lack."""
    schema = validator(name)
    content = json.loads(file.read_text(encoding="utf-8"))
    schema.validate(content)
    assert set(content) <= set(schema.schema["properties"])
    for field in schema.schema["required"]:
        assert not schema.is_valid({key: content[key] for key in content if key != field})


def test_a_measured_and_an_imported_dataset(latkit: RunLatkit) -> None:
    ok(latkit, "profile", "--setting", MICRO_TEXT, "--backend", "torch-cpu", "--device", "here",
       "--n", 3, "--protocol", "paper", "--out", "measured")  # fmt: skip
    check_all_fields("dataset", Path("measured/dataset.json"))
    Path("t.csv").write_text("arch,ms\n5,1.5\n6,1.7\n")
    ok(latkit, "dataset", "import", "t.csv", "--arch-column", "arch", "--latency-column", "ms",
       "--unit", "ms", "--device", "there", "--backend", "theirs", "--out", "imported")  # fmt: skip
    check_all_fields("dataset", Path("imported/dataset.json"))


def test_a_shared_dataset(tmp_path: Path) -> None:
    made_dataset(tmp_path / "d", 40)
    push_dataset(tmp_path / "d", str(tmp_path / "there"))
    check_all_fields("files", tmp_path / "there" / "files.json")


def test_an_lpm(tmp_path: Path, registry_url: str) -> None:
    trained = made_lpm(tmp_path / "made")
    Registry(registry_url).publish(trained.lpm, trained.card)
    (card,) = Path(registry_url).rglob("lpm.json")
    check_all_fields("lpm", card)
