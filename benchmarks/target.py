"""Where λ's controller lands: made bi-level searches for targets all over the range.

    python benchmarks/target.py > benchmarks/results/DATE-target.json

Device and validation loss are formulas (tests/search/test_penalty.py); nothing is measured. Told of
short and long searches is how far derived cells were from their targets, and how many of the
constrained derivations were within 5 %. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from latkit.search.decode import derive_on_target
from tests.search.test_penalty import DARTS, STEPS, Device, made_search

SHARES = (0.15, 0.29, 0.43, 0.57, 0.71, 0.85)
TASTES, SIZES = (1.0, -1.0), (0.1, 1.0, 10.0)
EPOCHS = (4, 25)


def main() -> None:
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    for epochs in EPOCHS:
        off, constrained = [], 0
        for share in SHARES:
            for taste in TASTES:
                for size in SIZES:
                    derived, target, alpha = made_search(share, taste, size, 1.0, epochs)
                    off.append(abs(derived / target - 1))
                    constrained += derive_on_target(DARTS, alpha, Device(), target).within
        results.append(
            {
                "steps": epochs * STEPS,
                "searches": len(off),
                "within_5_percent": sum(each <= 0.05 for each in off),
                "within_9_percent": sum(each <= 0.09 for each in off),
                "median_off_percent": 100 * float(np.median(off)),
                "most_off_percent": 100 * max(off),
                "constrained_derivations_within_5_percent": constrained,
            }
        )
    content = {"date": date.today().isoformat(), "torch": torch.__version__, "results": results}
    json.dump(content, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
