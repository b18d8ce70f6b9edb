"""The supernet of PC-DARTS (Xu et al., 2020): partial channels and edge normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from latkit.search.optimizers import OptimizerConfig
from latkit.search.supernet.base import ALPHA_INIT_SCALE, SUPERNETS
from latkit.search.supernet.network import DartsSupernet


@SUPERNETS.register("pc-darts")
class PCDartsSupernet(DartsSupernet):
    """A quarter of the channels goes through the operations, the others pass by; then all are
    shuffled. Each edge has a weight of its own, the softmax of β over the edges into a node.
    """

    partial = 4
    # Section 4.1 of the paper.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "batch": 256,
            "warmup_epochs": 15,
            "optimizer": OptimizerConfig(arch_lr=6e-4, weight_lr=0.1),
        },
        "cpu": {"warmup_epochs": 1},
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        edges = self.space.num_edges
        self.beta_normal = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(edges))
        self.beta_reduce = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(edges))

    def edge_strength(self, name: str) -> Tensor:
        beta = self.beta_reduce if name == "reduce" else self.beta_normal
        # Edges are in the order of their nodes. (A list as an index would be copied to the device.)
        groups = beta.split([len(group.edges) for group in self.space.groups])
        return torch.cat([group.softmax(0) for group in groups])

    def architecture_parameters(self) -> list[nn.Parameter]:
        """α and β, each of the normal and of the reduction cell."""
        return [*super().architecture_parameters(), self.beta_normal, self.beta_reduce]
