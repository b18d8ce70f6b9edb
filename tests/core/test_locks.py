"""Two processes that make the same file or folder: one does, the other one is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest

from latkit.core.errors import InputError, LatkitError
from latkit.core.locks import sole_writer
from latkit.search.request import SearchRequest
from latkit.search.run import search
from tests.support.commands import MICRO_TEXT, RunLatkit, refused
from tests.support.processes import run_to_the_end, start_latkit
from tests.support.synthetic import made_dataset

# Held until standard input ends.
_HOLD = """
import sys
from pathlib import Path
from latkit.core import locks
with getattr(locks, sys.argv[2])(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(out: Path, how: str = "sole_writer") -> Iterator[subprocess.Popen[str]]:
    """Another process makes ``out`` as long as this lasts."""
    command = [sys.executable, "-c", _HOLD, str(out), how]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.communicate()


def lock_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.lock")


@pytest.mark.parametrize("killed", [False, True])
def test_one_process_at_a_time(tmp_path: Path, killed: bool) -> None:
    out = tmp_path / "out"
    with held(out) as holder:
        assert lock_of(out).exists()
        with pytest.raises(InputError, match="another process"), sole_writer(out):
            pytest.fail("it was not held")
        with sole_writer(tmp_path / "another"):
            pass
        if killed:
            holder.kill()
            holder.wait()
            assert lock_of(out).exists()
            with sole_writer(out):
                pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_given_back_at_this_moment(tmp_path: Path) -> None:
    """Many that come and go: never are two inside, and nothing is left."""
    out, inside = tmp_path / "out", tmp_path / "inside"
    text = f"""
import os, sys
from pathlib import Path
from latkit.core.errors import InputError
from latkit.core.locks import sole_writer
entered = 0
while entered < 100:
    try:
        with sole_writer(Path({str(out)!r})):
            os.mkdir({str(inside)!r})  # which fails if another one is inside
            os.rmdir({str(inside)!r})
            entered += 1
    except InputError:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", text]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["none/out", "file/out"])
def test_where_nothing_can_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LatkitError) as refusal, sole_writer(tmp_path / place):
        pass
    assert type(refusal.value) is LatkitError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_lock_that_cannot_be_made_is_nobody_elses() -> None:
    """The file locks of filelock are tried again where a folder says that there is no such file."""
    with pytest.raises(LatkitError) as refusal, sole_writer(Path("/proc/out")):
        pass
    assert type(refusal.value) is LatkitError


@pytest.mark.parametrize("out", [".", "/"])
def test_what_has_no_name(latkit: RunLatkit, out: str) -> None:
    refused(latkit, "export", "darts_v2", "--setting", MICRO_TEXT, "--out", out, code=2)


@pytest.mark.parametrize(
    ("out", "command"),
    [
        ("n.onnx", ("export", "darts_v2", "--setting", MICRO_TEXT, "--out", "n.onnx")),
        ("b.pyz", ("bundle", "--n", 1, "--setting", MICRO_TEXT, "--out", "b.pyz")),
        ("r.html", ("report", "d", "--out", "r.html")),
        ("p.svg", ("draw", "darts_v2", "--out", "p.svg")),
        ("t.csv", ("dataset", "export", "d", "t.csv")),
        ("m", ("dataset", "merge", "d", "e", "--out", "m")),
        ("demo", ("demo", "--out", "demo")),
    ],
)
def test_commands_whose_out_is_being_made(
    latkit: RunLatkit, tmp_path: Path, out: str, command: tuple[object, ...]
) -> None:
    """What the other process has begun, under whatever name, stays as it is."""
    made_dataset(tmp_path / "d", 20)
    made_dataset(tmp_path / "e", 20)
    begun = [tmp_path / name.format(out) for name in (".{}.tmp", ".{}.making")]
    for folder in begun:
        folder.mkdir()
        (folder / "half").write_bytes(b"half")
    with held(tmp_path / out):
        assert "another process" in refused(latkit, *command, code=2)
        assert not (tmp_path / out).exists()
    assert all((folder / "half").read_bytes() == b"half" for folder in begun)


def test_two_exports_of_one_file(tmp_path: Path) -> None:
    """Whoever comes second is refused, and the file is whole."""
    command = ("export", "darts_v2", "--setting", MICRO_TEXT, "--out", "n.onnx")
    both = [start_latkit(*command, cwd=tmp_path) for _ in range(2)]
    ended = sorted((run_to_the_end(process) for process in both), key=lambda one: one.returncode)
    assert [one.returncode for one in ended] == [0, 2], [one.stderr for one in ended]
    assert "Traceback" not in ended[1].stderr
    onnx.checker.check_model(onnx.load(tmp_path / "n.onnx"), full_check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["n.onnx"]


def test_a_sweep_whose_folder_another_one_has(tmp_path: Path) -> None:
    request = SearchRequest(
        "p100", data="digits", changes={"cells": 3, "channels": 2, "epochs": 1, "limit": 256},
        preset="cpu", sweep_lambda=(0.0, 1.0), out=tmp_path / "sweep",
    )  # fmt: skip
    (tmp_path / "sweep").mkdir()
    with held(tmp_path / "sweep", "sole_user"):
        with pytest.raises(InputError, match="another process"):
            search(request)
        assert [path.name for path in (tmp_path / "sweep").iterdir()] == [".lock"]
