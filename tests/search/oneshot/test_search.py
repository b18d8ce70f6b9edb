"""Whole one-shot searches: resuming, evaluated sub-networks, and what is learnt of them."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import latkit as front_door
from latkit.core.errors import InputError, Interrupted, SearchError
from latkit.core.storage import Storage
from latkit.lpm.store import read_lpm
from latkit.registry import Registry
from latkit.search.distributed import ALONE
from latkit.search.network_training import StepReport
from latkit.search.oneshot import subnets
from latkit.search.oneshot.accuracy import warnings_of
from latkit.search.oneshot.evaluation import EVALUATION, Evaluator
from latkit.search.oneshot.network import PathTrainer
from latkit.search.oneshot.ranking import RANKED_BY, in_order, mean_score, signs_of
from latkit.search.oneshot.subnets import find_all, in_turn
from latkit.spaces import get_space
from tests.search.oneshot.micro import VALUES, config_of, training, whole

SPACE = get_space("nasbench201")
# Of a search whose sub-networks differ.
FEWER = {"limit": 256, "batch": 32, "epochs": 3, "subnets": 30, "eval_batch": 64, "channels": 4}


def go(folder: Path, stop_at: int = 0, **changes: Any) -> list[StepReport]:
    """Train; with a number, ask to stop after so many steps."""
    steps: list[StepReport] = []
    training(folder, config_of(**changes)).run(steps.append, lambda: len(steps) == stop_at - 1)
    return steps


def state(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The checkpoint, and the history without its times."""
    rows = pq.read_table(folder / "history.parquet").to_pylist()
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return (folder / "checkpoint.safetensors").read_bytes(), kept


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "s"
    go(out, paths=2)
    return out


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_stopped_training_goes_on_to_the_bit(
    stop_at: int, undisturbed: Path, tmp_path: Path, one_thread: None
) -> None:
    """In the first epoch, at its end, and in the second; with two paths a step."""
    with pytest.raises(Interrupted, match=f"epoch {1 + (stop_at - 1) // 2}"):
        go(tmp_path / "s", stop_at, paths=2)
    steps = go(tmp_path / "s", paths=2)
    assert [(now.epoch, now.step) for now in steps] == [(1, 1), (1, 2), (2, 1), (2, 2)][stop_at:]
    assert state(tmp_path / "s") == state(undisturbed)


def test_a_loss_that_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, count = PathTrainer.step, 0

    def poisoned(self: PathTrainer, x: torch.Tensor, *more: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        return step(self, x * math.nan if count == 3 else x, *more)

    monkeypatch.setattr(PathTrainer, "step", poisoned)
    with pytest.raises(SearchError, match="epoch 2, step 1; the checkpoint of epoch 1") as error:
        go(tmp_path / "s")
    assert "--weight-lr 0.025" in error.value.fix
    monkeypatch.undo()
    assert [(now.epoch, now.step) for now in go(tmp_path / "s")] == [(2, 1), (2, 2)]


def test_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PathTrainer, "step", lambda *_: torch.empty(10**15))
    with pytest.raises(SearchError, match="memory ran out in epoch 1, step 1; nothing is kept"):
        go(tmp_path / "s")


# --- evaluation -------------------------------------------------------------------------------


def evaluate(folder: Path, stop_at: int = 0, **changes: Any) -> list[dict[str, Any]]:
    config = config_of(**changes)
    evaluator = training(folder, config).evaluator(config.eval_images)
    done: list[int] = []
    return find_all(
        EVALUATION, in_turn(evaluator, ALONE), SPACE, config.subnets, config.seed, folder, ALONE,
        lambda now, _: done.append(now), lambda: len(done) == stop_at,
    )  # fmt: skip


