"""The network of NAS-Bench-201 (Dong and Yang 2020, section 2.1, and the code beside it)."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from latkit.networks.make import Make, construct
from latkit.networks.operations import ReLUConvBN, build_operation, drop_path
from latkit.spaces.nasbench201.config import NasBench201Config
from latkit.spaces.nasbench201.space import INCOMING, NasBench201Cell

if TYPE_CHECKING:
    from latkit.networks.onnx_model import OnnxGraph


class Zero(nn.Module):
    """The operation ``none``: zeros, computed as the benchmark computes them."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        return graph.add("Mul", x, graph.zero())


def build_edge(name: str, channels: int, affine: bool = True) -> nn.Module:
    """The module of an operation of the space; it keeps channels and resolution."""
    if name == "none":
        return Zero()
    if name in ("nor_conv_1x1", "nor_conv_3x3"):
        return ReLUConvBN(channels, channels, affine, kernel=int(name[-1]))
    return build_operation(name, channels, 1, affine)


class NasBench201CellModule(nn.Module):
    """One cell: each node is the sum of what its incoming edges make of earlier nodes."""

    def __init__(self, cell: NasBench201Cell, channels: int, make: Make = construct) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make(build_edge, name, channels) for name in cell.operations)
        self.drop_path_probability = 0.0

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for edges in INCOMING:
            terms = [self._term(self.layers[index], nodes[source]) for index, source in edges]
            nodes.append(functools.reduce(operator.add, terms))
        return nodes[-1]

    def _term(self, layer: nn.Module, x: Tensor) -> Tensor:
        term: Tensor = layer(x)
        dropped = self.training and self.drop_path_probability > 0
        if dropped and not isinstance(layer, (nn.Identity, Zero)):
            return drop_path(term, self.drop_path_probability)
        return term

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        nodes = [x]
        for edges in INCOMING:
            terms = [graph.module(self.layers[index], nodes[source]) for index, source in edges]
            nodes.append(functools.reduce(lambda a, b: graph.add("Add", a, b), terms))
        return nodes[-1]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, beside pooling and a bare 1x1 convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, kernel=3, stride=2)
        self.conv_b = ReLUConvBN(c_out, c_out, kernel=3)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, stride=2, padding=0), nn.Conv2d(c_in, c_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(x) + self.conv_b(self.conv_a(x))  # type: ignore[no-any-return]

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        residual = graph.module(self.conv_b, graph.module(self.conv_a, x))
        return graph.add("Add", graph.module(self.downsample, x), residual)


def stem(c: int, c_in: int = 3) -> nn.Module:
    """One convolution of images to ``c`` channels."""
    return nn.Sequential(nn.Conv2d(c_in, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))


def norm_relu(c: int) -> nn.Module:
    """What stands between the last cell and the pooling."""
    return nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())


class NasBench201Network(nn.Module):
    """A cell in a network: stem, three stages of cells, global pooling, classifier.

    ``forward`` maps ``B x 3 x R x R`` to ``B x classes``.

    Args:
        cell: what every cell of the network is.
        config: depth, width and classes.
        make: how parts are made; the default constructs them.
    """

    def __init__(
        self, cell: NasBench201Cell, config: NasBench201Config, make: Make = construct
    ) -> None:
        super().__init__()
        c = config.channels
        self.stem = make(stem, c)
        # The residual blocks stand among the cells, as in the benchmark's code.
        self.cells = nn.ModuleList()
        for stage in config.walk():
            if stage.channels != c:
                self.cells.append(make(ResidualBlock, c, stage.channels))
            c = stage.channels
            self.cells.extend(NasBench201CellModule(cell, c, make) for _ in range(stage.cells))
        self.last = make(norm_relu, c)
        self.classifier = make(nn.Linear, c, config.classes)

    @property
    def drop_path_probability(self) -> float:
        """Of what an operation other than a skip makes of one image; see ``drop_path``."""
        return next(
            (c.drop_path_probability for c in self.cells if isinstance(c, NasBench201CellModule)),
            0.0,
        )

    @drop_path_probability.setter
    def drop_path_probability(self, probability: float) -> None:
        for cell in self.cells:
            if isinstance(cell, NasBench201CellModule):
                cell.drop_path_probability = probability

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        logits: Tensor = self.classifier(self.last(x).mean(dim=(2, 3)))
        return logits

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        """Add the network in eval mode to an ONNX graph; the name of its logits."""
        for part in (self.stem, *self.cells, self.last):
            x = graph.module(part, x)
        return graph.module(self.classifier, graph.pooled(x))
