"""``latkit train``: a process that is killed goes on to the bit; one line where it cannot."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from latkit.spaces.fbnet.zoo import ZOO
from tests.support.commands import RunLatkit, ok, refused
from tests.support.processes import latkit_here, run_ranks, start_latkit, wait_for
from tests.training.micro import MICRO, options
from tests.training.test_run import RANDOM, contents, history, micro


def test_a_killed_process(latkit: RunLatkit, tmp_path: Path) -> None:
    command = ["train", "darts_v2", *options(epochs=6, **RANDOM), "--out", "t"]
    process = start_latkit(*command, cwd=tmp_path)
    wait_for(process, tmp_path / "t" / "seed-0" / "best.safetensors")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = len(history(tmp_path / "t"))
    assert 1 <= finished < 6
    assert not (tmp_path / "t" / "training.json").exists()
    ok(latkit, *command)
    micro(tmp_path / "whole", epochs=6, **RANDOM)
    assert contents(tmp_path / "t") == contents(tmp_path / "whole")
    assert history(tmp_path / "t") == history(tmp_path / "whole")


def test_tables_and_next_command(latkit: RunLatkit) -> None:
    done = latkit("train", "darts_v2", *options(epochs=1), "--seeds", 2, "--no-flip")
    assert done.returncode == 0, done.stderr
    assert "test error" in done.stdout
    assert "scaled down" in done.stderr
    assert "held out" in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("next: latkit ")
    done = latkit(*line.removeprefix("next: latkit ").split())
    assert done.returncode == 0, done.stderr
    assert Path("trainings/darts-v2/network.onnx").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("--batch", 97), "larger than the 96 training images"),
        (("--limit", 3), "--batch 3"),
        (("--data", "nothing"), "no data at 'nothing'"),
        (("--label-column", "x"), "has no columns"),
        (("--space", "fbnet"), "cells of a network of fbnet is fixed"),
        (("--auxiliary-weight", 0.4), "--auxiliary-weight 0"),
        (("--cutout", 8), "--cutout 4"),
        (("--resolution", 10), "multiple of 4"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    latkit: RunLatkit, changes: tuple[object, ...], says: str
) -> None:
    line = refused(latkit, "train", "darts_v2", *options(), *changes, "--out", "t", code=2)
    assert says in line
    assert not list(Path("t").glob("**/*.safetensors"))


def test_fbnet_from_its_name_to_a_file(latkit: RunLatkit) -> None:
    """The digits' 8x8 pixels are one pixel in the end."""
    values = {**MICRO, "channels": 4, "epochs": 1, "space": "fbnet"}
    del values["cells"]
    given = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    result = ok(latkit, "train", "fbnet_c", *given, "--out", "t")
    assert result["genotype"] == result["arch"] == str(ZOO["fbnet_c"])
    assert result["network"]["macro"] == "fbnet-cifar"
    assert 0 <= result["test_error_percent"]["mean"] <= 100
    exported = ok(latkit, "export", "t/training.json", "--weights", "t", "--out", "net.onnx",
                  "--dynamic-batch")  # fmt: skip
    assert exported["genotype"] == result["genotype"]
    assert exported["params"] == result["params"]
    assert exported["verified_images"] == 32


def test_two_processes(latkit: RunLatkit, tmp_path: Path) -> None:
    """They share each batch, rank 0 alone writes, and one process reads what they have done."""
    command = ["train", "darts_v2", *options(epochs=2, **RANDOM), "--out", "t"]
    done = run_ranks(latkit_here, *command, cwd=tmp_path)
    assert [one.returncode for one in done] == [0, 0], done
    assert "test error" in done[0].stdout
    assert done[1].stdout == ""
    rows = history(tmp_path / "t")
    assert len(rows) == 2
    alone = ok(latkit, *command)
    assert alone["seeds"][0]["test_error_percent"] == rows[1]["test_error_percent"]
