"""The command line in the process of the test, and how its errors look."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

# A network so small that real measurements take milliseconds.
MICRO_TEXT = "tiny,cells=3,channels=4,resolution=8"

# The fixture ``latkit`` (tests/conftest.py): arguments in, exit code and streams out.
RunLatkit = Callable[..., subprocess.CompletedProcess[str]]


def ok(latkit: RunLatkit, *arguments: object) -> Any:
    """What a command prints as JSON."""
    done = latkit(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(latkit: RunLatkit, *arguments: object, code: int | None = None) -> str:
    """The line of a command that fails: the last on stderr, after the notes, and no traceback."""
    done = latkit(*arguments)
    assert done.returncode != 0
    if code is not None:
        assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("latkit: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.rstrip().endswith(lines[0])
    return lines[0]


def check(
    latkit: RunLatkit, *arguments: object, says: tuple[str, ...], code: int | None = None
) -> None:
    """A command fails with one line, in which all of ``says`` stands."""
    line = refused(latkit, *arguments, code=code)
    for text in says:
        assert text in line
