"""Whole trainings: results, resuming, several seeds, refusals, and the exported network."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import safetensors
import safetensors.torch
import torch

from latkit.core.errors import Interrupted, TrainingError
from latkit.core.events import Listener, Progress
from latkit.search.data import load_split
from latkit.tasks.export import ExportRequest, export
from latkit.training import run as run_module
from latkit.training.data import TrainingData
from latkit.training.request import TrainingRequest
from latkit.training.result import Interval, trained_network
from latkit.training.run import train
from latkit.training.step import Trainer
from tests.training.micro import MICRO, micro

FILES = ("checkpoint.safetensors", "last.safetensors", "best.safetensors")
# Everything that is random, on images too small for the auxiliary head.
RANDOM = {"cutout": 3, "drop_path": 0.3}


class StopAfter(Listener):
    """Requests to stop after so many steps, as a signal would."""

    def __init__(self, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = steps
        monkeypatch.setattr(run_module, "stop_on_signals", lambda: self)

    def __enter__(self) -> StopAfter:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def contents(folder: Path) -> list[bytes]:
    return [(folder / "seed-0" / name).read_bytes() for name in FILES]


def history(folder: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(folder / "seed-0" / "history.parquet").to_pylist()
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed training."""
    out = tmp_path_factory.mktemp("whole") / "t"
    micro(out, **RANDOM)
    return out


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_stopped_training_goes_on_to_the_bit(
    steps: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first epoch, at its end, and in the second."""
    with monkeypatch.context() as stopped:
        StopAfter(steps, stopped)
        with pytest.raises(Interrupted):
            micro(tmp_path / "t", **RANDOM)
    micro(tmp_path / "t", **RANDOM)
    assert contents(tmp_path / "t") == contents(whole)
    assert history(tmp_path / "t") == history(whole)


def test_a_crash_between_checkpoint_and_weights(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "t")
    for name in FILES[1:]:
        (tmp_path / "t" / "seed-0" / name).unlink()
    micro(tmp_path / "t", **RANDOM)
    last, best = ((tmp_path / "t" / "seed-0" / name) for name in FILES[1:])
    assert last.read_bytes() == contents(whole)[1]
    # The best is written again where it is the last; else it was there before the crash.
    rows = history(whole)
    assert best.exists() == (rows[1]["test_error_percent"] < rows[0]["test_error_percent"])


def test_result_in_the_format(whole: Path) -> None:
    result = json.loads((whole / "training.json").read_text())
    assert (result["kind"], result["format_version"]) == ("training", 1)
    assert result["genotype"].startswith("Genotype(")
    assert result["arch"].startswith("|")
    assert result["network"]["cells"] == 3
    assert result["scaled_down"] is True
    data = result["data"]
    assert (data["train_images"], data["test_images"], data["classes"]) == (96, 359, 10)
    assert result["config"]["cutout"] == 3
    (seed,) = result["seeds"]
    assert [row["epoch"] for row in seed["history"]] == [1, 2]
    assert seed["test_error_percent"] == seed["history"][-1]["test_error_percent"]
    assert seed["best_test_error_percent"] == min(
        row["test_error_percent"] for row in seed["history"]
    )
    assert result["test_error_percent"] == {
        "mean": seed["test_error_percent"], "low": None, "high": None, "confidence": 0.95,
    }  # fmt: skip
    with safetensors.safe_open(whole / "seed-0" / "last.safetensors", "pt") as file:
        about = json.loads(file.metadata()["latkit"])
    assert (about["seed"], about["epoch"]) == (0, 2)


def test_interval_by_hand() -> None:
    """Of 1, 2 and 3 %: the standard deviation is 1, and t of 2 degrees of freedom 4.302653."""
    interval = Interval.of([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((2, 2 - half, 2 + half))
    # Of two: sd = 0.5 * sqrt(2), t of 1 degree of freedom 12.706205.
    interval = Interval.of([4.0, 5.0])
    assert (interval.low, interval.high) == pytest.approx((4.5 - 6.3531, 4.5 + 6.3531), abs=1e-4)


def test_seeds_of_a_folder_add_up(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "t")
    before = contents(tmp_path / "t")
    notes: list[Progress] = []

    class Steps(Listener):
        def progress(self, now: Progress) -> None:
            if now.unit == "steps":
                notes.append(now)

    request = TrainingRequest("darts_v2", out=tmp_path / "t", seeds=2, **MICRO, **RANDOM)
    result = train(request, listener=Steps())
    assert result is not None
    assert [seed.seed for seed in result.seeds] == [0, 1]
    assert contents(tmp_path / "t") == before
    # Three steps an epoch, of which those of seed 0 were done before.
    assert [now.done for now in notes] == list(range(7, 13))
    assert {(now.total, now.done_before) for now in notes} == {(12, 6)}
    errors = [seed.test_error_percent for seed in result.seeds]
    assert result.test_error_percent == Interval.of(errors)
    assert result.seeds[0].history != result.seeds[1].history
    again = train(dataclasses.replace(request, seeds=1))
    assert again is not None
    assert again.to_dict() == result.to_dict()


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"lr": 0.05}, "config.lr: 0.05 / 0.1"), ({"channels": 4}, "network.channels"),
     ({"architecture": "gdas"}, "genotype"), ({"limit": 97}, "data.train")],
)  # fmt: skip
def test_another_trainings_folder(changes: dict[str, Any], word: str, whole: Path) -> None:
    with pytest.raises(TrainingError, match=word):
        micro(whole, **{**RANDOM, **changes})


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(TrainingError):
        micro(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["result.json"]


def test_corrupt_files(whole: Path, tmp_path: Path) -> None:
    for name in ("seed-0/checkpoint.safetensors", "seed-0/history.parquet", "config.json"):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(b"corrupt")
        with pytest.raises(TrainingError, match=Path(name).name):
            micro(folder, **RANDOM)


def test_a_loss_that_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last good checkpoint stays, and the line names a rate to try."""
    step, count = Trainer.step, 0

    def poisoned(self: Trainer, x: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
        nonlocal count
        count += 1
        return step(self, x * math.nan if count == 5 else x, labels, seed)

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(TrainingError, match="epoch 2, step 2") as error:
        micro(tmp_path)
    assert "--lr 0.03" in error.value.fix
    monkeypatch.undo()
    assert len(history(tmp_path)) == 1
    micro(tmp_path)
    assert len(history(tmp_path)) == 2


def test_bf16_and_nasbench201(tmp_path: Path) -> None:
    result = micro(tmp_path, "7", space="nasbench201", precision="bf16", epochs=1, drop_path=0.2)
    assert result.plan.config.precision == "bf16"
    assert result.params == sum(
        tensor.numel()
        for name, tensor in safetensors.torch.load_file(result.weights(0)).items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )


def test_the_exported_network_scores_the_same(tmp_path: Path) -> None:
    result = micro(tmp_path / "t", channels=4, epochs=5, limit=500)
    out = tmp_path / "network.onnx"
    made = export(
        ExportRequest(tmp_path / "t" / "training.json", out, weights=tmp_path / "t",
                      dynamic_batch=True)
    )  # fmt: skip
    assert made.params == result.params
    assert made.weights == str(result.weights(0))
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    data = TrainingData.of(*load_split("digits", 500))
    # The statistics that a user needs are in the result.
    mean, std = (np.float32(result.data[name])[:, None, None] for name in ("mean", "std"))
    images = (data.test.images.numpy().astype(np.float32) - mean) / std
    wrong = session.run(None, {"images": images})[0].argmax(1) != data.test.labels.numpy()
    assert 100 * wrong.mean() == pytest.approx(result.seeds[0].test_error_percent)
    assert wrong.mean() < 0.8
    file, network = trained_network(tmp_path / "t")
    assert (file, network) == (result.weights(0), result.plan.network)


def test_weights_of_no_training(tmp_path: Path) -> None:
    whole = {"kind": "training", "format_version": 1, "space": "darts", "seeds": [{"seed": 0}]}
    networks = [json.dumps({**whole, "network": value}) for value in (None, [], 7, {"cells": "x"})]
    for content in (None, "{}", "[]", "corrupt", *networks):
        if content is not None:
            (tmp_path / "training.json").write_text(content)
        with pytest.raises(TrainingError):
            export(ExportRequest("darts_v2", tmp_path / "n.onnx", weights=tmp_path))