def test_an_evaluation_by_hand(tmp_path: Path) -> None:
    """Of 32 held-out images, 26 asked for: two batches of 12, each by its own statistics."""
    config = config_of(eval_images=26, eval_batch=12)
    made = training(tmp_path / "s", config)
    evaluator = made.evaluator(config.eval_images)
    assert (evaluator.images, evaluator.batch) == (24, 12)
    held_out = torch.randperm(64, generator=torch.Generator().manual_seed(0))[32:56]
    mean, std = made.data.normalisation()
    row, correct, losses = SPACE.unrank([1234]), 0, []
    for chosen in held_out.split(12):
        x = (made.data.images[chosen].float() - mean) / std
        logits = made.net.logits(x, row[0])
        correct += int((logits.argmax(1) == made.data.labels[chosen]).sum())
        losses.append(torch.nn.functional.cross_entropy(logits, made.data.labels[chosen]).item())
    accuracy, loss = evaluator(row[0]).tolist()
    assert accuracy == pytest.approx(100 * correct / 24)
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_a_stopped_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "s"
    with pytest.raises(Interrupted, match="3 of 20"):
        evaluate(folder, stop_at=3)
    assert len(pq.read_table(folder / "subnets.parquet")) == 3
    evaluated: list[int] = []
    once = Evaluator.__call__
    monkeypatch.setattr(
        Evaluator, "__call__", lambda self, rows: evaluated.append(1) or once(self, rows)
    )
    rows = evaluate(folder)
    assert len(evaluated) == 17
    ids = SPACE.sample(20, 0).tolist()
    assert [row["arch_id"] for row in rows] == ids
    assert [row["arch"] for row in rows] == [SPACE.format(row) for row in SPACE.unrank(ids)]
    assert pq.read_table(folder / "subnets.parquet").to_pylist() == rows
    monkeypatch.undo()
    assert evaluate(tmp_path / "whole") == rows
    # More of them, and fewer again.
    assert evaluate(folder, subnets=22)[:20] == rows
    assert evaluate(folder) == rows
    assert len(pq.read_table(folder / "subnets.parquet")) == 22


def test_a_killed_evaluation_loses_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the file while it runs is what a kill leaves."""
    monkeypatch.setattr(subnets, "WRITE_EVERY_SECONDS", 0.0)
    left: list[int] = []

    def look(now: int, before: int) -> None:
        left.append(len(pq.read_table(tmp_path / "s" / "subnets.parquet")))

    config = config_of()
    evaluator = training(tmp_path / "s", config).evaluator(None)
    find_all(
        EVALUATION, in_turn(evaluator, ALONE), SPACE, config.subnets, config.seed, tmp_path / "s",
        ALONE, look, lambda: False,
    )  # fmt: skip
    assert left == list(range(1, 21))


def test_files_of_something_else(tmp_path: Path) -> None:
    evaluate(tmp_path / "s")
    path = tmp_path / "s" / "subnets.parquet"
    with pytest.raises(SearchError, match="other sub-networks"):
        evaluate(tmp_path / "s", seed=1)
    path.write_bytes(b"corrupt")
    with pytest.raises(SearchError, match=r"subnets\.parquet is corrupt"):
        evaluate(tmp_path / "s")


# --- whole searches ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search on more images, so that its sub-networks differ; not to be written to."""
    out = tmp_path_factory.mktemp("finished") / "s"
    whole(out, **FEWER)
    return out


