"""The command line of a bundle: ``python b.pyz --out results``."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import latkit.core.cores  # noqa: F401  # notes the cores before a runtime may bind this thread to one
from latkit.board.bundle import Bundle
from latkit.core.cores import parse_cores
from latkit.core.errors import BackendError, Interrupted, LatkitError
from latkit.core.events import Listener, Progress

PROGRESS_SECONDS = 10.0


class Lines(Listener):
    """Prints what is reported, one line each, on standard error."""

    def __init__(self) -> None:
        self._next = 0.0
        # When the first measurement was done, and how many were.
        self._first: tuple[float, int] | None = None

    def note(self, text: str) -> None:
        _print(text)

    def progress(self, now: Progress) -> None:
        moment = time.monotonic()
        if self._first is None:
            self._first = moment, now.done
        if moment < self._next and now.done < now.total:
            return
        self._next = moment + PROGRESS_SECONDS
        started, before = self._first
        left = ""
        if now.done > before:
            each = (moment - started) / (now.done - before)
            left = f", {(now.total - now.done) * each / 60:.0f} min left"
        _print(f"{now.done} of {now.total} {now.unit}, {now.detail}{left}")


def main(arguments: Sequence[str] | None = None, file: str | None = None) -> NoReturn:
    """Measure what a bundle holds; every failure that a user can mend is one line.

    Args:
        arguments: of the command line; None: those of the process.
        file: the bundle; None: the file that Python runs.
    """
    parser = argparse.ArgumentParser(
        prog=Path(file or sys.argv[0]).name,
        description="Measure the latency of the networks in this file on this machine. The same "
        "command goes on where an interrupted one stopped.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cores", default="", help="keep to these CPU cores, e.g. 2,3")
    given = parser.parse_args(arguments)
    try:
        _run(Path(file or sys.argv[0]), given.out, given.cores)
    except LatkitError as error:
        sys.exit(_failed(error))
    except MemoryError:
        fix = "end other programs, or make a bundle of a smaller setting"
        sys.exit(_failed(BackendError("memory ran out", fix)))
    except KeyboardInterrupt:
        kept = "interrupted; every finished row is kept"
        sys.exit(_failed(Interrupted(kept, "run the same command to go on")))
    sys.exit(0)


def _run(file: Path, out: Path, cores: str) -> None:
    with Bundle(file) as bundle:
        _check_packages(bundle.plan.packages)
        from latkit.board.measure import measure_bundle  # which imports NumPy

        outcome = measure_bundle(bundle, out, parse_cores(cores) if cores else (), Lines())
    error = "" if outcome.retest_sd is None else f", retest sd {100 * outcome.retest_sd:.2f} %"
    print(
        f"{outcome.measurements} measurements of {outcome.architectures} architectures are in "
        f"{out}{error}"
    )
    _print(f"next, where latkit is: latkit dataset import {out} --out DATASET")


def _check_packages(names: Sequence[str]) -> None:
    """Refuse a Python that lacks what measures.

    Raises:
        BackendError: a package is not installed, or does not import.
    """
    fix = f"{sys.executable or 'python3'} -m pip install {' '.join(names)}"
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            lacking = (error.name or name).partition(".")[0]
            raise BackendError(
                f"{lacking} is not installed for this Python {platform.python_version()}", fix
            ) from None
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            fix = f"install it again: {fix}"
            raise BackendError(f"{name} does not import ({reason})", fix) from None


def _failed(error: LatkitError) -> int:
    _print(f"latkit: {' '.join(str(error).split())}")
    return error.exit_code


def _print(text: str) -> None:
    """A line on standard error, which is no reason to stop measuring where it takes none."""
    try:
        print(text.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return
