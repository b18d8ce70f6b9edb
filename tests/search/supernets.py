"""Supernets without a search around them."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from latkit.search.config import preset
from latkit.search.decode import log_weights, strongest
from latkit.search.supernet import Supernet, get_supernet
from latkit.spaces import SearchSpace
from latkit.spaces.darts.genotype import Connections
from latkit.spaces.darts.space import DartsSpace


def build_supernet(
    method: str,
    space: SearchSpace,
    channels: int,
    cells: int | None,
    classes: int,
    image_channels: int = 3,
) -> Supernet:
    """The supernet of a method, initialised by PyTorch's global generator; None: usual cells."""
    supernet = get_supernet(method, space.name)
    usual = preset("paper", method, space.name)
    config = dataclasses.replace(usual, channels=channels, cells=cells or usual.cells)
    supernet.check(config)
    return supernet.build(space, config, classes, image_channels, 32)


def derive_cell(
    space: DartsSpace,
    alpha: Tensor,
    edge_weights: Tensor | None = None,
    max_skips: int | None = None,
) -> Connections:
    """The strongest cell of α, ``E x O``, as (operation, input) pairs."""
    return space.cell(strongest(space, log_weights(space, alpha, edge_weights), max_skips))
