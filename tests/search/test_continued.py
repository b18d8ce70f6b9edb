"""Searches that begin with the weights and α of another device's search."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from latkit.core.errors import InputError, Interrupted, LatkitError, SearchError
from latkit.core.quantities import LATENCY
from latkit.lpm.base import LPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.training import TrainedLPM, fit
from latkit.registry import Registry
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.claim import CONFIG
from latkit.search.config import SearchConfig
from latkit.search.data import load_data
from latkit.search.earlier import EarlierSearch
from latkit.search.epochs import SearchOutcome
from latkit.search.image_source import ImageData
from latkit.search.request import SearchRequest
from latkit.search.result import SearchResult, SweepResult
from latkit.search.run import search
from latkit.search.session import run_search
from latkit.search.start import Start
from latkit.spaces import get_space
from tests.search.micro import MICRO, run_darts
from tests.search.test_spaces import OPERATION_MS, setting_of, short
from tests.support.commands import RunLatkit, refused
from tests.support.synthetic import formula_lpm, formula_values

CELL = get_space("nasbench201")
# Two devices: the costly operations of one are the cheap ones of the other.
DEVICE_MS, OTHER_MS = (3.0, 0.1, 3.2, 3.4, 3.1), (3.0, 6.0, 0.2, 0.3, 3.1)


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_data("digits", 32, 0)


def lpm_of(space: str, operation_ms: tuple[float, ...]) -> LPM:
    """By the formula of ``formula_lpm``, without a dataset."""
    there = get_space(space)
    matrix = there.unrank(there.sample(100, 0))
    encodings = there.encode(matrix).astype(np.float64)
    values = formula_values(matrix, operation_ms)
    return fit(Rows(there, setting_of(space), encodings, values, LATENCY), Recipe("op-count"))


@pytest.fixture(scope="module")
def other() -> LPM:
    return lpm_of("nasbench201", OTHER_MS)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, digits: ImageData) -> Path:
    """A finished search of nasbench201 for the first device, not to be written to."""
    out = tmp_path_factory.mktemp("source") / "s"
    lpm = lpm_of("nasbench201", DEVICE_MS)
    run_search(short("nasbench201", lambda_per_ms=1.0), CELL, lpm, "first", digits, out)
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedLPM:
    folder = tmp_path_factory.mktemp("other") / "d"
    return formula_lpm(folder, setting_of("nasbench201"), OTHER_MS, "other")


@pytest.fixture
def published(trained: TrainedLPM, registry_url: str) -> None:
    Registry(registry_url).publish(trained.lpm, trained.card)


def continued(folder: Path, **changes: Any) -> SearchConfig:
    """As a search from a folder is by default, but for some values."""
    usual = EarlierSearch.read(folder).usual()
    rate = changes.pop("weight_lr", 0.0)
    optimizer = dataclasses.replace(usual.optimizer, weight_lr=rate)
    return dataclasses.replace(usual, **{"optimizer": optimizer, **changes})


def tensors(folder: Path) -> dict[str, Tensor]:
    """Of the supernet in a checkpoint."""
    loaded = load_file(folder / CHECKPOINT)
    return {k.partition("/")[2]: v for k, v in loaded.items() if k.startswith("supernet/")}


def expected_ms(alpha: Tensor, operation_ms: tuple[float, ...]) -> float:
    """By enumeration of all cells, each as likely as α makes it."""
    rows = CELL.unrank(np.arange(CELL.size))
    weights = alpha.double().softmax(-1).numpy()
    likely = weights[np.arange(CELL.num_edges), rows].prod(1)
    assert likely.sum() == pytest.approx(1)
    return float(likely @ formula_values(rows, operation_ms))


# --- what moves -------------------------------------------------------------------------------


def test_frozen_weights_stay_and_alpha_moves_towards_the_new_device(
    tmp_path: Path, source: Path, other: LPM, digits: ImageData
) -> None:
    config = continued(source, lambda_per_ms=1.0)
    assert (config.epochs, config.order, config.frozen) == (2, 1, True)
    rates = dataclasses.replace(config.optimizer, arch_lr=0.01)
    config = dataclasses.replace(config, optimizer=rates)
    outcome = run_search(config, CELL, other, "other", digits, tmp_path / "s")
    before, after = tensors(source), tensors(tmp_path / "s")
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["alpha"]
    # From where it was, by four steps of Adam.
    change = (after["alpha"] - before["alpha"]).abs()
    assert 0.02 < change.max() < 0.05
    assert expected_ms(after["alpha"], OTHER_MS) < expected_ms(before["alpha"], OTHER_MS) - 0.05
    first, last = outcome.history
    for name in ("train_loss", "train_accuracy"):
        assert first[name] is None
    assert (first["weight_lr"], last["epoch"]) == (0.0, 2)
    assert isinstance(last["val_accuracy"], float)


def test_slow_weights_move(tmp_path: Path, source: Path, other: LPM, digits: ImageData) -> None:
    config = continued(source, lambda_per_ms=1.0, weight_lr=0.001)
    outcome = run_search(config, CELL, other, "other", digits, tmp_path / "s")
    before, after = tensors(source), tensors(tmp_path / "s")
    name = "network.classifier.weight"
    change = (after[name] - before[name]).abs().max()
    assert 0 < change < 0.05
    assert outcome.history[0]["weight_lr"] == 0.001
    assert isinstance(outcome.history[0]["train_loss"], float)


# --- it is a search like any other ------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "before", "changes"),
    [
        ("nasbench201", {}, {"target": 0.4}),
        ("nasbench201", {}, {"weight_lr": 0.01, "order": 2}),
        ("fbnet", {}, {}),
        ("darts", {}, {}),
        ("darts", {"method": "pc-darts", "channels": 4, "warmup_epochs": 1}, {}),
    ],
    ids=str,
)
def test_resuming_is_bitwise(
    space: str,
    before: dict[str, Any],
    changes: dict[str, Any],
    tmp_path: Path,
    darts_lpm: LPM,
    digits: ImageData,
) -> None:
    """From an interrupted search, in every space; killed or stopped, it ends in the same bytes."""
    own = MICRO if space == "darts" else short(space, lambda_per_ms=0.1)
    config = dataclasses.replace(own, batch=8, limit=32, **before)
    by = darts_lpm if space == "darts" else lpm_of(space, OPERATION_MS[space])

    def run(out: Path, config: SearchConfig, **more: Any) -> SearchOutcome:
        return run_search(config, get_space(space), by, "made", digits, out, **more)

    after = 3 if before else 1  # β moves after a warm-up of two steps
    taken: list[object] = []
    with pytest.raises(Interrupted):
        run(tmp_path / "first", config, on_step=taken.append, stop=lambda: len(taken) >= after - 1)
    assert len(taken) == after
    if "target" in changes:
        changes = {"lambda_per_ms": None, "target_ms": 25.0}
    config = continued(tmp_path / "first", epochs=1, **changes)
    whole = run(tmp_path / "a", config)

    def kill(now: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", config, on_step=kill)
    with pytest.raises(Interrupted):
        run(tmp_path / "b", config, stop=lambda: True)
    resumed = run(tmp_path / "b", config)
    files = [(tmp_path / name / CHECKPOINT).read_bytes() for name in "ab"]
    assert files[0] == files[1]
    assert resumed.architecture == whole.architecture
    assert len(resumed.history) == 1


def test_it_goes_on_with_its_own_source_alone(
    tmp_path: Path, source: Path, other: LPM, digits: ImageData
) -> None:
    out = tmp_path / "s"

    def run(config: SearchConfig) -> SearchOutcome:
        return run_search(config, CELL, other, "other", digits, out)

    first = run(continued(source, lambda_per_ms=1.0))
    content = json.loads((out / CONFIG).read_text())
    assert content["start"] == Start.of(source).checkpoint
    # The same one somewhere else, then another one.
    moved = shutil.copytree(source, tmp_path / "moved")
    assert run(continued(moved, lambda_per_ms=1.0)) == first
    with pytest.raises(SearchError, match="start: "):
        run(continued(out, lambda_per_ms=1.0, epochs=2))
    assert run(continued(source, lambda_per_ms=1.0)) == first
    # More epochs, as of any search.
    assert len(run(continued(source, lambda_per_ms=1.0, epochs=3)).history) == 3


def test_a_folder_that_names_no_space_goes_on(
    tmp_path: Path, source: Path, digits: ImageData
) -> None:
    """What was written before there was ``space``, with more epochs too."""
    out = shutil.copytree(source, tmp_path / "s")
    content = json.loads((out / CONFIG).read_text())
    old = {k: v for k, v in content.items() if k not in ("space", "start")}
    (out / CONFIG).write_text(json.dumps(old))
    config = short("nasbench201", lambda_per_ms=1.0, epochs=3)
    lpm = lpm_of("nasbench201", DEVICE_MS)
    assert len(run_search(config, CELL, lpm, "first", digits, out).history) == 3
    assert json.loads((out / CONFIG).read_text())["space"] == "nasbench201"


def test_a_checkpoint_that_changes_meanwhile(
    tmp_path: Path, source: Path, other: LPM, digits: ImageData
) -> None:
    running = shutil.copytree(source, tmp_path / "running")
    config = continued(running, lambda_per_ms=1.0)
    with (running / CHECKPOINT).open("ab") as file:
        file.write(b"more")
    with pytest.raises(SearchError, match="replaced meanwhile"):
        run_search(config, CELL, other, "other", digits, tmp_path / "s")


# --- from a request, and from the command line ------------------------------------------------


@pytest.mark.usefixtures("published")
def test_from_a_request(tmp_path: Path, source: Path) -> None:
    request = SearchRequest(
        "other", space="nasbench201", out=tmp_path / "s", start_from=source,
        changes={"target_ms": 20.0},
    )  # fmt: skip
    result = search(request)
    assert isinstance(result, SearchResult)
    assert result.searched_for.on_target
    content = json.loads((tmp_path / "s" / "result.json").read_text())
    assert content["config"]["start"] == Start.of(source).checkpoint
    assert (content["config"]["channels"], content["config"]["limit"]) == (2, 32)
    assert content["lpm"].startswith("other/")
    assert search(request) == result


@pytest.mark.usefixtures("published")
def test_from_the_command_line(tmp_path: Path, source: Path, latkit: RunLatkit) -> None:
    arguments = ("search", "--space", "nasbench201", "--device", "other", "--from", source)
    done = latkit(*arguments, "--lambda", 1, "--weight-lr", 0.001, "--out", "s")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "s" / "result.json").read_text())
    assert result["config"]["optimizer"]["weight_lr"] == 0.001
    assert result["epochs"][0]["train_loss"] > 0
    swept = search(
        SearchRequest("other", space="nasbench201", out=tmp_path / "sweep", start_from=source,
                      changes={"epochs": 1}, sweep_lambda=(0.0, 1.0), jobs=1)
    )  # fmt: skip
    assert isinstance(swept, SweepResult)
    swept.check()
    assert len(swept.searches) == 2


# --- refused ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"space": "darts", "device": "p100"}, "search of the space nasbench201, not darts"),
        ({"method": "pc-darts"}, "searched with method=darts"),
        ({"changes": {"cells": 6, "lambda_per_ms": 1}}, "searched with cells=3"),
        ({"changes": {"channels": 4, "lambda_per_ms": 1}}, "searched with channels=2"),
        ({"changes": {"seed": 1, "lambda_per_ms": 1}}, "searched with seed=0"),
        ({"changes": {"limit": 64, "lambda_per_ms": 1}}, "searched with limit=32"),
        ({"data": "made-images"}, "other images"),
        ({"changes": {}}, "is that of its device"),
        ({"preset": "cpu"}, "not those of a preset"),
        ({"changes": {"order": 2, "lambda_per_ms": 1}}, "weights, which are frozen"),
        ({"changes": {"warmup_epochs": 1, "lambda_per_ms": 1}}, "weights alone, which are frozen"),
        ({"changes": {"start": "0", "lambda_per_ms": 1}}, "has no value start"),
        ({"method": "one-shot", "device": None}, "no --from"),
        ({"start_from": "nowhere"}, "nowhere holds no search"),
        ({"start_from": None, "changes": {"weight_lr": 0.0}}, "not a learning rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_do_not_fit(
    tmp_path: Path, source: Path, data: ImageData, more: dict[str, Any], says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if more.get("data"):
        more = {**more, "data": "digits"}
        from latkit.search import run

        other_images = dataclasses.replace(data, labels=data.labels.flip(0))
        monkeypatch.setattr(run, "load_noted", lambda *arguments: other_images)
    values: dict[str, Any] = {
        "device": "other", "space": "nasbench201", "start_from": source,
        "changes": {"lambda_per_ms": 1.0}, "out": tmp_path / "s", **more,
    }  # fmt: skip
    with pytest.raises(InputError, match=says):
        search(SearchRequest(**values))
    assert not (tmp_path / "s").exists()


def test_folders_that_do_not_fit(
    tmp_path: Path, source: Path, darts_lpm: LPM, other: LPM, digits: ImageData
) -> None:
    folder = shutil.copytree(source, tmp_path / "f")
    whole = json.loads((folder / CONFIG).read_text())
    wrong = (
        {"method": "one-shot", "space": "darts", "config": {}, "data": {}},
        {"space": "darts", "genotype": "…", "config": {}},  # a training
        {**whole, "cells": "3"},
        {**whole, "optimizer": {}},
        {**whole, "optimizer": None},
    )
    for content in wrong:
        (folder / CONFIG).write_text(json.dumps(content))
        with pytest.raises(InputError):
            EarlierSearch.read(folder)
    (folder / CONFIG).write_text("none")
    with pytest.raises(SearchError):
        EarlierSearch.read(folder)

    def begin(config: SearchConfig) -> None:
        assert config.start is not None
        out = tmp_path / config.start.checkpoint
        run_search(config, CELL, other, "other", digits, out)

    (folder / CONFIG).write_text(json.dumps(whole))
    run_darts(tmp_path / "darts", darts_lpm, digits, dataclasses.replace(MICRO, limit=32, epochs=1))
    wanted = continued(folder, lambda_per_ms=1.0)
    with pytest.raises(InputError, match="another supernet"):
        begin(dataclasses.replace(wanted, start=Start.of(tmp_path / "darts")))
    (folder / CHECKPOINT).write_bytes(b"none")
    with pytest.raises(SearchError, match="corrupt"):
        begin(continued(folder, lambda_per_ms=1.0))
    (folder / CHECKPOINT).unlink()
    with pytest.raises(InputError, match="has no checkpoint"):
        continued(folder)
    with pytest.raises(LatkitError):
        begin(dataclasses.replace(wanted, start=Start("0" * 16, tmp_path / "nowhere")))


@pytest.mark.usefixtures("published")
def test_a_refusal_is_one_line(source: Path, latkit: RunLatkit) -> None:
    arguments = ("search", "--device", "other", "--from", source, "--lambda", 1)
    assert "--space nasbench201" in refused(latkit, *arguments)
