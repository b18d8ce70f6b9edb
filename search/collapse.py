"""Collapse: the drift of DARTS towards operations without parameters, detected and stopped.

Parameter-free operations learn fastest while the weights are young, and an exaggerated latency
term favours them as well (paper, section 4.4). The criterion is DARTS+'s (Liang et al., 2019),
which counts the skip connections of what α derives to; how many a good architecture has at most is
the supernet's (``Supernet.most_skips``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from latkit.spaces import SearchSpace
from latkit.spaces.reader import parse_row


def skips(space: SearchSpace, operations: Sequence[str]) -> int:
    """Skip connections among the operations on kept edges."""
    return sum(operation == space.skip for operation in operations)


def skip_share(space: SearchSpace, operations: Sequence[str]) -> float:
    """Share of operations that are skip connections."""
    return skips(space, operations) / len(operations)


def parameter_free_share(space: SearchSpace, operations: Sequence[str]) -> float:
    """Share of operations that have no parameters."""
    return sum(operation in space.parameter_free for operation in operations) / len(operations)


def alpha_entropy(alpha: Tensor) -> float:
    """Mean entropy of the edges' softmax in nats, of ``E x O``: ln O when nothing is preferred."""
    logs = alpha.detach().log_softmax(-1)
    return float(-(logs.exp() * logs).sum(-1).mean())


def signs_of_collapse(
    space: SearchSpace, operations: Sequence[str], most_skips: int | None
) -> str | None:
    """What in derived operations to warn of, as a text, or None.

    Args:
        space: the space.
        operations: on the kept edges.
        most_skips: skip connections that a good architecture has at most, of which there is a
            warning already; None: nothing is a sign.
    """
    if most_skips is None:
        return None
    signs = []
    if skips(space, operations) >= most_skips:
        signs.append(f"{skips(space, operations)} skip connections")
    share = parameter_free_share(space, operations)
    if share > 0.5:
        free = round(share * len(operations))
        signs.append(f"{free} of {len(operations)} operations without parameters")
    return " and ".join(signs) or None


def last_good_epoch(
    history: Sequence[Mapping[str, Any]],
    warmup_epochs: int,
    space: SearchSpace,
    most_skips: int | None,
) -> int | None:
    """The epoch to go back to if the search in ``history`` has just collapsed, else None.

    Epochs of the warm-up are not judged, because their α is the initial one, and neither are
    collapsed epochs that no good one precedes.

    Args:
        history: a row an epoch, with ``epoch`` and ``genotype``.
        warmup_epochs: epochs in which α was frozen.
        space: of the genotypes.
        most_skips: with more skip connections an epoch's architecture has collapsed; None: none
            ever has.
    """
    if most_skips is None:
        return None
    most = most_skips

    def has_collapsed(row: Mapping[str, Any]) -> bool:
        operations = space.operations_of(parse_row(row["genotype"], space))
        return skips(space, operations) > most

    judged = [row for row in history if row["epoch"] > warmup_epochs]
    if not judged or not has_collapsed(judged[-1]):
        return None
    return max((row["epoch"] for row in judged if not has_collapsed(row)), default=None)
