"""What a benchmark's result says of how it came about."""

from __future__ import annotations

import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

from latkit.core.device import cpu_name
from latkit.core.version import __version__


def conditions(name: str) -> dict[str, Any]:
    """The head of a result of one thread: the benchmark, its command, and what it ran on."""
    script = Path("benchmarks", Path(sys.argv[0]).name).as_posix()
    return {
        "benchmark": name,
        "date": date.today().isoformat(),
        "command": " ".join(["python", script, *sys.argv[1:]]),
        "latkit_version": __version__,
        "cpu": cpu_name(),
        "threads": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
