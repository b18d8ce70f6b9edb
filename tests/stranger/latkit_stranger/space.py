"""A space of 81 chains: four layers, three operations each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from latkit.networks.make import Make, construct
from latkit.spaces import Edge, Group, NetworkConfig, SearchSpace, Setting
from latkit.spaces.analytic import (
    COLUMNS,
    AnalyticTable,
    Cost,
    classifier_cost,
    conv_bn_cost,
    frame_row,
    operation_row,
)

OPERATIONS = ("conv_3x3", "conv_1x1", "skip")
LAYERS = 4


@dataclass(frozen=True, kw_only=True)
class ToyConfig(NetworkConfig):
    """The chain, repeated."""

    width: int
    repeats: int = 2
    space: ClassVar[str] = "toy"


@dataclass(frozen=True)
class Chain:
    """The operations of the four layers."""

    operations: tuple[str, ...]
    space: ClassVar[str] = "toy"

    def __str__(self) -> str:
        return "+".join(f"|{name}~{i}|" for i, name in enumerate(self.operations))


class ToySpace(SearchSpace):
    """Chains of four layers."""

    config = ToyConfig
    presets: ClassVar = {"toy": Setting(ToyConfig(resolution=8, classes=2, width=8))}
    skip = "skip"
    reference = "|conv_3x3~0|+|conv_1x1~1|+|conv_3x3~2|+|conv_1x1~3|"

    def __init__(self) -> None:
        super().__init__(
            "toy", OPERATIONS, range(3), [Edge(i, i + 1) for i in range(LAYERS)],
            [Group((i,), keep=1) for i in range(LAYERS)], inputs=(0,), outputs=(LAYERS,),
        )  # fmt: skip

    def architecture(self, row: npt.ArrayLike, network: NetworkConfig) -> Chain:
        return Chain(tuple(OPERATIONS[i] for i in self.validate(row)[0].tolist()))

    def build(self, architecture: Chain, network: ToyConfig, make: Make) -> nn.Module:
        return ToyNetwork(architecture, network, make)

    def analytic_table(self, network: ToyConfig) -> AnalyticTable:
        c, side = network.width, network.resolution
        touched = 4 * c * side * side
        rows = {
            "conv_3x3": operation_row(3, 1, conv_bn_cost(c, c, 3, side), touched),
            "conv_1x1": operation_row(3, 1, conv_bn_cost(c, c, 1, side), touched),
            "skip": operation_row(0, 0, Cost(), 0),
        }
        table = np.zeros((LAYERS, len(OPERATIONS), len(COLUMNS)))
        table += network.repeats * np.array([rows[name] for name in OPERATIONS])
        frame = conv_bn_cost(3, c, 3, side) + classifier_cost(c, network.classes)
        return AnalyticTable(frame_row(frame), table)

    def anchor(self, network: ToyConfig) -> tuple[ToyConfig, str]:
        return dataclasses.replace(network, repeats=1), "repeats=1"


def operation(name: str, c: int) -> nn.Module:
    if name == "skip":
        return nn.Identity()
    kernel = int(name[-1])
    return nn.Sequential(
        nn.Conv2d(c, c, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(c), nn.ReLU()
    )


def stem(c: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))


class ToyNetwork(nn.Module):
    """Plain PyTorch: it has no ONNX form of its own."""

    def __init__(self, chain: Chain, config: ToyConfig, make: Make = construct) -> None:
        super().__init__()
        self.stem = make(stem, config.width)
        self.layers = nn.ModuleList(
            make(operation, name, config.width)
            for _ in range(config.repeats)
            for name in chain.operations
        )
        self.classifier = make(nn.Linear, config.width, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
