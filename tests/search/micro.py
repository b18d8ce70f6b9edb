"""Searches so small that they take a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latkit.lpm.base import LPM
from latkit.search.bilevel import OptimizerConfig
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.config import SearchConfig
from latkit.search.data import ImageData
from latkit.search.session import SearchOutcome, run_search
from latkit.spaces import get_space

SPACE = get_space("darts")
MICRO = SearchConfig(
    lambda_per_ms=0.02, cells=3, channels=2, batch=16, epochs=2, limit=64,
    optimizer=OptimizerConfig(arch_lr=0.05, weight_lr=0.1),
)  # fmt: skip


def run(
    out: Path, lpm: LPM, data: ImageData, config: SearchConfig, **more: object
) -> SearchOutcome:
    return run_search(config, SPACE, lpm, "made", data, out, **more)  # type: ignore[arg-type]


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
