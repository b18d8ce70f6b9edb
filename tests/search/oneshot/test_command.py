"""``latkit search --method one-shot``: its twin, its processes, and a kill."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from tests.search.oneshot.micro import options, whole
from tests.support.commands import RunLatkit, check
from tests.support.processes import latkit_here, run_ranks, start_latkit, wait_for

COMMAND = ("search", "--method", "one-shot", "--space", "nasbench201", "--preset", "cpu")
TIMES = ("seconds", "fit_seconds")


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def test_command_and_function_give_the_same(
    latkit: RunLatkit, tmp_path: Path, one_thread: None
) -> None:
    done = latkit(*COMMAND, *options(paths=2), "--out", "a")
    assert done.returncode == 0, done.stderr
    assert "accuracy LPM" in done.stdout
    content = json.loads((tmp_path / "a" / "result.json").read_text())
    result = whole(tmp_path / "b", paths=2).to_dict()
    assert without_times(json.loads(json.dumps(result))) == without_times(content)
    for name in ("checkpoint.safetensors", "subnets.parquet", "lpm/weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_killed_search_goes_on(latkit: RunLatkit, tmp_path: Path) -> None:
    """Killed while it evaluates; nothing that was trained or evaluated is done again."""
    slow = {"epochs": 1, "limit": 1700, "batch": 400, "eval_batch": 800, "channels": 16}
    arguments = (*COMMAND, *options(**slow, subnets=3000))
    process = start_latkit(*arguments, "--out", "s", cwd=tmp_path)
    wait_for(process, tmp_path / "s" / "subnets.parquet")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = pq.read_table(tmp_path / "s" / "subnets.parquet").to_pylist()
    assert 0 < len(kept) < 3000
    trained = (tmp_path / "s" / "checkpoint.safetensors").read_bytes()
    count = max(20, len(kept) + 2)
    done = latkit(*COMMAND, *options(**slow, subnets=count), "--out", "s")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "s" / "subnets.parquet").to_pylist()[: len(kept)] == kept
    assert (tmp_path / "s" / "checkpoint.safetensors").read_bytes() == trained


def test_two_processes(latkit: RunLatkit, tmp_path: Path) -> None:
    """They share each batch and the sub-networks; rank 0 alone writes and prints."""
    arguments = (*COMMAND, *options(epochs=1))
    done = run_ranks(latkit_here, *arguments, "--out", "two", cwd=tmp_path)
    assert [one.returncode for one in done] == [0, 0], done
    assert "accuracy LPM" in done[0].stdout
    assert done[1].stdout == ""
    assert latkit(*arguments, "--out", "one").returncode == 0
    one, two = (
        pq.read_table(tmp_path / name / "history.parquet").to_pylist()[0] for name in ("one", "two")
    )
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    states = [load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two")]
    name = "network/classifier.weight"
    assert states[1][name].sub(states[0][name]).abs().max() < 1e-3
    losses = [
        pq.read_table(tmp_path / name / "subnets.parquet")["loss"].to_pylist()
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    # One process goes on with what two have done, and has nothing left to do.
    subnets = (tmp_path / "two" / "subnets.parquet").read_bytes()
    assert latkit(*arguments, "--out", "two").returncode == 0
    assert (tmp_path / "two" / "subnets.parquet").read_bytes() == subnets


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--device", "p100"), "--device"),
        (("--lambda", 0.1), "--lambda"),
        (("--target-ms", 5), "--target-ms"),
        (("--sweep-lambda", "0,1"), "--sweep-lambda"),
        (("--estimator", "marginal"), "--estimator"),
        (("--scale-lr",), "--scale-lr"),
        (("--space", "models"), "models"),
        (("--cells", 4), "cells=4"),
    ],
)
def test_what_means_nothing_is_one_line(
    latkit: RunLatkit, given: tuple[object, ...], says: str
) -> None:
    check(latkit, *COMMAND, *options(), *given, "--out", "s", says=(says,), code=2)
    assert not Path("s").exists()


def test_a_search_for_a_device_has_no_paths(latkit: RunLatkit) -> None:
    check(latkit, "search", "--device", "p100", "--paths", 2, says=("paths",), code=2)
