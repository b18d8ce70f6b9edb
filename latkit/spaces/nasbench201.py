"""The cell of NAS-Bench-201: 4 nodes, 6 edges, 5 operations, every edge kept: 15,625 cells."""

from __future__ import annotations

import random
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latkit.spaces.base import ChoiceMatrix, Edge, Group, IntArray, SearchSpace

# The order of the benchmark, which is also the order of the columns of α.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES = 4

# The benchmark numbers its cells by Python's shuffle of their lexicographic list with this seed.
_SHUFFLE_SEED = 88


class NasBench201Space(SearchSpace):
    """All cells of the benchmark; ``arch_id`` is the benchmark's own index of a cell."""

    def __init__(self) -> None:
        edges = [Edge(source, target) for target in range(1, NODES) for source in range(target)]
        groups = [Group((i,), keep=1) for i in range(len(edges))]
        choices = range(len(OPERATIONS))
        super().__init__(
            "nasbench201", OPERATIONS, choices, edges, groups, inputs=(0,), outputs=(NODES - 1,)
        )

    @cached_property
    def _lexicographic(self) -> IntArray:
        """Of each native index, the lexicographic one."""
        ids = list(range(self.size))
        random.Random(_SHUFFLE_SEED).shuffle(ids)
        return np.array(ids, dtype=np.int64)

    def unrank(self, arch_ids: npt.ArrayLike) -> ChoiceMatrix:
        return super().unrank(self._lexicographic[self._check_ids(arch_ids)])

    def rank(self, matrix: npt.ArrayLike) -> IntArray:
        native = np.empty_like(self._lexicographic)
        native[self._lexicographic] = np.arange(self.size)
        return np.asarray(native[super().rank(matrix)])
