"""The chain of FBNet: 22 layers, 9 choices each: 9^22 networks, more than fit 64 bits."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from latkit.core.errors import SpaceError
from latkit.spaces.analytic import AnalyticTable
from latkit.spaces.base import ChoiceMatrix, Edge, Group, SearchSpace
from latkit.spaces.fbnet.analytic import analytic_table
from latkit.spaces.fbnet.config import LAYERS, PRESETS, TRAINED_IN, FbnetConfig
from latkit.spaces.fbnet.layers import OPERATIONS, SKIP, FbnetLayers
from latkit.spaces.fbnet.zoo import ZOO, find_layers
from latkit.spaces.graph import Graph, row_graph
from latkit.spaces.registry import SPACES
from latkit.spaces.setting import NetworkConfig

if TYPE_CHECKING:
    from torch import nn

    from latkit.networks.make import Make


@SPACES.register("fbnet")
class FbnetSpace(SearchSpace):
    """Networks written as in the published tables: 22 numbers from 0 to 8 (skip)."""

    config = FbnetConfig
    presets = PRESETS
    trained_in = TRAINED_IN
    skip = SKIP
    parameter_free = (SKIP,)  # where it changes no shape
    # The published network that has every one of the nine operations.
    reference = "fbnet_a"

    def __init__(self) -> None:
        edges = [Edge(layer, layer + 1) for layer in range(LAYERS)]
        groups = [Group((i,), keep=1) for i in range(LAYERS)]
        super().__init__(
            "fbnet", OPERATIONS, range(len(OPERATIONS)), edges, groups, inputs=(0,),
            outputs=(LAYERS,),
        )  # fmt: skip

    def format(self, row: npt.ArrayLike) -> str:
        return str(self.layers(row))

    def parse(self, text: str) -> ChoiceMatrix:
        # The public tables have lists of Python's, in one pair of brackets.
        bare = re.sub(r"^\s*(?:\[(.*)\]|\((.*)\))\s*$", r"\1\2", text, flags=re.DOTALL)
        parts = bare.replace(",", " ").split()
        if len(parts) != LAYERS or not all(part.isascii() and part.isdecimal() for part in parts):
            raise SpaceError(
                f"{text!r} is not an architecture of fbnet",
                f"write {LAYERS} numbers from 0 to {len(OPERATIONS) - 1}, or one of the names "
                f"{', '.join(ZOO)}",
            )
        return self.validate(np.array([[min(int(part), 127) for part in parts]]))

    def layers(self, row: npt.ArrayLike) -> FbnetLayers:
        """The architecture of one row of a choice matrix."""
        return FbnetLayers(self.operations_of(row))

    def graphs(self, cell: FbnetLayers | npt.ArrayLike) -> tuple[Graph, ...]:
        row = self.row_of(cell) if isinstance(cell, FbnetLayers) else cell
        # Named by their channels as published.
        walk = [*FbnetConfig(resolution=224).walk()]
        channels = [walk[0].c_in, *(place.c_out for place in walk)]
        return (row_graph(self, row, "layers", [str(c) for c in channels]),)

    # --- networks --------------------------------------------------------------------------

    def find(self, name: str) -> FbnetLayers | None:
        return find_layers(name)

    def architecture(self, row: npt.ArrayLike, network: NetworkConfig) -> FbnetLayers:
        return self.layers(row)

    def build(self, architecture: FbnetLayers, network: FbnetConfig, make: Make) -> nn.Module:
        from latkit.spaces.fbnet.network import FbnetNetwork

        return FbnetNetwork(architecture, network, make)

    def analytic_table(self, network: FbnetConfig) -> AnalyticTable:
        return analytic_table(self.operations, self.num_edges, network)

    def anchor(self, network: FbnetConfig) -> tuple[FbnetConfig, str]:
        # Depth is fixed, and narrower layers would be other convolutions. On 0.57 times the pixels
        # of a side the same kernels run on the same weights, for a third of the multiply-adds.
        steps = max(1, round(0.57 * network.resolution / network.stride))
        resolution = steps * network.stride
        return dataclasses.replace(network, resolution=resolution), f"resolution={resolution}"
