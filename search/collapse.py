"""Collapse: the drift of DARTS towards operations without parameters, told and stopped.

Parameter-free operations learn fastest while the weights are young, and an exaggerated latency
term favours them as well (paper, section 4.4). The criterion is DARTS+'s (Liang et al., 2019),
which counts the skip connections of the derived normal cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from latkit.spaces.darts.genotype import Connections, parse_genotype

SKIP = "skip_connect"
PARAMETER_FREE = (SKIP, "max_pool_3x3", "avg_pool_3x3")
# Skip connections of a normal cell from which on one is warned, and above which one stops.
WARN_SKIPS = 2
MOST_SKIPS = 2


def skips(cell: Connections) -> int:
    """Skip connections of a cell."""
    return sum(operation == SKIP for operation, _ in cell)


def skip_share(cell: Connections) -> float:
    """Share of a cell's connections that are skip connections."""
    return skips(cell) / len(cell)


def parameter_free_share(cell: Connections) -> float:
    """Share of a cell's connections that are skip connections or pools."""
    return sum(operation in PARAMETER_FREE for operation, _ in cell) / len(cell)


def alpha_entropy(alpha: Tensor) -> float:
    """Mean entropy of the edges' softmax in nats, of ``E x O``: ln O when nothing is preferred."""
    logs = alpha.detach().log_softmax(-1)
    return float(-(logs.exp() * logs).sum(-1).mean())


def signs_of_collapse(normal: Connections) -> str | None:
    """What a derived normal cell warns of, or None."""
    found = []
    if skips(normal) >= WARN_SKIPS:
        found.append(f"{skips(normal)} skip connections")
    if parameter_free_share(normal) > 0.5:
        free = round(parameter_free_share(normal) * len(normal))
        found.append(f"{free} of {len(normal)} operations without parameters")
    return " and ".join(found) or None


def is_collapsed(normal: Connections) -> bool:
    """Whether a derived normal cell has more skip connections than a good one."""
    return skips(normal) > MOST_SKIPS


def last_good_epoch(history: Sequence[dict[str, Any]], warmup_epochs: int) -> int | None:
    """The epoch to go back to if the search in ``history`` has just collapsed, else None.

    Epochs of the warm-up are not judged, because their α is the initial one, and neither are
    collapsed epochs that no good one precedes.

    Args:
        history: a row an epoch, with ``epoch`` and ``genotype``.
        warmup_epochs: epochs in which α was frozen.
    """
    judged = [row for row in history if row["epoch"] > warmup_epochs]
    if not judged or not _collapsed_in(judged[-1]):
        return None
    return max((row["epoch"] for row in judged if not _collapsed_in(row)), default=None)


def _collapsed_in(row: dict[str, Any]) -> bool:
    return is_collapsed(parse_genotype(row["genotype"]).normal)
