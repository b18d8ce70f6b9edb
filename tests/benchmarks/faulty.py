"""Parts that go wrong, each in its own way, after they have reported something."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np

from benchmarks.gpu_parts.part import Context


def good(context: Context) -> None:
    context.record(answer=42)
    context.check("it is so", True)
    context.figure("42")


def raises(context: Context) -> None:
    context.record(answer=1)
    raise ValueError("of no value")


def hangs(context: Context) -> None:
    """It leaves a process that would outlive it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    context.record(answer=2, child=child.pid)
    time.sleep(600)


def is_killed(context: Context) -> None:
    context.record(answer=3)
    os.kill(os.getpid(), signal.SIGKILL)


def takes_all_memory(context: Context) -> None:
    context.record(answer=4)
    np.empty(1 << 50, dtype=np.uint8)


def leaves(context: Context) -> None:
    context.record(answer=5)
    os._exit(7)


def is_not_so(context: Context) -> None:
    context.check("one", False, "it is two")
    context.record(answer=6)


def cannot_run(context: Context) -> None:
    context.skip("no such device")


def waits(context: Context) -> None:
    """It waits for its neighbour, which it only meets if both run at once."""
    mine, other = context.arguments
    (context.work / mine).touch()
    while not (context.work / other).exists():
        time.sleep(0.01)
