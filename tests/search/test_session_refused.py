"""Searches that cannot begin or go on: what is said, and what is kept."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from latkit.cli.search import command
from latkit.core.errors import InputError, Interrupted, LatkitError, SearchError
from latkit.lpm.base import LPM
from latkit.search.bilevel import OptimizerConfig
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.data import ImageData, load_data
from latkit.search.distributed import Processes
from latkit.search.objectives import PredictedObjective
from latkit.search.session import HISTORY, SearchProgress, check_fits
from tests.search.micro import MICRO, Finished, run, run_darts


def only_options_that_exist(message: str) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    named = set(re.findall("--[a-z-]+", message))
    assert named
    assert named <= options


class TestRefused:
    @pytest.fixture
    def out(self, tmp_path: Path, finished: Finished) -> Path:
        return shutil.copytree(finished.folder, tmp_path / "s")

    def test_another_configuration(
        self, tmp_path: Path, out: Path, lpm: LPM, data: ImageData
    ) -> None:
        another = dataclasses.replace(MICRO, samples=3)
        with pytest.raises(SearchError, match=r"holds another search.*samples: 3 / 20"):
            run(tmp_path / "s", lpm, data, another)

    def test_a_corrupt_checkpoint(
        self, tmp_path: Path, out: Path, lpm: LPM, data: ImageData
    ) -> None:
        path = tmp_path / "s" / CHECKPOINT
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(SearchError, match="is corrupt"):
            run(tmp_path / "s", lpm, data, MICRO)

    @pytest.mark.parametrize("rows", [None, 0, 1])
    def test_a_history_that_lacks_epochs(
        self, tmp_path: Path, out: Path, lpm: LPM, data: ImageData, rows: int | None
    ) -> None:
        path = tmp_path / "s" / HISTORY
        whole = path.read_bytes()
        says = "is missing, but 2 epochs are finished"
        if rows is None:
            path.unlink()
        else:
            pq.write_table(pq.ParquetFile(path).read().slice(0, rows), path)
            says = "lacks some of the 2 epochs that are finished"
        with pytest.raises(SearchError, match=rf"history.parquet {says}.* Fix: put it back"):
            run(tmp_path / "s", lpm, data, MICRO)
        path.write_bytes(whole)
        assert len(run(tmp_path / "s", lpm, data, MICRO).history) == 2

    def test_a_history_that_lacks_columns(
        self, tmp_path: Path, out: Path, lpm: LPM, data: ImageData
    ) -> None:
        path = tmp_path / "s" / HISTORY
        pq.write_table(pq.ParquetFile(path).read().drop(["genotype"]), path)
        with pytest.raises(SearchError, match=r"history\.parquet is corrupt"):
            run(tmp_path / "s", lpm, data, MICRO)

    @pytest.mark.parametrize(
        ("images", "world", "batch", "fix"),
        [
            (96, 1, 64, "use --batch 48 or less"),
            (3, 1, 2, r"use at least 4 images \(a larger --limit"),
            (4, 1, 3, "use --batch 2 or less"),
            (15, 2, 8, "use --batch 6 or less"),
            (7, 2, 4, r"use at least 8 images"),
        ],
    )
    def test_batches_that_the_images_do_not_fill(
        self, images: int, world: int, batch: int, fix: str
    ) -> None:
        """And what is advised is accepted."""
        few = load_data("digits", images, 0)
        processes = Processes(0, world)
        with pytest.raises(InputError, match=f"a batch of {batch} is larger than half .*{fix}"):
            check_fits(batch, few, processes)
        if (advised := re.search("batch ([0-9]+)", fix)) is not None:
            batch = int(advised[1])
        else:
            enough = re.search("least ([0-9]+)", fix)
            assert enough is not None
            few = load_data("digits", int(enough[1]), 0)
            batch = 2 * world
        processes.check_batch(batch)
        check_fits(batch, few, processes)

    def test_a_batch_larger_than_the_data(self, tmp_path: Path, lpm: LPM, data: ImageData) -> None:
        with pytest.raises(InputError, match=r"batch of 64 .* use --batch 32"):
            run(tmp_path / "s", lpm, data, dataclasses.replace(MICRO, batch=64))

    @pytest.mark.parametrize(
        "change",
        [{"lambda_per_ms": -1.0}, {"lambda_per_ms": float("nan")}, {"channels": 0}, {"epochs": 0}],
    )
    def test_values_that_cannot_work(
        self, tmp_path: Path, lpm: LPM, data: ImageData, change: dict[str, float]
    ) -> None:
        with pytest.raises(InputError):
            run(tmp_path / "s", lpm, data, dataclasses.replace(MICRO, **change))  # type: ignore[arg-type]

    def test_a_loss_that_is_not_finite(self, tmp_path: Path, lpm: LPM, data: ImageData) -> None:
        config = dataclasses.replace(MICRO, optimizer=OptimizerConfig(weight_lr=1e30))
        says = r"not finite in epoch 1, step \d; nothing is kept yet\. Fix: search in another --out"
        with pytest.raises(SearchError, match=says) as raised:
            run(tmp_path / "s", lpm, data, config)
        assert not (tmp_path / "s" / CHECKPOINT).exists()
        only_options_that_exist(str(raised.value))

    def test_a_loss_that_is_not_finite_any_more(
        self, tmp_path: Path, darts_lpm: LPM, data: ImageData
    ) -> None:
        """What is kept is told, and is there."""
        with pytest.raises(Interrupted):
            run_darts(tmp_path / "s", darts_lpm, data, MICRO, stop=lambda: True)
        path = tmp_path / "s" / CHECKPOINT
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
        tensors = load_file(path)
        tensors["supernet/stem.weight"][:] = float("inf")
        save_file(tensors, path, metadata=header)
        before = path.read_bytes()
        says = (
            r"not finite in epoch 1, step 2; the checkpoint of epoch 1, step 1 is kept in .*/s/ch"
        )
        with pytest.raises(SearchError, match=says):
            run_darts(tmp_path / "s", darts_lpm, data, MICRO)
        assert path.read_bytes() == before

    def test_memory_that_runs_out(self, tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
        config = dataclasses.replace(MICRO, channels=10**9)
        with pytest.raises(SearchError, match="memory ran out while the supernet") as raised:
            run_darts(tmp_path / "s", darts_lpm, data, config)
        only_options_that_exist(str(raised.value))

        class Greedy(PredictedObjective):
            def __call__(self, encodings: torch.Tensor) -> torch.Tensor:
                return torch.empty(10**15)

        says = "memory ran out in epoch 1, step 1; nothing is kept yet"
        with pytest.raises(SearchError, match=says) as raised:
            run_darts(tmp_path / "t", darts_lpm, data, MICRO, objective=Greedy(darts_lpm))
        only_options_that_exist(str(raised.value))

    def test_a_second_process(self, tmp_path: Path, lpm: LPM, data: ImageData) -> None:
        def intrude(now: SearchProgress) -> None:
            run(tmp_path / "s", lpm, data, MICRO)

        with pytest.raises(SearchError, match="another process is searching"):
            run(tmp_path / "s", lpm, data, MICRO, on_step=intrude)

    def test_an_unwritable_folder(self, tmp_path: Path, lpm: LPM, data: ImageData) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(LatkitError, match=r"Cannot write the search.*; nothing is kept yet"):
            run(tmp_path / "file" / "s", lpm, data, MICRO)
