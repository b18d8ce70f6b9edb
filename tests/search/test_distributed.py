"""Several processes as one: parts of batches, averages, and a whole search under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from latkit.core.errors import InputError
from latkit.registry import Registry
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.distributed import ALONE, Processes, processes_here
from latkit.search.history import HISTORY
from tests.search import two_supernets
from tests.search.ranks import (
    average_gradients,
    search_other_data,
    search_with_an_empty_registry,
)
from tests.search.test_data import write_parquet
from tests.support.commands import RunLatkit, ok
from tests.support.processes import latkit_here, run_ranks
from tests.support.synthetic import made_lpm

ROOT = Path(__file__).parents[2]
SEARCH = (
    "search", "--device", "formula", "--preset", "cpu", "--cells", "3", "--channels", "2",
    "--batch", "16", "--epochs", "1", "--limit", "96",
)  # fmt: skip


def torchrun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine, of this checkout, with a thread each."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def publish(folder: Path) -> None:
    made = made_lpm(folder / "made")
    Registry().publish(made.lpm, made.card)


def check_all_ended(ranks: list[subprocess.CompletedProcess[str]]) -> None:
    for rank in ranks:
        assert rank.returncode == 0, rank.stderr


def test_averaged_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    check_all_ended(run_ranks(average_gradients, cwd=tmp_path))


def test_a_search_under_torchrun(latkit: RunLatkit, tmp_path: Path) -> None:
    """Rank 0 alone writes; steps, batches, losses and α are those of one process."""
    publish(tmp_path)
    script = str(Path(__file__).with_name("two_commands.py"))
    done = torchrun(script, *SEARCH, "--out", "two", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "two" / "result.json").read_text())
    assert done.stderr.count("searching with LPM") == 1
    ok(latkit, *SEARCH, "--out", "one")
    one, two = (pq.read_table(str(tmp_path / name / HISTORY)).to_pylist()[0] for name in
                ("one", "two"))  # fmt: skip
    # LAT depends on α alone.
    assert two["expected_cost"] == pytest.approx(one["expected_cost"], rel=0.05)
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=0.2)
    states = [load_file(tmp_path / name / CHECKPOINT) for name in ("one", "two")]
    for name in ("supernet/alpha_normal", "supernet/alpha_reduce"):
        torch.testing.assert_close(states[1][name], states[0][name], rtol=1e-5, atol=1e-6)
    # It can be gone on with, and told again, by one process.
    assert ok(latkit, *SEARCH, "--out", "two")["genotype"] == two["genotype"]


@pytest.mark.parametrize("precision", ["double", "bf16"])
def test_steps_of_two_processes_are_those_of_one(tmp_path: Path, precision: str) -> None:
    """Both orders and supernets: α, β, weights and running statistics."""
    check_all_ended(run_ranks(two_supernets.main, precision, cwd=tmp_path))


def the_error(ranks: list[subprocess.CompletedProcess[str]]) -> str:
    """The only line of all processes."""
    assert all(rank.returncode for rank in ranks)
    (line,) = [line for rank in ranks for line in rank.stderr.splitlines()
               if line.startswith("latkit: ")]  # fmt: skip
    assert not [rank.stderr for rank in ranks if "Connection closed" in rank.stderr]
    return line


def test_errors_are_told_once(tmp_path: Path) -> None:
    publish(tmp_path)
    error = the_error(run_ranks(latkit_here, *SEARCH, "--batch", "15", "--out", "s", cwd=tmp_path))
    assert "a batch of 15 cannot be shared by 2 processes equally. Fix: use --batch 14" in error
    assert not (tmp_path / "s" / CHECKPOINT).exists()


def test_what_a_search_fails_of_is_told_once(tmp_path: Path) -> None:
    """Errors of the main process alone, and of another one alone."""
    publish(tmp_path)
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "config.json").write_text('{"another": "search"}')
    error = the_error(run_ranks(latkit_here, *SEARCH, "--out", "s", cwd=tmp_path))
    assert "s holds another search" in error
    arguments = (*SEARCH, "--out", "t")
    error = the_error(run_ranks(search_with_an_empty_registry, *arguments, cwd=tmp_path))
    assert error.startswith("latkit: process 1 of 2: no LPM for device 'formula'")


def test_processes_with_different_data(tmp_path: Path) -> None:
    """As on two machines with different copies: nothing is trained."""
    publish(tmp_path)
    for number, name in enumerate(("ours", "other")):
        write_parquet(tmp_path / name, [(i + number) % 2 for i in range(24)])
    arguments = (*SEARCH, "--batch", "8", "--data", "ours", "--out", "s")
    error = the_error(run_ranks(search_other_data, *arguments, cwd=tmp_path))
    assert "have loaded different images or labels" in error
    assert not (tmp_path / "s").exists()


class TestProcesses:
    def test_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RANK", raising=False)
        assert processes_here() == ALONE
        gradient = torch.tensor([2.0])
        ALONE.average_gradients([gradient])
        assert gradient.tolist() == [2.0]

    def test_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
            monkeypatch.setenv(name, value)
        assert processes_here() == Processes(5, 8, 1)
        assert not processes_here().is_main
        monkeypatch.setenv("LOCAL_RANK", "first")
        with pytest.raises(InputError, match="not what torchrun sets"):
            processes_here()

    def test_batches_that_cannot_be_shared(self) -> None:
        Processes(0, 4).check_batch(64)
        with pytest.raises(InputError, match="use --batch 60"):
            Processes(0, 4).check_batch(62)
        with pytest.raises(InputError, match=r"one image to each of 4 .* use --batch 8"):
            Processes(0, 4).check_batch(4)
