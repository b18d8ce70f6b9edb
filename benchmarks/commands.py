"""Commands of latkit as a user gives them, of which each is run once: its answer is kept."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Commands:
    """Runs commands in a folder that has a registry of its own.

    Args:
        folder: where answers, and what the commands write, are kept.
        environment: what is set beside what is set here.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self._environment = folder, environment or {}
        folder.mkdir(parents=True, exist_ok=True)

    def latkit(self, *arguments: str) -> dict[str, Any]:
        """The JSON of a command."""
        print("latkit", *arguments, file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "latkit", *arguments, "--json"],
            env={
                **os.environ,
                **self._environment,
                "LATKIT_REGISTRY": str(self.folder / "registry"),
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def once(self, name: str, *arguments: str, costs: bool = False) -> dict[str, Any]:
        """The same, kept as ``NAME.json``; what it writes with ``--out`` goes to the folder NAME.

        Args:
            name: of the answer and the folder.
            arguments: of the command but ``--out``.
            costs: its CPU seconds are of interest, as ``cpu_seconds`` of the answer: what an
                interrupted run has left is not gone on with.
        """
        kept, out = self.folder / f"{name}.json", self.folder / name
        if kept.exists():
            return dict(json.loads(kept.read_text()))
        if costs:
            shutil.rmtree(out, ignore_errors=True)
        before = _cpu_seconds()
        answer = self.latkit(*arguments, "--out", str(out))
        if costs:
            answer["cpu_seconds"] = _cpu_seconds() - before
        kept.write_text(json.dumps(answer))
        return answer


def _cpu_seconds() -> float:
    """Of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
