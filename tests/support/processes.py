"""The command line in a process of its own, where signals and streams are the point.

Each of them imports PyTorch, which takes seconds: what needs no process runs by the fixture
``latkit``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def start_latkit(*arguments: object, cwd: Path, group: bool = False) -> subprocess.Popen[str]:
    """A process to be killed or interrupted; with ``group``, leader of one like a terminal's job.

    A terminal's Ctrl-C reaches the whole group.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "latkit", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=group,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], *paths: Path, size: int = 0) -> None:
    """Wait until files are there and hold as many bytes, while the process runs."""
    deadline = time.monotonic() + 120
    while not all(path.exists() and path.stat().st_size >= size for path in paths):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_interrupted(process: subprocess.Popen[str]) -> str:
    """It ended on its own with one line, which says how to go on; the line."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("latkit: interrupted; ")
    assert "run the same command to go on" in last
    assert out == ""
    return last


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    """Send a signal to one process, which ends in good order; its last line."""
    process.send_signal(number)
    return check_interrupted(process)