def test_what_is_in_the_folder(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert (result["kind"], result["format_version"]) == ("one-shot", 1)
    assert result["space"] == "nasbench201"
    assert result["network"] == {
        "macro": "nasbench201", "cells": 3, "channels": 4, "reduction": "none", "resolution": 8,
        "classes": 10,
    }  # fmt: skip
    assert result["history"]["epochs"] == 3
    history = pq.read_table(finished / "history.parquet").to_pylist()
    assert history[-1] == result["history"]["last"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    rows = pq.read_table(finished / "subnets.parquet").to_pylist()
    accuracies = np.array([row["accuracy_percent"] for row in rows])
    assert result["subnets"]["accuracy_percent"] == {
        "lowest": accuracies.min(), "median": np.median(accuracies), "highest": accuracies.max(),
    }  # fmt: skip
    assert rows[accuracies.argmax()]["arch"] == result["subnets"]["best_arch"]
    assert accuracies.std() > 1
    config = json.loads((finished / "config.json").read_text())
    assert "subnets" not in config["config"]
    assert config["method"] == "one-shot"


def test_the_accuracy_lpm(finished: Path) -> None:
    """It predicts every cell with an interval, from its folder and from a registry."""
    lpm, card = read_lpm(Storage(str(finished)), "lpm")
    rows = pq.read_table(finished / "subnets.parquet").to_pylist()
    metrics = json.loads((finished / "result.json").read_text())["accuracy_lpm"]["cross_validated"]
    assert card.metrics == metrics
    assert (card.cost, card.kind) == ("accuracy_percent", "default")
    assert (metrics["n_test"], metrics["n_train"]) == (30, 30)
    assert 0 < metrics["coverage_50"] <= metrics["coverage_90"]
    # Fitted to their accuracies in the order of all that ranks them.
    initial = pq.read_table(finished / "initial.parquet").to_pylist()
    matrix = SPACE.unrank([row["arch_id"] for row in rows])
    signs = signs_of("nasbench201", card.target.setting.network, matrix, rows, initial)
    values = in_order(signs["accuracy_percent"], mean_score([signs[name] for name in RANKED_BY]))
    assert card.dataset["protocol"]["ranked_by"] == list(RANKED_BY)
    encodings = SPACE.encode(matrix)
    error = np.abs(lpm.predict(encodings) - values)
    assert error.mean() < np.abs(values - values.mean()).mean() / 2
    Registry().publish(lpm, card)
    loaded = front_door.load_lpm("one-shot/supernet+accuracy_percent", "nasbench201")
    assert loaded.unit == "%"
    (prediction,) = loaded.predict(rows[0]["arch"])
    assert prediction.value == pytest.approx(lpm.predict(encodings[:1])[0])
    assert prediction.std > 0


def test_weights_that_have_learnt_nothing(finished: Path) -> None:
    """Twice a guess of one among ten classes is what the best has to have."""
    _, card = read_lpm(Storage(str(finished)), "lpm")
    for highest, says in ((19.9, True), (20.1, False)):
        dataset = {**card.dataset, "accuracy_range_percent": [5.0, highest]}
        (*found,) = warnings_of(dataclasses.replace(card, dataset=dataset))
        assert ("a guess 10.0 %" in " ".join(found)) == says


def test_the_same_search_again(finished: Path, tmp_path: Path) -> None:
    """A finished one only reports, or evaluates more sub-networks; another one is refused."""
    folder = tmp_path / "s"
    shutil.copytree(finished, folder)
    before = (folder / "checkpoint.safetensors").read_bytes()
    result = whole(folder, **{**FEWER, "subnets": 31}).to_dict()
    assert result["subnets"]["count"] == 31
    assert (folder / "checkpoint.safetensors").read_bytes() == before
    with pytest.raises(SearchError, match=r"config\.epochs: 4 / 3"):
        whole(folder, **{**FEWER, "epochs": 4})
    with pytest.raises(SearchError, match="space: darts / nasbench201"):
        whole(folder, "darts", **{**FEWER, "cells": 3})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": 33}, "larger than half of the 64 images"),
        ({"subnets": 2.5}, "subnets"),
        ({"target_ms": 5.0}, "--target-ms"),
        ({"lambda_per_ms": 0.0}, "--lambda"),
        ({"order": 1}, "--order"),
        ({"stop_on_collapse": True}, "--stop-on-collapse"),
        ({"depth": 3}, "--depth"),
    ],
)
def test_values_that_it_does_not_have(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        whole(tmp_path / "s", **changes)
    assert not (tmp_path / "s").exists()


def test_a_request_changes(tmp_path: Path) -> None:
    """Fields that a search for a device has are refused, however they are given."""
    request = front_door.SearchRequest(method="one-shot", space="nasbench201", changes=VALUES)
    for field in ({"device": "p100"}, {"sweep_lambda": (0.1,)}, {"also": "p100"}, {"jobs": 2}):
        with pytest.raises(InputError, match="one-shot search"):
            front_door.search(dataclasses.replace(request, **field))
    with pytest.raises(InputError, match="--device"):
        front_door.search(space="nasbench201")
    with pytest.raises(InputError, match="one-shot"):
        front_door.search(method="one-shto", device="p100")
