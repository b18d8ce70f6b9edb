"""The architectures that no other one dominates: by enumeration, or by local search.

In a large space a Pareto local search (Paquete, Chiarandini and Stützle 2004) is used: of the
architectures found so far that none dominates, those not yet visited are visited, a few at once,
spread over the front; all their neighbours are evaluated, and as many crossings of two members of
the front. It ends when all have been visited or the evaluations are used up. It begins with random
architectures, and with those that would be best in many directions if every number were a sum over
operations, which is fitted to the random ones: accuracies and costs nearly are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latkit.lpm.base import FloatArray
from latkit.search.decode import neighbours, strongest
from latkit.search.retarget.indicators import nondominated
from latkit.spaces import ChoiceMatrix, SearchSpace

# Spaces that are not larger are enumerated: some seconds of any LPM.
ENUMERATED = 200_000
# Of the local search: architectures drawn at random and directions to begin with, architectures
# visited at once, and evaluated in all.
START, DIRECTIONS = 2048, 32
AT_ONCE = 16
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
        start = space.unrank(space.sample(min(START, space.size), seed))
        self._known = {row.tobytes() for row in start}
        values = points(start)
        self._rows, self._points, self._visited = start[:0], values[:0], np.zeros(0, dtype=bool)
        self._add(start, values)
        self._look(self._best_of_sums(start, values))

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

    def _best_of_sums(self, rows: ChoiceMatrix, values: FloatArray) -> ChoiceMatrix:
        """The best in many directions, if the values were sums over operations."""
        space, choices = self._space, list(self._space.choices)
        encodings = space.encode(rows).astype(np.float64)
        scale = np.maximum(values.std(0), 1e-300)
        sums = np.linalg.lstsq(
            encodings - encodings.mean(0), (values - values.mean(0)) / scale, rcond=1e-9
        )[0]
        count = values.shape[1]
        directions = self._random.dirichlet(np.ones(count), DIRECTIONS)
        best = []
        for direction in (*np.eye(count), *directions):
            table = np.full((space.num_edges, space.num_operations), -np.inf)
            table[:, choices] = -(sums @ direction).reshape(table.shape)[:, choices]
            best.append(strongest(space, table))
        return np.stack(best)

    def _crossed(self, n: int) -> ChoiceMatrix:
        """Each group of edges from one of two members of the front."""
        first, second = self._random.integers(len(self._rows), size=(2, n))
        rows: ChoiceMatrix = self._rows[first]
        for group in self._space.groups:
            other = np.flatnonzero(self._random.random(n) < 0.5)
            columns = np.array(group.edges)
            rows[other[:, None], columns] = self._rows[second[other]][:, columns]
        return rows

    def _look(self, rows: ChoiceMatrix) -> None:
        """Evaluate those that are new."""
        new = []
        for index, row in enumerate(rows):
            key = row.tobytes()
            if key not in self._known:
                self._known.add(key)
                new.append(index)
        if new:
            self._add(rows[new], self._evaluate(rows[new]))

    def _add(self, rows: ChoiceMatrix, values: FloatArray) -> None:
        """Keep what none dominates."""
        self._rows = np.concatenate([self._rows, rows])
        self._points = np.concatenate([self._points, values])
        self._visited = np.concatenate([self._visited, np.zeros(len(rows), dtype=bool)])
        kept = nondominated(self._points)
        self._rows, self._points = self._rows[kept], self._points[kept]
        self._visited = self._visited[kept]
