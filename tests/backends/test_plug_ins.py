"""Backends of other distributions: found, listed, and when broken in nobody's way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latkit.backends import BACKENDS, probe_backend
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.errors import BackendError, InputError
from tests.support.commands import MICRO_TEXT, RunLatkit

MODULE = """
from latkit.backends import Backend
from latkit.backends.torch_cpu import TorchCpuBackend

class Good(TorchCpuBackend):
    name = "good-cpu"

class Misnamed(TorchCpuBackend):
    name = "another"

class Stolen(TorchCpuBackend):
    name = "torch-cpu"

class Abstract(Backend):
    name = "abstract"

class Unprobed(TorchCpuBackend):
    name = "unprobed"

    @classmethod
    def probe(cls):
        raise OSError("libengine.so is missing")

no_backend = 3
"""
POINTS = """
[latkit.backends]
good-cpu = plugged_in:Good
misnamed = plugged_in:Misnamed
torch-cpu = plugged_in:Stolen
no-backend = plugged_in:no_backend
abstract = plugged_in:Abstract
unprobed = plugged_in:Unprobed
lost = plugged_in:Lost
broken = plugged_in_broken:Broken
"""


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A distribution as an installer leaves it."""
    site = tmp_path_factory.mktemp("site")
    (site / "plugged_in.py").write_text(MODULE)
    (site / "plugged_in_broken.py").write_text("raise RuntimeError('no such\\nengine')")
    info = site / "plugged_in-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-in\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(POINTS)
    sys.path.insert(0, str(site))
    BACKENDS.refresh()
    yield
    sys.path.remove(str(site))
    for module in ("plugged_in", "plugged_in_broken"):
        sys.modules.pop(module, None)
    BACKENDS.refresh()


def test_a_plug_in_is_a_backend_like_any_other(latkit: RunLatkit) -> None:
    assert issubclass(BACKENDS.get("good-cpu"), TorchCpuBackend)
    assert probe_backend("good-cpu").usable
    done = latkit(
        "profile", "--backend", "good-cpu", "--device", "x", "--setting", MICRO_TEXT, "--n", 2,
        "--out", "d", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["target"]["backend"] == "good-cpu"


def test_a_plug_in_does_not_take_a_name_of_ours() -> None:
    assert BACKENDS.get("torch-cpu") is TorchCpuBackend
    assert BACKENDS.names().count("torch-cpu") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", "does not load: RuntimeError: no such engine"),
        ("lost", "does not load: AttributeError"),
        ("no-backend", r"is not a latkit\.backends\.Backend"),
        ("abstract", "lacks _compile, _enter"),
        ("misnamed", "calls itself 'another'"),
    ],
)
def test_a_broken_one_tells_why_and_whose_it_is(name: str, says: str) -> None:
    with pytest.raises(BackendError, match=rf"plugged-in 1\.2\) {says}.*Fix: mend or uninstall"):
        BACKENDS.get(name)
    probe = probe_backend(name)
    assert probe.status == "unusable"
    assert "plugged-in 1.2" in probe.reason


def test_broken_ones_are_listed_and_break_nothing(latkit: RunLatkit, tmp_path: Path) -> None:
    done = latkit("backends", "list", "--json")
    assert done.returncode == 0
    listed = json.loads(done.stdout)
    assert listed["good-cpu"]["status"] == listed["torch-cpu"]["status"] == "ok"
    assert "no such engine" in listed["broken"]["reason"]
    assert "its probe fails: OSError: libengine.so" in listed["unprobed"]["reason"]
    done = latkit("doctor", "--json")
    assert done.returncode == 0
    assert {row["part"]: row["status"] for row in json.loads(done.stdout)}["broken"] == "unusable"


def test_an_unknown_name_suggests_plug_ins_too() -> None:
    with pytest.raises(InputError, match="did you mean good-cpu"):
        BACKENDS.get("good-cpus")
