"""A finished search that is given more epochs."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest

from latkit.core.errors import Interrupted, SearchError
from latkit.lpm.base import LPM
from latkit.search.bilevel import OptimizerConfig
from latkit.search.checkpoint import CHECKPOINT, finished_epochs
from latkit.search.data import ImageData
from latkit.search.session import CONFIG, SearchProgress
from tests.search.micro import MICRO, Finished, run, run_darts

LONGER = dataclasses.replace(MICRO, epochs=4)


def rates(history: list[dict[str, float]]) -> list[float]:
    return [row["weight_lr"] for row in history]


def cosine(epoch: int, epochs: int) -> float:
    return 0.5 * MICRO.optimizer.weight_lr * (1 + math.cos(math.pi * epoch / epochs))


def test_it_goes_on_where_it_ended(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished
) -> None:
    """Its epochs stay; the learning rate is from then on that of a search of all epochs."""
    shutil.copytree(finished.folder, tmp_path / "s")
    short = run(tmp_path / "s", lpm, data, MICRO)
    assert rates(short.history) == pytest.approx([cosine(0, 2), cosine(1, 2)])
    steps: list[SearchProgress] = []
    outcome = run(tmp_path / "s", lpm, data, LONGER, on_step=steps.append)
    assert outcome.history[:2] == short.history
    assert [row["epoch"] for row in outcome.history] == [1, 2, 3, 4]
    assert rates(outcome.history[2:]) == pytest.approx([cosine(2, 4), cosine(3, 4)])
    assert [(step.epoch, step.step) for step in steps] == [(e, s) for e in (3, 4) for s in (1, 2)]
    assert steps[0].done_before == 4
    assert json.loads((tmp_path / "s" / CONFIG).read_text())["epochs"] == 4
    # From now on it is a search of four epochs.
    assert run(tmp_path / "s", lpm, data, LONGER) == outcome
    with pytest.raises(SearchError):
        run(tmp_path / "s", lpm, data, MICRO)


def test_it_can_be_interrupted_to_the_bit(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished
) -> None:
    for name in "ab":
        shutil.copytree(finished.folder, tmp_path / name)
    run(tmp_path / "a", lpm, data, LONGER)
    taken: list[SearchProgress] = []
    with pytest.raises(Interrupted):
        run(tmp_path / "b", lpm, data, LONGER, on_step=taken.append, stop=lambda: len(taken) == 1)
    run(tmp_path / "b", lpm, data, LONGER)
    files = [(tmp_path / name / CHECKPOINT).read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_a_target_goes_on_too(tmp_path: Path, lpm: LPM, data: ImageData) -> None:
    target = dataclasses.replace(MICRO, lambda_per_ms=None, target_ms=17.0, epochs=1)
    run(tmp_path / "s", lpm, data, target)
    more = dataclasses.replace(target, epochs=2)
    assert len(run(tmp_path / "s", lpm, data, more).history) == 2


def test_an_unfinished_one_is_refused_and_left_alone(
    tmp_path: Path, lpm: LPM, data: ImageData
) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "s", lpm, data, MICRO, stop=lambda: True)
    assert finished_epochs(tmp_path / "s") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    with pytest.raises(SearchError, match="0 of its 2 epochs"):
        run(tmp_path / "s", lpm, data, LONGER)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before
    assert len(run(tmp_path / "s", lpm, data, MICRO).history) == 2


def test_more_epochs_of_another_search(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished
) -> None:
    shutil.copytree(finished.folder, tmp_path / "s")
    with pytest.raises(SearchError, match="another search"):
        run(tmp_path / "s", lpm, data, dataclasses.replace(LONGER, seed=1))


def test_a_collapsed_one_is_over(tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
    config = dataclasses.replace(
        MICRO, lambda_per_ms=1.0, epochs=3, stop_on_collapse=True,
        optimizer=OptimizerConfig(arch_lr=0.006),
    )  # fmt: skip
    outcome = run_darts(tmp_path / "s", darts_lpm, data, config)
    assert outcome.collapsed
    with pytest.raises(SearchError, match="collapse"):
        run_darts(tmp_path / "s", darts_lpm, data, dataclasses.replace(config, epochs=9))
    assert run_darts(tmp_path / "s", darts_lpm, data, config) == outcome


def test_a_corrupt_checkpoint(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished
) -> None:
    shutil.copytree(finished.folder, tmp_path / "s")
    (tmp_path / "s" / CHECKPOINT).write_bytes(b"none")
    with pytest.raises(SearchError, match="corrupt"):
        run(tmp_path / "s", lpm, data, LONGER)


def test_without_its_history_nothing_is_changed(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished
) -> None:
    out = tmp_path / "s"
    shutil.copytree(finished.folder, out)
    before = (out / "config.json").read_bytes()
    (out / "history.parquet").write_bytes(b"none")
    with pytest.raises(SearchError, match="corrupt"):
        run(out, lpm, data, LONGER)
    assert (out / "config.json").read_bytes() == before
