"""Commands in processes forked off this one, which has imported what they need.

A kill would fall into the imports most of the time otherwise.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOCKED = ("another process", "at this moment")


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        errors: what it printed on standard error.
        seconds: that it lived.
    """

    code: int
    errors: str
    seconds: float

    @property
    def is_one_line(self) -> bool:
        """Whether it succeeded, or failed as a command may: by one line, the last."""
        if self.code == 0:
            return True
        lines = [line for line in self.errors.splitlines() if line.startswith("latkit: ")]
        is_last = bool(lines) and self.errors.rstrip().endswith(lines[-1])
        return is_last and len(lines) == 1 and "Traceback" not in self.errors

    @property
    def last_line(self) -> str:
        return (self.errors.strip().splitlines() or [""])[-1]


def preload() -> None:
    """Import what commands import; no thread may be started by that."""
    import pyarrow.parquet
    import sklearn.datasets
    import torch

    import latkit.api
    import latkit.cli.main
    import latkit.cli.search
    import latkit.search.run
    import latkit.tasks.retarget
    import latkit.training.run

    torch.set_num_threads(1)
    del pyarrow, sklearn, latkit


def run(
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    stop: Callable[[float], bool] = lambda seconds: False,
    whole_group: bool = True,
) -> Ended:
    """Run ``latkit``, or ``python FILE`` where the first argument is a bundle.

    Args:
        arguments: of it.
        cwd: where it runs.
        environment: its variables.
        stop: called again and again with the seconds since the start: whether to kill it now.
        whole_group: kill what it has started, too.
    """
    # Not on the disk of the command, which may be full.
    descriptor, name = tempfile.mkstemp(prefix="stderr-")
    os.close(descriptor)
    log = Path(name)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(arguments, cwd, environment, log)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - started
        if done:
            break
        if stop(seconds):
            try:
                (os.killpg if whole_group else os.kill)(child, signal.SIGKILL)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(0.0005)
    errors = log.read_text(errors="replace")
    log.unlink()
    return Ended(os.waitstatus_to_exitcode(status), errors, seconds)


def _become(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> None:
    code = 1
    try:
        os.setsid()
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        out = os.open(os.devnull, os.O_WRONLY)
        err = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        if arguments[0].endswith(".pyz"):
            os.execve(sys.executable, [sys.executable, *arguments], dict(environment))
        from latkit.cli.main import main

        sys.argv = ["latkit", *arguments]
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
