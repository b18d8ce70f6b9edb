"""Tables of accuracies and latencies made by formula, for the judge of fronts."""

from __future__ import annotations

import numpy as np

from benchmarks import front_lpms
from benchmarks.front_judge import SPACE, Table


def made_table() -> Table:
    """Accuracies and latencies by formula, and 500 cells of 1 % that are fast."""
    x = front_lpms.encodings(np.arange(SPACE.size))
    rng = np.random.default_rng(0)
    accuracy = 30 + x @ rng.uniform(0, 7, x.shape[1])
    latency = {name: 2 + x @ rng.uniform(0, 3, x.shape[1]) for name in ("one", "two")}
    accuracy[:500] = 1.0
    latency["one"][:500] = 0.1
    return Table(accuracy, latency)
