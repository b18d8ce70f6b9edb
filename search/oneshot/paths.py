"""Which sub-network, a path, is trained in which step: each operation equally often.

Strict fairness (Chu et al. 2021, FairNAS, section 3.2): of as many successive paths as an edge has
operations, each operation is on exactly one. Where architectures keep some of the edges into a node
only (DARTS), these are dealt out likewise, and it is of as many paths that keep the edge.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from latkit.spaces import ChoiceMatrix, SearchSpace
from latkit.spaces.analytic import ABSENT
from latkit.spaces.base import Group

# What is drawn, in a generator's seed.
_EDGES, _OPERATIONS = 0, 1


class FairPaths:
    """An endless list of paths, each a function of the seed and its number alone.

    Args:
        space: of the architectures.
        seed: of the list.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space, self._seed = space, seed
        self._choices = np.asarray(space.choices, dtype=np.int8)

    def row(self, number: int) -> ChoiceMatrix:
        """The path of a number, counted from 0; a row of a choice matrix."""
        row: ChoiceMatrix = np.full(self._space.num_edges, ABSENT, dtype=np.int8)
        for index, group in enumerate(self._space.groups):
            for edge, visit in self._kept(index, group, number):
                round_, place = divmod(visit, len(self._choices))
                order = self._permutation(len(self._choices), _OPERATIONS, edge, round_)
                row[edge] = self._choices[order[place]]
        return row

    def _kept(self, index: int, group: Group, number: int) -> list[tuple[int, int]]:
        """The edges of a group that a path keeps, and how many paths before have kept each.

        A round deals all edges out, as often as it takes to come out even: 4 edges to 2 paths of 2,
        5 edges twice to 5 paths.
        """
        edges, keep = len(group.edges), group.keep
        if edges == keep:
            return [(edge, number) for edge in group.edges]
        paths = edges // math.gcd(edges, keep)
        round_, place = divmod(number, paths)
        order = self._permutation(edges, _EDGES, index, round_)
        dealt = np.arange(place * keep, (place + 1) * keep)
        # All edges before this one in the round's deal, and all rounds before.
        earlier = round_ * (paths * keep // edges) + dealt // edges
        return [
            (group.edges[order[deal % edges]], int(visit))
            for deal, visit in zip(dealt.tolist(), earlier, strict=True)
        ]

    def _permutation(self, n: int, what: int, index: int, round_: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng((self._seed, what, index, round_)).permutation(n)
