"""Searches so small that they take a second."""

from __future__ import annotations

from pathlib import Path

from latkit.lpm.base import LPM
from latkit.search.bilevel import OptimizerConfig
from latkit.search.config import SearchConfig
from latkit.search.data import ImageData
from latkit.search.session import SearchOutcome, run_search
from latkit.spaces import get_space

SPACE = get_space("darts")
MICRO = SearchConfig(
    lambda_per_ms=0.02, cells=3, channels=2, batch=16, epochs=2, limit=96,
    optimizer=OptimizerConfig(arch_lr=0.05, weight_lr=0.1),
)  # fmt: skip


def run(
    out: Path, lpm: LPM, data: ImageData, config: SearchConfig, **more: object
) -> SearchOutcome:
    return run_search(config, SPACE, lpm, "made", data, out, **more)  # type: ignore[arg-type]
