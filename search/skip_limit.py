"""Cells with at most so many skip connections."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from latkit.lpm.base import FloatArray
from latkit.spaces import ABSENT, ChoiceMatrix, SearchSpace


def within_limit(
    space: SearchSpace, matrix: ChoiceMatrix, max_skips: int | None
) -> npt.NDArray[np.bool_]:
    """Which architectures, ``... x E``, have at most so many skip connections; None: all."""
    if max_skips is None or space.skip not in space.operations:
        return np.ones(matrix.shape[:-1], dtype=bool)
    return np.asarray((matrix == space.operations.index(space.skip)).sum(-1) <= max_skips)


def strongest_within(space: SearchSpace, logs: FloatArray, max_skips: int) -> ChoiceMatrix:
    """The architecture of the largest sum of ``logs`` among those within the limit, exactly.

    Args:
        space: one with skip connections.
        logs: ``E x O``; -inf where an architecture may not carry the operation.
        max_skips: the limit.

    Returns:
        A row of a choice matrix.
    """
    assert space.skip is not None
    skip = space.operations.index(space.skip)
    others = logs.copy()
    others[:, skip] = -np.inf
    best_other = others.argmax(1)
    empty: ChoiceMatrix = np.full(space.num_edges, ABSENT, dtype=np.int8)
    # By the number of skip connections so far, the best of the groups so far.
    best: dict[int, tuple[float, ChoiceMatrix]] = {0: (0.0, empty)}
    for group, sets in zip(space.groups, space.kept_combinations, strict=True):
        longer: dict[int, tuple[float, ChoiceMatrix]] = {}
        for edges, skipped in product(sets, product((True, False), repeat=group.keep)):
            operations = np.where(skipped, skip, best_other[edges])
            score = float(logs[edges, operations].sum())
            for before, (total, row) in best.items():
                count = before + sum(skipped)
                if count > max_skips or total + score <= longer.get(count, (-np.inf,))[0]:
                    continue
                row = row.copy()
                row[edges] = operations
                longer[count] = total + score, row
        best = longer
    return max(best.values(), key=lambda entry: entry[0])[1]
