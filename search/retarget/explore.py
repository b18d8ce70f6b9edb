"""The architectures that no other one dominates: by enumeration, or by local search.

In a large space a Pareto local search (Paquete, Chiarandini and Stützle 2004) is used: of the
architectures found so far that none dominates, those not yet visited are visited, a few at once,
spread over the front; all their neighbours are evaluated, and as many crossings of two members of
the front. It ends when all have been visited or the evaluations are used up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latkit.lpm.base import FloatArray
from latkit.search.decode import neighbours
from latkit.search.retarget.conditions import ENUMERATED
from latkit.search.retarget.indicators import nondominated
from latkit.spaces import ChoiceMatrix, SearchSpace

# Of the local search: architectures drawn at random to begin with, visited at once, and evaluated
# in all.
START = 512
AT_ONCE = 32
EVALUATIONS = 60_000

# From ``n x E`` rows to ``n x d`` numbers, all to be minimised.
Points = Callable[[ChoiceMatrix], FloatArray]


@dataclass(frozen=True)
class Found:
    """Architectures that none of those evaluated dominates.

    Attributes:
        rows: ``n x E``.
        points: ``n x d``.
        evaluated: how many architectures were looked at.
        exhaustive: whether that were all.
    """

    rows: ChoiceMatrix
    points: FloatArray
    evaluated: int
    exhaustive: bool


def explore(
    space: SearchSpace, points: Points, seed: int = 0, enumerated: int = ENUMERATED
) -> Found:
    """The Pareto set of a space, exact where the space has at most so many architectures.

    Args:
        space: the space.
        points: what is minimised; it is called with batches of rows.
        seed: of the architectures that a local search begins with, and of its crossings.
        enumerated: the size of the largest space that is enumerated.
    """
    if space.size <= enumerated:
        rows = space.unrank(np.arange(space.size))
        values = points(rows)
        kept = nondominated(values)
        return Found(rows[kept], values[kept], len(rows), exhaustive=True)
    return _LocalSearch(space, points, seed).run()


class _LocalSearch:
    """Of the architectures seen so far, those that none dominates."""

    def __init__(self, space: SearchSpace, points: Points, seed: int) -> None:
        self._space, self._evaluate = space, points
        self._random = np.random.default_rng(seed)
        self._known: set[bytes] = set()
        start = space.unrank(space.sample(min(START, space.size), seed))
        self._rows, self._points = start[:0], points(start[:1])[:0]
        self._visited = np.zeros(0, dtype=bool)
        self._look(start)

    def run(self) -> Found:
        while len(self._known) < EVALUATIONS and not self._visited.all():
            new = np.flatnonzero(~self._visited)
            if len(new) > AT_ONCE:
                by_first = new[np.argsort(self._points[new, 0], kind="stable")]
                new = by_first[np.linspace(0, len(new) - 1, AT_ONCE).round().astype(int)]
            self._visited[new] = True
            near = neighbours(self._space, self._rows[new]).reshape(-1, self._space.num_edges)
            self._look(np.concatenate([near, self._crossed(len(near))]))
        return Found(self._rows, self._points, len(self._known), exhaustive=False)

    def _crossed(self, n: int) -> ChoiceMatrix:
        """Each group of edges from one of two members of the front."""
        first, second = self._random.integers(len(self._rows), size=(2, n))
        rows = self._rows[first]
        for group in self._space.groups:
            other = np.flatnonzero(self._random.random(n) < 0.5)
            columns = np.array(group.edges)
            rows[other[:, None], columns] = self._rows[second[other]][:, columns]
        return rows

    def _look(self, rows: ChoiceMatrix) -> None:
        """Evaluate those that are new, and keep what none dominates."""
        new = []
        for index, row in enumerate(rows):
            key = row.tobytes()
            if key not in self._known:
                self._known.add(key)
                new.append(index)
        if not new:
            return
        self._rows = np.concatenate([self._rows, rows[new]])
        self._points = np.concatenate([self._points, self._evaluate(rows[new])])
        self._visited = np.concatenate([self._visited, np.zeros(len(new), dtype=bool)])
        kept = nondominated(self._points)
        self._rows, self._points = self._rows[kept], self._points[kept]
        self._visited = self._visited[kept]
