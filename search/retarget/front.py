"""The Pareto front of predicted accuracy and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latkit.core.errors import InputError
from latkit.lpm.base import FloatArray
from latkit.search.objectives import Objective
from latkit.search.retarget.conditions import Condition, costs_of, infeasible, total_excess
from latkit.search.retarget.explore import ENUMERATED, explore
from latkit.spaces import ChoiceMatrix, SearchSpace


@dataclass(frozen=True)
class Front:
    """Architectures of which none is better in accuracy and all costs than another.

    Attributes:
        rows: ``n x E``, by rising first cost.
        accuracy: ``n`` predicted accuracies.
        costs: ``n x C`` predicted costs.
        evaluated: how many architectures were looked at.
        exhaustive: whether that were all; else the front is the best that was found.
    """

    rows: ChoiceMatrix
    accuracy: FloatArray
    costs: FloatArray
    evaluated: int
    exhaustive: bool

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: npt.NDArray[np.int64]) -> Front:
        """Some of the points, by number."""
        return Front(
            self.rows[index],
            self.accuracy[index],
            self.costs[index],
            self.evaluated,
            self.exhaustive,
        )

    def spread(self, n: int, first: Sequence[int] = ()) -> Front:
        """``n`` points spread over the front, or all if there are no more.

        The ends first, then always the point that is farthest from those taken, where each axis is
        as long as the front.

        Args:
            n: how many.
            first: numbers of points that are taken before all others.

        Raises:
            InputError: fewer than one.
        """
        if n < 1:
            raise InputError(f"{n} points make no front", "use 1 or more")
        if len(self) <= n:
            return self
        if len(first) > n:
            return self.take(np.sort(np.asarray(first, dtype=np.int64))).spread(n)
        points = np.column_stack([self.accuracy, self.costs])
        points = (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-300)
        # The most accurate one, then what is farthest from it: the other end.
        taken = [*first] or [int(self.accuracy.argmax())]
        distance = np.full(len(self), np.inf)
        for index in taken:
            distance = np.minimum(distance, np.linalg.norm(points - points[index], axis=1))
        while len(taken) < n:
            taken.append(int(distance.argmax()))
            distance = np.minimum(distance, np.linalg.norm(points - points[taken[-1]], axis=1))
        return self.take(np.sort(taken))


def pareto_front(
    space: SearchSpace,
    accuracy: Objective,
    costs: Sequence[Objective],
    conditions: Sequence[Condition] = (),
    seed: int = 0,
    enumerated: int = ENUMERATED,
) -> Front:
    """The best trade-offs between accuracy and costs among architectures that keep conditions.

    It is exact in a space of at most ``enumerated`` architectures; in a larger one it is the result
    of a local search (:mod:`latkit.search.retarget.explore`).

    Args:
        space: the space.
        accuracy: what is maximised.
        costs: what is minimised, one or several.
        conditions: what every point has to keep.
        seed: of the local search.
        enumerated: the size of the largest space that is enumerated.

    Raises:
        InputError: there is no cost, or no architecture keeps the conditions.
    """
    if not costs:
        raise InputError("a front needs a cost beside the accuracy", "name one")

    def points(rows: ChoiceMatrix) -> FloatArray:
        values = costs_of(space, rows)
        predicted = np.column_stack([values(cost) for cost in costs])
        # What is predicted to cost nothing is too far from what the LPM was trained on.
        excess = total_excess(conditions, values, len(rows))
        excess += np.where(predicted > 0, 0.0, 1 - predicted).sum(1)
        return np.column_stack([-values(accuracy), predicted, excess])

    found = explore(space, points, seed, enumerated)
    kept = np.flatnonzero(found.points[:, -1] == 0)
    if not len(kept):
        raise infeasible(space, conditions)
    kept = kept[np.argsort(found.points[kept, 1], kind="stable")]
    chosen = found.points[kept]
    return Front(
        found.rows[kept],
        -chosen[:, 0],
        chosen[:, 1 : 1 + len(costs)],
        found.evaluated,
        found.exhaustive,
    )
