"""The DARTS cell: 4 intermediate nodes, 14 edges, 8 operations, 2 incoming edges a node.

Only the normal cell is a point of the space (paper, section 3.2); the reduction cell belongs
to the setting. Size: (1 * 3 * 6 * 10) * 7^8 = 1,037,664,180.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from latkit.core.errors import SpaceError
from latkit.spaces.analytic import ABSENT, AnalyticTable, Cost
from latkit.spaces.base import Architecture, ChoiceMatrix, Edge, Group, SearchSpace
from latkit.spaces.darts.analytic import analytic_table, network_cost
from latkit.spaces.darts.config import MIN_CELLS, PRESETS, TRAINED_IN, DartsConfig
from latkit.spaces.darts.drawing import cell_graph, draw_genotype
from latkit.spaces.darts.genotype import Connections, Genotype
from latkit.spaces.darts.zoo import find_genotype, get_genotype
from latkit.spaces.graph import Graph
from latkit.spaces.registry import SPACES
from latkit.spaces.setting import NetworkConfig

if TYPE_CHECKING:
    from torch import nn

    from latkit.networks.make import Make

# The published order, which is also the order of the columns of α.
OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
CONCAT = (2, 3, 4, 5)


@SPACES.register("darts")
class DartsSpace(SearchSpace):
    """The normal cells of DARTS, convertible to and from the field's genotypes."""

    config = DartsConfig
    presets = PRESETS
    skip = "skip_connect"
    parameter_free = ("skip_connect", "max_pool_3x3", "avg_pool_3x3")
    reference = "darts_v2"
    trained_in = TRAINED_IN
    has_drop_path = True
    has_auxiliary_head = True

    def __init__(self) -> None:
        edges = [Edge(source, target) for target in CONCAT for source in range(target)]
        groups = [
            Group(tuple(i for i, edge in enumerate(edges) if edge.target == target), keep=2)
            for target in CONCAT
        ]
        choices = [i for i, name in enumerate(OPERATIONS) if name != "none"]
        super().__init__("darts", OPERATIONS, choices, edges, groups, outputs=CONCAT)

    def cell(self, row: npt.ArrayLike) -> Connections:
        """The (operation, input) pairs of one architecture, two per node, by rising input."""
        array = self.validate(row)[0]
        return tuple(
            (self.operations[operation], edge.source)
            for edge, operation in zip(self.edges, array.tolist(), strict=True)
            if operation != ABSENT
        )

    def genotype(self, row: npt.ArrayLike, reduction: Genotype) -> Genotype:
        """The architecture with the reduction cell of ``reduction``."""
        return Genotype(self.cell(row), CONCAT, reduction.reduce, reduction.reduce_concat)

    def from_genotype(self, genotype: Genotype) -> ChoiceMatrix:
        """The normal cell of a genotype as a ``1 x 14`` choice matrix.

        Raises:
            SpaceError: the cell has other nodes, operations or a doubled edge (NASNet-A,
                AmoebaNet-A and PNAS are networks, but not points of this space).
        """
        fix = "use a cell with 4 nodes, concat 2-5, two distinct inputs a node and the 7 operations"
        self._check_cell("normal", genotype.normal)
        if sorted(genotype.normal_concat) != list(CONCAT):
            raise SpaceError(f"normal_concat {list(genotype.normal_concat)} is not 2 to 5", fix)
        row = np.full(self.num_edges, ABSENT, dtype=np.int8)
        for index, (operation, source) in enumerate(genotype.normal):
            edge = self.edges.index(Edge(source, index // 2 + 2))
            if row[edge] != ABSENT:
                raise SpaceError(f"node {index // 2 + 2} reads node {source} twice", fix)
            row[edge] = self.operations.index(operation)
        return self.validate(row)

    def check_cells(self, genotype: Genotype) -> None:
        """Refuse a genotype with other nodes or operations than the space's in either cell.

        Raises:
            SpaceError: a cell has more or fewer than four nodes, keeps ``none`` or has an operation
                that the space does not have.
        """
        self._check_cell("normal", genotype.normal)
        self._check_cell("reduce", genotype.reduce)

    def _check_cell(self, name: str, cell: Connections) -> None:
        if len(cell) != 2 * NODES:
            raise SpaceError(
                f"the {name} cell has {len(cell)} connections, which make {len(cell) // 2} nodes "
                f"(2 to {len(cell) // 2 + 1}); a DARTS cell has {NODES} (2 to {NODES + 1})",
                f"keep two connections a node, {2 * NODES} in all",
            )
        kept = [self.operations[choice] for choice in self.choices]
        for index, (operation, source) in enumerate(cell):
            if operation not in kept:
                close = difflib.get_close_matches(operation, kept, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise SpaceError(
                    f"node {index // 2 + 2} of the {name} cell has ('{operation}', {source}), and "
                    f"{operation} is not an operation that a DARTS cell keeps",
                    f"{hint}use one of {', '.join(kept)}",
                )

    # --- networks --------------------------------------------------------------------------

    def parse(self, text: str) -> ChoiceMatrix:
        if text.strip() and "|" not in text:
            return self.from_genotype(get_genotype(text))
        return super().parse(text)

    def draw(self, architecture: Genotype) -> str:
        return draw_genotype(architecture)

    def graphs(self, cell: Genotype | npt.ArrayLike) -> tuple[Graph, ...]:
        # A point of the space is a normal cell; both cells are known of a genotype alone.
        index = {(edge.source, edge.target): i for i, edge in enumerate(self.edges)}
        if not isinstance(cell, Genotype):
            return (cell_graph("normal cell", self.cell(cell), CONCAT, index),)
        normal = cell_graph("normal cell", cell.normal, cell.normal_concat, index)
        return normal, cell_graph("reduction cell", cell.reduce, cell.reduce_concat, {})

    def find(self, name: str) -> Genotype | None:
        return find_genotype(name)

    def architecture(self, row: npt.ArrayLike, network: NetworkConfig) -> Genotype:
        assert isinstance(network, DartsConfig)
        return self.genotype(row, get_genotype(network.reduction))

    def row_of(self, architecture: Architecture) -> ChoiceMatrix:
        assert isinstance(architecture, Genotype)
        return self.from_genotype(architecture)

    def build(self, architecture: Genotype, network: DartsConfig, make: Make) -> nn.Module:
        from latkit.spaces.darts.network import Network

        return Network(architecture, network, make=make)

    def build_for_training(
        self, architecture: Genotype, network: DartsConfig, auxiliary: bool
    ) -> nn.Module:
        from latkit.spaces.darts.network import Network

        return Network(architecture, network, auxiliary)

    def analytic_table(self, network: DartsConfig) -> AnalyticTable:
        return analytic_table(self.operations, self.num_edges, network)

    def cost(self, architecture: Genotype, network: DartsConfig) -> Cost:
        return network_cost(architecture, network)

    def anchor(self, network: DartsConfig) -> tuple[DartsConfig, str]:
        # 0.3 times as deep: as good a gauge of the machine's speed as one of full depth.
        cells = max(MIN_CELLS, round(0.3 * network.cells))
        return dataclasses.replace(network, cells=cells), f"cells={cells}"
