"""From α to an architecture: the strongest one, or the strongest one near a target cost.

Also what a space's architectures cost at least and at most: the range of possible targets.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from latkit.core.errors import InputError
from latkit.lpm.base import FloatArray
from latkit.search.estimators.distribution import WEAKEST
from latkit.search.objectives import Objective, evaluate
from latkit.search.skip_limit import strongest_within, within_limit
from latkit.spaces import ABSENT, ChoiceMatrix, SearchSpace

# A cost this near its target is on target.
TOLERANCE = 0.05
RESTARTS = 16
# How many times as many architectures are drawn: not all are within a limit of skip connections.
SPARE = 8
# Of the search for a constrained architecture: how strongly, round by round, being off the target
# counts against the score (in units of log-probability per log-cost), how many architectures a
# round visits, and how many of them at once. The last round, without a pull, finds the best.
PULLS = (100.0, 10.0, 0.0)
VISITS = 320
AT_ONCE = 16


@dataclass(frozen=True)
class CostRange:
    """The lowest-cost and the highest-cost architecture found.

    Attributes:
        low, high: their costs.
        low_row, high_row: they themselves, each a row of a choice matrix.
    """

    low: float
    high: float
    low_row: ChoiceMatrix
    high_row: ChoiceMatrix


def cost_range(
    space: SearchSpace,
    objective: Objective,
    restarts: int = RESTARTS,
    seed: int = 0,
    max_skips: int | None = None,
) -> CostRange:
    """What a space's architectures cost.

    Exact for a linear objective; else the best of steepest descents from random architectures,
    where a step changes one operation or moves it to another edge of its group.

    Args:
        space: the space.
        objective: what the costs are.
        restarts: descents in each direction.
        seed: of the architectures that they start from.
        max_skips: only of architectures with at most so many skip connections.
    """
    if objective.coefficients() is not None:
        rows = np.stack([_linear_extreme(space, objective, sign, max_skips) for sign in (1, -1)])
    else:
        some = space.unrank(space.sample(min(SPARE * restarts, space.size), seed))
        starts = some[within_limit(space, some, max_skips)][:restarts]
        rows = np.stack([_descend(space, objective, starts, sign, max_skips) for sign in (1, -1)])
    low, high = evaluate(space, objective, rows).tolist()
    return CostRange(low, high, rows[0], rows[1])


def is_on_target(cost: float, target: float) -> bool:
    """Whether a cost is within ``TOLERANCE`` of its target."""
    return abs(cost / target - 1) <= TOLERANCE


def check_target(target: float, reach: CostRange, unit: str) -> None:
    """Refuse a target that no architecture of the space is near.

    Raises:
        InputError: it is not a number within the range.
    """
    if not reach.low <= target <= reach.high:
        raise InputError(
            f"the target of {target:g} {unit} is outside what this space's architectures cost, "
            f"which is {reach.low:.4g} to {reach.high:.4g} {unit} (predicted)",
            "choose one in between",
        )


def neighbours(space: SearchSpace, matrix: ChoiceMatrix) -> ChoiceMatrix:
    """All architectures one step away: another operation, or a kept edge swapped for another of
    its group, with any operation.

    Args:
        space: the space.
        matrix: ``n x E``.

    Returns:
        ``n x K x E``; K is the same for all architectures of a space.
    """
    moves = np.array(
        [
            (old, new, operation)
            for group in space.groups
            for old in group.edges
            for new in group.edges
            for operation in space.choices
        ]
    )
    old, new, operation = moves.T
    there = matrix != ABSENT
    free = ~there[:, new] | ((old == new) & (matrix[:, old] != operation))
    row, move = np.nonzero(there[:, old] & free)
    result = matrix[row]
    index = np.arange(len(row))
    result[index, old[move]] = ABSENT
    result[index, new[move]] = operation[move]
    return result.reshape(len(matrix), -1, space.num_edges)


def log_weights(
    space: SearchSpace, alpha: Tensor, edge_weights: Tensor | None = None
) -> FloatArray:
    """How strongly α prefers each operation on each edge: ``E x O`` logarithms.

    The weight that the operation has in the supernet: the softmax over all operations (``none``
    too, as in DARTS), times the edge's own weight if it has one (β in PC-DARTS). Operations that
    an architecture may not carry have -inf.
    """
    logs = alpha.detach().double().cpu().log_softmax(1)
    if edge_weights is not None:
        logs = logs + edge_weights.detach().double().cpu().clamp_min(WEAKEST).log()[:, None]
    result = np.full(logs.shape, -np.inf)
    choices = list(space.choices)
    result[:, choices] = logs.numpy()[:, choices]
    return result


def strongest(space: SearchSpace, logs: FloatArray, max_skips: int | None = None) -> ChoiceMatrix:
    """DARTS's derivation (its section 2.4): in each group the edges whose strongest operation is
    strongest, and that operation on them; of equals the first. A row of a choice matrix.

    It has the largest sum of logarithms of all architectures; if it has more skip connections than
    it may, then the one of the largest sum among those that have not.

    Args:
        space: the space.
        logs: ``E x O``, see :func:`log_weights`.
        max_skips: skip connections it may have; None: any number.
    """
    row: ChoiceMatrix = np.full(space.num_edges, ABSENT, dtype=np.int8)
    strength, operation = logs.max(1), logs.argmax(1)
    for group in space.groups:
        edges = np.array(group.edges)
        kept = edges[np.argsort(-strength[edges], kind="stable")[: group.keep]]
        row[kept] = operation[kept]
    if max_skips is None or within_limit(space, row, max_skips):
        return row
    return strongest_within(space, logs, max_skips)


@dataclass(frozen=True)
class Derived:
    """An architecture derived from α.

    Attributes:
        row: the architecture, a row of a choice matrix.
        cost: its cost.
        changed: whether it is another one than α's strongest (within the limit of skips).
        within: whether its cost is within ``TOLERANCE`` of the target.
    """

    row: ChoiceMatrix
    cost: float
    changed: bool
    within: bool


def derive_on_target(
    space: SearchSpace,
    alpha: Tensor,
    objective: Objective,
    target: float,
    edge_weights: Tensor | None = None,
    max_skips: int | None = None,
) -> Derived:
    """The architecture that α prefers most strongly among those that cost about the target.

    How strongly is the sum of :func:`log_weights` over its operations; without a target the
    strongest architecture is DARTS's own derivation, which is returned unchanged if its cost will
    do. Otherwise a best-first search over :func:`neighbours`: first towards the target, then
    back up towards α. It is deterministic, and it has found the best one there is whenever its last
    round comes to an end by itself.

    Args:
        space: the space.
        alpha: ``E x O``.
        objective: what the costs are.
        target: in the objective's unit, positive.
        edge_weights: ``E``, see :func:`log_weights`.
        max_skips: skip connections it may have; None: any number.

    Returns:
        The architecture; if none on target was found, the nearest.
    """
    logs = log_weights(space, alpha, edge_weights)
    first = strongest(space, logs, max_skips)[None]
    search = _BestFirst(space, objective, logs, target, first, max_skips)
    if not search.on_target:
        for pull in PULLS:
            search.run(pull)
    return Derived(
        search.best, search.best_cost, bool((search.best != first[0]).any()), search.on_target
    )


class _BestFirst:
    """Architectures seen so far, and the best of them: on target, then strong, else near."""

    def __init__(
        self,
        space: SearchSpace,
        objective: Objective,
        logs: FloatArray,
        target: float,
        start: ChoiceMatrix,
        max_skips: int | None,
    ) -> None:
        self._space, self._objective, self._logs, self._target = space, objective, logs, target
        self._max_skips = max_skips
        self._known: set[bytes] = set()
        self._visited: set[int] = set()
        # Of all evaluated architectures: row, score, distance.
        self._seen: list[tuple[ChoiceMatrix, float, float]] = []
        self.on_target, self._rank = False, (-np.inf, -np.inf)
        self.best, self.best_cost = start[0], np.nan
        self._look(start)
        if not self.on_target and max_skips is not None:
            # The way from it leads over architectures that have too many skips, too.
            self._look(strongest(space, logs)[None])

    def run(self, pull: float) -> None:
        """Visit the most promising architectures, and look at all their neighbours."""
        heap: list[tuple[float, int]] = []
        self._push(heap, range(len(self._seen)), pull)
        for _ in range(VISITS // AT_ONCE):
            visiting: list[int] = []
            while heap and len(visiting) < AT_ONCE:
                _, index = heapq.heappop(heap)
                # From the strongest to any other leads a way on which it only ever gets weaker:
                # what is weaker than an architecture on target leads to no better one.
                if not self._beaten(self._seen[index][1]):
                    visiting.append(index)
            if not visiting:
                return
            self._visited.update(visiting)
            rows = neighbours(self._space, np.stack([self._seen[i][0] for i in visiting]))
            self._push(heap, self._look(rows.reshape(-1, self._space.num_edges)), pull)

    def _beaten(self, score: float) -> bool:
        return self.on_target and score <= self._rank[1]

    def _push(self, heap: list[tuple[float, int]], indices: Iterable[int], pull: float) -> None:
        for index in indices:
            if index in self._visited:
                continue
            _, score, distance = self._seen[index]
            heapq.heappush(heap, (pull * distance - score, index))

    def _look(self, rows: ChoiceMatrix) -> range:
        """Judge architectures that are new; their indices."""
        begin = len(self._seen)
        kept = np.maximum(rows, 0)
        logs = np.where(rows != ABSENT, self._logs[np.arange(rows.shape[1]), kept], 0)
        scores = logs.sum(1)
        new = []
        for i, row in enumerate(rows):
            key = row.tobytes()
            if key not in self._known and not self._beaten(scores[i]):
                self._known.add(key)
                new.append(i)
        if not new:
            return range(begin, begin)
        costs = evaluate(self._space, self._objective, rows[new])
        off = np.abs(costs / self._target - 1)
        allowed = within_limit(self._space, rows[new], self._max_skips)
        for i, cost, relative, good in zip(
            new, costs.tolist(), off.tolist(), allowed.tolist(), strict=True
        ):
            distance = max(0.0, relative - TOLERANCE)
            self._seen.append((rows[i], float(scores[i]), distance))
            rank = (-distance, float(scores[i]))
            if good and rank > self._rank:
                self._rank, self.best, self.best_cost = rank, rows[i], cost
                self.on_target = distance == 0
        return range(begin, len(self._seen))


def _linear_extreme(
    space: SearchSpace, objective: Objective, sign: int, max_skips: int | None
) -> ChoiceMatrix:
    """The lowest-cost (``sign`` 1) or highest-cost (-1) architecture by a table of costs."""
    linear = objective.coefficients()
    assert linear is not None
    values = linear[0].double().numpy().reshape(space.num_edges, space.num_operations)
    return strongest(space, _table(space, -sign * values), max_skips)


def _table(space: SearchSpace, values: FloatArray) -> FloatArray:
    """``E x O`` values, -inf for operations that an architecture may not carry."""
    table = np.full(values.shape, -np.inf)
    choices = list(space.choices)
    table[:, choices] = values[:, choices]
    return table


def _descend(
    space: SearchSpace, objective: Objective, starts: ChoiceMatrix, sign: int, max_skips: int | None
) -> ChoiceMatrix:
    """Where the best of steepest descents of ``sign * cost`` ends."""
    rows = starts.copy()
    values = sign * evaluate(space, objective, rows)
    moving = np.ones(len(rows), dtype=bool)
    while moving.any():
        near = neighbours(space, rows[moving])
        costs = sign * evaluate(space, objective, near.reshape(-1, space.num_edges))
        costs = costs.reshape(near.shape[:2])
        costs[~within_limit(space, near, max_skips)] = np.inf
        best = costs.argmin(1)
        lowest = costs[np.arange(len(near)), best]
        better = lowest < values[moving]
        index = np.flatnonzero(moving)
        rows[index[better]] = near[better, best[better]]
        values[index[better]] = lowest[better]
        moving[index[~better]] = False
    result: ChoiceMatrix = rows[values.argmin()]
    return result
