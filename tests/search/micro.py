"""Searches so small that they take a moment.

What is true of every search is shown of one in NAS-Bench-201, whose steps take a seventh of those
in DARTS; what is DARTS's own by :func:`run_darts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from latkit.lpm.base import LPM
from latkit.search.bilevel import OptimizerConfig
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.config import SearchConfig
from latkit.search.data import ImageData
from latkit.search.session import SearchOutcome, run_search
from latkit.spaces import SearchSpace, get_preset, get_space

SPACE = get_space("nasbench201")
SETTING = get_preset("nasbench201").replace(cells=3, channels=2, resolution=8)
# Milliseconds an operation adds, in the order of the space's operations.
OPERATION_MS = (0, 0.1, 1.0, 3.0, 0.5)
DARTS = get_space("darts")
MICRO = SearchConfig(
    lambda_per_ms=0.02, cells=3, channels=2, batch=16, epochs=2, limit=64,
    optimizer=OptimizerConfig(arch_lr=0.05, weight_lr=0.1),
)  # fmt: skip


def run(
    out: Path, lpm: LPM, data: ImageData, config: SearchConfig, space: SearchSpace = SPACE,
    **more: object,
) -> SearchOutcome:  # fmt: skip
    return run_search(config, space, lpm, "made", data, out, **more)  # type: ignore[arg-type]


run_darts = partial(run, space=DARTS)


@dataclass(frozen=True)
class Finished:
    """A whole search, which tests read and of whose folder they take copies."""

    folder: Path
    outcome: SearchOutcome

    def check_same_end(self, folder: Path, outcome: SearchOutcome) -> None:
        """Another search ended so to the bit, but for the times in its history."""
        assert (folder / CHECKPOINT).read_bytes() == (self.folder / CHECKPOINT).read_bytes()
        assert outcome.architecture == self.outcome.architecture
        for a, b in zip(self.outcome.history, outcome.history, strict=True):
            assert {**a, "seconds": 0} == {**b, "seconds": 0}
