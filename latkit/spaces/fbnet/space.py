"""The chain of FBNet: 22 layers, 9 choices each: 9^22 networks, more than fit 64 bits."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from latkit.core.errors import SpaceError
from latkit.spaces.analytic import AnalyticTable
from latkit.spaces.base import ChoiceMatrix, Edge, Group, SearchSpace
from latkit.spaces.fbnet.analytic import analytic_table
from latkit.spaces.fbnet.config import LAYERS, PRESETS, STEM_CHANNELS, FbnetConfig
from latkit.spaces.graph import Graph, row_graph
from latkit.spaces.registry import SPACES

# k: kernel, e: expansion, g2: grouped 1x1 convolutions; in the order of the published tables.
OPERATIONS = (
    "k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip",
)  # fmt: skip


@SPACES.register("fbnet")
class FbnetSpace(SearchSpace):
    """Networks written as in the published tables: 22 numbers from 0 to 8 (skip)."""

    config = FbnetConfig
    presets = PRESETS
    skip = "skip"
    parameter_free = ("skip",)

    def __init__(self) -> None:
        edges = [Edge(layer, layer + 1) for layer in range(LAYERS)]
        groups = [Group((i,), keep=1) for i in range(LAYERS)]
        super().__init__(
            "fbnet", OPERATIONS, range(len(OPERATIONS)), edges, groups, inputs=(0,),
            outputs=(LAYERS,),
        )  # fmt: skip

    def format(self, row: npt.ArrayLike) -> str:
        return " ".join(str(choice) for choice in self.validate(row)[0].tolist())

    def parse(self, text: str) -> ChoiceMatrix:
        # The public tables have lists of Python's, in one pair of brackets.
        bare = re.sub(r"^\s*(?:\[(.*)\]|\((.*)\))\s*$", r"\1\2", text, flags=re.DOTALL)
        parts = bare.replace(",", " ").split()
        if len(parts) != LAYERS or not all(part.isascii() and part.isdecimal() for part in parts):
            raise SpaceError(
                f"{text!r} is not an architecture of fbnet",
                f"write {LAYERS} numbers from 0 to {len(OPERATIONS) - 1}",
            )
        return self.validate(np.array([[min(int(part), 127) for part in parts]]))

    def graphs(self, cell: npt.ArrayLike) -> tuple[Graph, ...]:
        # Named by their channels, which no choice changes.
        channels = [place.c_out for place in FbnetConfig(resolution=224).walk()]
        return (row_graph(self, cell, "layers", [str(c) for c in (STEM_CHANNELS, *channels)]),)

    def analytic_table(self, network: FbnetConfig) -> AnalyticTable:
        return analytic_table(self.operations, self.num_edges, network)
