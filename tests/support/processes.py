"""The command line in a process of its own, where signals, streams or the environment matter.

Each is forked off a server that has imported latkit and PyTorch already, which takes a process of
its own seconds. What needs no process runs by the fixture ``latkit``; what is about the start of
an interpreter, its end, or the variables that libraries read when they are loaded, by
``subprocess``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["tests.support.preloaded"])


def _begin(
    function: Callable[..., None],
    arguments: tuple[object, ...],
    cwd: str,
    environment: dict[str, str],
    group: bool,
    out: Connection,
    err: Connection,
) -> None:
    """In the new process: its streams, folder and variables, then the function."""
    if group:
        os.setsid()
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    function(*arguments)


def latkit_here(*arguments: str) -> None:
    """The command line as ``python -m latkit`` runs it."""
    sys.argv = ["latkit", *arguments]
    runpy.run_module("latkit", run_name="__main__", alter_sys=True)


class Forked:
    """A process and its streams; the names are those of ``subprocess.Popen``."""

    def __init__(
        self,
        function: Callable[..., None],
        *arguments: object,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        group: bool = False,
    ) -> None:
        pipes = [FORK_SERVER.Pipe(duplex=False) for _ in range(2)]
        variables = dict(os.environ if environment is None else environment)
        self._process = FORK_SERVER.Process(
            target=_begin,
            args=(function, arguments, str(cwd), variables, group, *(pipe[1] for pipe in pipes)),
        )
        self._process.start()
        for _, theirs in pipes:
            theirs.close()
        self._texts = ["", ""]
        self._readers = [
            threading.Thread(target=self._read, args=(number, ours), daemon=True)
            for number, (ours, _) in enumerate(pipes)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, number: int, pipe: Connection) -> None:
        with pipe, os.fdopen(pipe.fileno(), errors="replace", closefd=False) as file:
            self._texts[number] = file.read()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        # It may have ended since it was asked, and the server have taken note of it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait until the process has ended and nobody holds its streams any more."""
        deadline = time.monotonic() + timeout
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
            assert not reader.is_alive(), f"still running after {timeout} s"
        self._process.join(max(0.0, deadline - time.monotonic()))
        assert self.returncode is not None, f"still running after {timeout} s"
        return self._texts[0], self._texts[1]


def run_to_the_end(process: Forked) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate()
    code = process.poll()
    assert code is not None
    return subprocess.CompletedProcess([], code, out, err)


def start_latkit(
    *arguments: object,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    group: bool = False,
) -> Forked:
    """A process to be killed or interrupted; with ``group``, leader of one like a terminal's job.

    A terminal's Ctrl-C reaches the whole group.
    """
    return Forked(latkit_here, *map(str, arguments), cwd=cwd, environment=environment, group=group)


def run_latkit(
    *arguments: object, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command from its start to its end."""
    return run_to_the_end(start_latkit(*arguments, cwd=cwd, environment=environment))


def run_ranks(
    function: Callable[..., None], *arguments: object, cwd: Path, world: int = 2
) -> list[subprocess.CompletedProcess[str]]:
    """A function in as many processes, which find each other as those that torchrun starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for number in range(world):
        place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": world,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
        ranks.append(Forked(function, *arguments, cwd=cwd, environment=environment))
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() for rank in ranks):  # as torchrun does where one has failed
            for rank in ranks:
                rank.terminate()
        time.sleep(0.02)
    return [run_to_the_end(rank) for rank in ranks]


def wait_for(process: Forked, *paths: Path, size: int = 0) -> None:
    """Wait until files are there and hold as many bytes, while the process runs."""
    deadline = time.monotonic() + 120
    while not all(path.exists() and path.stat().st_size >= size for path in paths):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_interrupted(process: Forked) -> str:
    """It ended on its own with one line, which says how to go on; the line."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("latkit: interrupted; ")
    assert "run the same command to go on" in last
    assert out == ""
    return last


def interrupt(process: Forked, number: int = signal.SIGINT) -> str:
    """Send a signal to one process, which ends in good order; its last line."""
    process.send_signal(number)
    return check_interrupted(process)
