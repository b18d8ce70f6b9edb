"""The order of sub-networks by all that ranks them, each of which sees something else.

Shared weights rank networks that are far apart, and hardly the best of them; what initial weights
say is the other way round (docs/search.md, ``benchmarks/ranking.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special, stats

from latkit.lpm.base import FloatArray
from latkit.spaces import ChoiceMatrix
from latkit.spaces.registry import analytic_table
from latkit.spaces.setting import NetworkConfig

# Of them less is better.
_FALLING = ("loss",)
RANKED_BY = (
    "loss", "expressivity", "progressivity", "trainability", "naswot", "synflow", "macs",
)  # fmt: skip


def signs_of(
    space: str,
    network: NetworkConfig,
    matrix: ChoiceMatrix,
    evaluated: Sequence[Mapping[str, Any]],
    initial: Sequence[Mapping[str, Any]],
) -> dict[str, FloatArray]:
    """All numbers that may rank sub-networks, of each ``n``; more is better.

    Args:
        space: name of the space.
        network: around the sub-networks, whose MACs are taken.
        matrix: the sub-networks, ``n x E``.
        evaluated: their rows of ``subnets.parquet``.
        initial: and of ``initial.parquet``.
    """
    macs = [cost.macs for cost in analytic_table(space, network).costs(matrix)]
    signs = {"macs": np.array(macs, dtype=np.float64)}
    for rows in (evaluated, initial):
        for name in set(rows[0]) - {"arch_id", "arch"}:
            values = np.array([row[name] for row in rows], dtype=np.float64)
            signs[name] = -values if name in _FALLING else values
    return signs


def mean_score(values: Sequence[FloatArray]) -> FloatArray:
    """The mean of normal scores: each quantity counts by its order alone, and all count alike.

    A normal score is what a value would be if as many were below it in a normal distribution; equal
    values have the mean rank.
    """
    ranks = np.array([stats.rankdata(of) for of in values])
    scores: FloatArray = special.ndtri((ranks - 0.5) / ranks.shape[1]).mean(0)
    return scores


def in_order(values: FloatArray, scores: FloatArray) -> FloatArray:
    """The values dealt out by the order of the scores: the largest to the highest, and so on."""
    places = np.arange(1, len(values) + 1)
    dealt: FloatArray = np.interp(stats.rankdata(scores), places, np.sort(values))
    return dealt
