"""Fleets on Ray that tests kill parts of."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

_HAS_RAY = importlib.util.find_spec("ray") is not None
_HAS_PROC = Path("/proc/self/cmdline").exists()


def needs_ray(test: type) -> type:
    """Skip where a fleet cannot run, or its workers not be found."""
    without_proc = pytest.mark.skipif(not _HAS_PROC, reason="workers are found by /proc")
    decorated: type = without_proc(
        pytest.mark.skipif(not _HAS_RAY, reason="Ray is not installed")(test)
    )
    return decorated


def kill_worker_and_driver(command: list[str], rows: Callable[[], int], first: int) -> str:
    """Start a command with a fleet; kill a worker of it, and later the driver.

    Args:
        command: of latkit.
        rows: how many results are kept now.
        first: results before the worker is killed; there are as many more before the driver is.

    Returns:
        What the driver has told, that the worker is lost among that.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told")
        with told.open("w") as file:
            driver = subprocess.Popen(command, stderr=file)
        try:
            _wait_for(driver, lambda: rows() >= first)
            os.kill(_worker_of(driver.pid), signal.SIGKILL)
            enough = rows() + first
            _wait_for(driver, lambda: rows() >= enough and " is lost " in told.read_text())
        finally:
            driver.kill()
            driver.wait()
        return told.read_text()


def _wait_for(driver: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    while not happened():
        if driver.poll() is not None:
            pytest.fail(f"the driver has ended with {driver.returncode}")
        time.sleep(0.1)


def _worker_of(driver: int) -> int:
    """A worker of the fleet whose driver is a process; there may be fleets of others here."""
    while True:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                pid = int(path.parent.name)
                if path.read_text().startswith("ray::FleetWorker") and driver in _ancestors(pid):
                    return pid
        time.sleep(0.1)


def _ancestors(pid: int) -> list[int]:
    """Of a process, from its parent on."""
    found: list[int] = []
    while pid > 1:
        # After the name, which may have spaces: the state and the parent.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found
