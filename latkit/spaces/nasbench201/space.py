"""The cell of NAS-Bench-201: 4 nodes, 6 edges, 5 operations, every edge kept: 15,625 cells."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from latkit.core.errors import SpaceError
from latkit.spaces.analytic import AnalyticTable
from latkit.spaces.base import ChoiceMatrix, Edge, Group, IntArray, SearchSpace
from latkit.spaces.graph import Graph, row_graph
from latkit.spaces.nasbench201.analytic import analytic_table
from latkit.spaces.nasbench201.config import PRESETS, STAGES, TRAINED_IN, NasBench201Config
from latkit.spaces.registry import SPACES
from latkit.spaces.setting import NetworkConfig

if TYPE_CHECKING:
    from torch import nn

    from latkit.networks.make import Make

# The order of the benchmark, which is also the order of the columns of α.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES = 4
EDGES = tuple(Edge(source, target) for target in range(1, NODES) for source in range(target))
# Of each node but the first, the (index of the edge, source) pairs of its incoming edges.
INCOMING = tuple(
    tuple((i, edge.source) for i, edge in enumerate(EDGES) if edge.target == target)
    for target in range(1, NODES)
)

# The benchmark numbers its cells by Python's shuffle of their lexicographic list with this seed.
_SHUFFLE_SEED = 88


@dataclass(frozen=True)
class NasBench201Cell:
    """One cell, of which a whole network is made; its text is the benchmark's own.

    Attributes:
        operations: of each of the six edges, in the order of the space's edges.
    """

    operations: tuple[str, ...]
    space: ClassVar[str] = "nasbench201"

    def __post_init__(self) -> None:
        if len(self.operations) != len(EDGES) or not set(self.operations) <= set(OPERATIONS):
            raise SpaceError(
                f"{self.operations} are not the operations of a cell of nasbench201",
                f"name {len(EDGES)} of {', '.join(OPERATIONS)}",
            )

    def __str__(self) -> str:
        return "+".join(
            "|" + "|".join(f"{self.operations[i]}~{source}" for i, source in edges) + "|"
            for edges in INCOMING
        )


@SPACES.register("nasbench201")
class NasBench201Space(SearchSpace):
    """All cells of the benchmark; ``arch_id`` is the benchmark's own index of a cell."""

    config = NasBench201Config
    presets = PRESETS
    trained_in = TRAINED_IN
    has_drop_path = True
    skip = "skip_connect"
    parameter_free = ("none", "skip_connect", "avg_pool_3x3")
    # A cell known for its accuracy, hence of convolutions for the most part.
    reference = (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
        "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    )

    def __init__(self) -> None:
        groups = [Group((i,), keep=1) for i in range(len(EDGES))]
        choices = range(len(OPERATIONS))
        super().__init__(
            "nasbench201", OPERATIONS, choices, EDGES, groups, inputs=(0,), outputs=(NODES - 1,)
        )

    def cell(self, row: npt.ArrayLike) -> NasBench201Cell:
        """The architecture of one row of a choice matrix."""
        array = self.validate(row)[0]
        return NasBench201Cell(tuple(self.operations[choice] for choice in array.tolist()))

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

    def graphs(self, cell: NasBench201Cell | npt.ArrayLike) -> tuple[Graph, ...]:
        row = self.row_of(cell) if isinstance(cell, NasBench201Cell) else cell
        return (row_graph(self, row, "cell", ("input", "1", "2", "output")),)

    # --- networks --------------------------------------------------------------------------

    def architecture(self, row: npt.ArrayLike, network: NetworkConfig) -> NasBench201Cell:
        return self.cell(row)

    def build(
        self, architecture: NasBench201Cell, network: NasBench201Config, make: Make
    ) -> nn.Module:
        from latkit.spaces.nasbench201.network import NasBench201Network

        return NasBench201Network(architecture, network, make)

    def analytic_table(self, network: NasBench201Config) -> AnalyticTable:
        return analytic_table(self.operations, self.num_edges, network)

    def anchor(self, network: NasBench201Config) -> tuple[NasBench201Config, str]:
        # Rounded down: the stem and the blocks between the stages come on top, whatever the depth.
        cells = STAGES * max(1, network.cells // 10)
        return dataclasses.replace(network, cells=cells), f"cells={cells}"
