"""Programs in a bundle: small, and bit for bit those of ``latkit profile``."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latkit.backends.executorch import ExecutorchXnnpackBackend
from latkit.board import pte
from latkit.board.pte import HEAD, Runtime
from latkit.core.errors import BackendError, InputError
from latkit.networks.pte import build_pte
from latkit.spaces import get_space, parse_setting
from latkit.spaces.build import random_onnx
from latkit.tasks import bundle_pte
from latkit.tasks.bundle_pte import PteFormat
from tests.board.test_onnx import SETTINGS
from tests.support.boards import make_micro_bundle, run_here


@pytest.fixture(autouse=True)
def usable() -> None:
    probe = ExecutorchXnnpackBackend.probe()
    if not probe.usable:
        pytest.skip(probe.reason)


@pytest.mark.parametrize("space", SETTINGS)
def test_a_board_makes_the_same_program(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, structure = parse_setting(SETTINGS[space]), get_space(space)
    row = structure.unrank(structure.sample(1, 3))[0]
    architecture = structure.architecture(row, setting.network)
    files = PteFormat(0).files(architecture, setting)
    assert sum(map(len, files.values())) < 110_000
    wanted = build_pte(random_onnx(architecture, setting, 0)).serialized()
    assert wanted.startswith(files[HEAD])
    contents: list[bytes] = []
    note_programs(monkeypatch, contents)
    with Runtime(1, 0).load(files.__getitem__) as runner:
        logits = runner.logits()
        assert runner.clock == "cpu"
    assert contents == [wanted]
    with ExecutorchXnnpackBackend() as home, home.compile(architecture, setting) as here:
        assert np.array_equal(here.logits(), logits)


def note_programs(monkeypatch: pytest.MonkeyPatch, contents: list[bytes]) -> None:
    """Keep what a board's runners are given."""
    runner_class = pte.ExecutorchRunner

    def noted(content: bytes, *arguments: Any) -> pte.ExecutorchRunner:
        contents.append(content)
        return runner_class(content, *arguments)

    monkeypatch.setattr(pte, "ExecutorchRunner", noted)


def test_the_facts_are_those_of_the_backend() -> None:
    facts = Runtime(1, 0).facts()
    with ExecutorchXnnpackBackend() as backend:
        assert facts == backend.fingerprint()
    assert facts["executorch"] == importlib.metadata.version("executorch")


def test_an_executorch_of_another_make_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings._C", None)
    with pytest.raises(BackendError, match="runtime does not import"):
        Runtime(1, 0)


def test_a_pool_of_another_size_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pte, "pool_threads", lambda: 3)
    with pytest.raises(BackendError, match="runs on 3 of the 1 threads requested"):
        Runtime(1, 0)


def test_a_weight_that_does_not_follow_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*arguments: object) -> object:
        network = random_onnx(*arguments)  # type: ignore[arg-type]
        network.drawn.clear()
        return network

    monkeypatch.setattr(bundle_pte, "random_onnx", changed)
    setting, structure = parse_setting(SETTINGS["darts"]), get_space("darts")
    architecture = structure.architecture(structure.unrank([0])[0], setting.network)
    with pytest.raises(InputError, match="does not follow from the seed"):
        PteFormat(0).files(architecture, setting)


def test_a_bundle_of_programs_is_measured(tmp_path: Path) -> None:
    bundle = make_micro_bundle(tmp_path / "b.pyz", n=3, to="pte", protocol="fast")
    assert run_here(bundle, tmp_path / "results") == 0
    assert (tmp_path / "results" / "dataset.json").exists()
    assert '"executorch-xnnpack"' in (tmp_path / "results" / "dataset.json").read_text()
