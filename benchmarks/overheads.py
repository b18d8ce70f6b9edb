"""What latkit itself costs: start-up, sampling and encoding. Prints JSON.

Usage: python benchmarks/overheads.py > benchmarks/results/DATE-overheads.json
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date

import numpy as np

from latkit.core.device import cpu_name, usable_cores
from latkit.spaces import get_preset, get_space
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.zoo import ZOO

REPEATS = 7
N = 100_000


def seconds(function: Callable[[], object]) -> dict[str, float]:
    """Median, least and greatest wall seconds of ``REPEATS`` calls."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def python(*arguments: str) -> Callable[[], object]:
    """A call of a fresh interpreter."""
    return lambda: subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    space = get_space("darts")
    ids = space.sample(N, 0)
    matrix = space.unrank(ids)
    genotype = space.genotype(matrix[0], ZOO["darts_v2"])
    measured = {
        "interpreter alone": seconds(python("-c", "")),
        "import latkit": seconds(python("-c", "import latkit")),
        "latkit --help": seconds(python("-m", "latkit.cli.main", "--help")),
        f"sample {N} of the DARTS space": seconds(lambda: space.sample(N, 0)),
        f"unrank {N}": seconds(lambda: space.unrank(ids)),
        f"rank {N}": seconds(lambda: space.rank(matrix)),
        f"encode {N}": seconds(lambda: space.encode(matrix)),
        "MACs and params of one network": seconds(
            lambda: architecture_cost(genotype, get_preset("imagenet"))
        ),
    }
    conditions = {
        "date": date.today().isoformat(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "repeats": REPEATS,
    }
    print(json.dumps({"conditions": conditions, "seconds": measured}, indent=2))


if __name__ == "__main__":
    main()
