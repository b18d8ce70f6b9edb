"""A small space, and costs of it made by formula."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latkit.search.objectives import LinearObjective, Objective
from latkit.spaces import ChoiceMatrix, Edge, Group, SearchSpace

# Groups without a choice of sets, with one, and with one of another size; 1,458 architectures.
SMALL = SearchSpace(
    "small",
    ["none", "a", "b", "c"],
    [1, 2, 3],
    [Edge(0, 2), Edge(1, 2), Edge(0, 3), Edge(1, 3), Edge(2, 3), Edge(2, 4), Edge(3, 4)],
    [Group((0, 1), 2), Group((2, 3, 4), 2), Group((5, 6), 1)],
)


def everything(space: SearchSpace) -> ChoiceMatrix:
    """Every architecture."""
    return space.unrank(np.arange(space.size))


def linear_objective(seed: int = 0, space: SearchSpace = SMALL) -> LinearObjective:
    entries = torch.rand(
        space.encoding_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return LinearObjective("latency_ms", "ms", entries, 2.0)


class CurvedObjective(Objective):
    """A sigmoid network, far from linear, positive."""

    quantity, unit = "latency_ms", "ms"

    def __init__(self, seed: int = 0, space: SearchSpace = SMALL) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._first = torch.randn(space.encoding_size, 32, generator=generator)
        self._second = torch.randn(32, generator=generator)

    def __call__(self, encodings: Tensor) -> Tensor:
        hidden = (encodings @ self._first.to(encodings) * 0.7).sigmoid()
        return 20 + hidden @ self._second.to(encodings)
