"""The most accurate architecture under limits, or near a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latkit.lpm.base import FloatArray
from latkit.search.objectives import Objective
from latkit.search.retarget.conditions import Condition, costs_of, infeasible, total_excess
from latkit.search.retarget.explore import ENUMERATED, explore
from latkit.spaces import ChoiceMatrix, SearchSpace


@dataclass(frozen=True)
class Choice:
    """The architecture of the highest predicted accuracy that keeps all conditions.

    Attributes:
        row: the architecture, a row of a choice matrix.
        near: ``n x E``, more accurate ones that do not keep the conditions, by rising excess: of
            those with no more excess none is more accurate.
        accuracy: predicted, of the architecture.
        evaluated: how many architectures were looked at.
        exhaustive: whether that were all; else it is the best that was found.
    """

    row: ChoiceMatrix
    near: ChoiceMatrix
    accuracy: float
    evaluated: int
    exhaustive: bool


def most_accurate(
    space: SearchSpace,
    accuracy: Objective,
    conditions: Sequence[Condition],
    seed: int = 0,
    enumerated: int = ENUMERATED,
) -> Choice:
    """The architecture of the highest predicted accuracy among those that keep all conditions.

    Args:
        space: the space.
        accuracy: what is maximised.
        conditions: limits and targets of any number of costs and devices.
        seed: of the local search in a large space.
        enumerated: the size of the largest space that is enumerated.

    Raises:
        InputError: no architecture keeps the conditions; what each could be alone is named.
    """

    def points(rows: ChoiceMatrix) -> FloatArray:
        costs = costs_of(space, rows)
        return np.column_stack([-costs(accuracy), total_excess(conditions, costs, len(rows))])

    found = explore(space, points, seed, enumerated)
    order = np.argsort(found.points[:, 1], kind="stable")
    # Of what none dominates, one alone keeps everything: the most accurate.
    best, *_ = order
    if found.points[best, 1] > 0:
        raise infeasible(space, conditions)
    return Choice(
        found.rows[best],
        found.rows[order[1:]],
        -float(found.points[best, 0]),
        found.evaluated,
        found.exhaustive,
    )
