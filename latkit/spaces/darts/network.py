"""Whole networks of two cells: the CIFAR and ImageNet macros of the DARTS family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from latkit.core.errors import InputError
from latkit.networks.make import Make, construct
from latkit.networks.operations import FactorizedReduce, ReLUConvBN, build_operation, drop_path
from latkit.spaces.darts.config import CellPlace, DartsConfig
from latkit.spaces.darts.genotype import Genotype

if TYPE_CHECKING:
    from latkit.networks.onnx_model import OnnxGraph


class Cell(nn.Module):
    """One cell: two inputs, two operations a node, chosen nodes concatenated."""

    def __init__(self, genotype: Genotype, place: CellPlace, make: Make = construct) -> None:
        super().__init__()
        c, reduction = place.channels, place.reduction
        first = FactorizedReduce if place.after_reduction else ReLUConvBN
        self.preprocess0 = make(first, place.c_prev_prev, c)
        self.preprocess1 = make(ReLUConvBN, place.c_prev, c)
        connections = genotype.reduce if reduction else genotype.normal
        self.concat = genotype.reduce_concat if reduction else genotype.normal_concat
        self.sources = tuple(source for _, source in connections)
        self.operations = nn.ModuleList(
            make(build_operation, name, c, 2 if reduction and source < 2 else 1)
            for name, source in connections
        )

    def forward(self, s0: Tensor, s1: Tensor, drop_path_probability: float = 0.0) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(len(self.sources) // 2):
            terms = []
            for index in (2 * node, 2 * node + 1):
                operation = self.operations[index]
                term = operation(states[self.sources[index]])
                if (
                    self.training
                    and drop_path_probability > 0
                    and not isinstance(operation, nn.Identity)
                ):
                    term = drop_path(term, drop_path_probability)
                terms.append(term)
            states.append(terms[0] + terms[1])
        return torch.cat([states[node] for node in self.concat], dim=1)

    def to_onnx(self, graph: OnnxGraph, s0: str, s1: str) -> str:
        """Add the cell to an ONNX graph; its output's name."""
        states = [graph.module(self.preprocess0, s0), graph.module(self.preprocess1, s1)]
        for node in range(len(self.sources) // 2):
            terms = [
                graph.module(self.operations[index], states[self.sources[index]])
                for index in (2 * node, 2 * node + 1)
            ]
            states.append(graph.add("Add", *terms))
        return graph.add("Concat", *(states[node] for node in self.concat), axis=1)


class AuxiliaryHead(nn.Sequential):
    """The auxiliary classifier after the second reduction cell (training only).

    Expects a 7 or 8 pixel wide feature map, which the pooling and the 2x2 convolution bring
    to one pixel. The ImageNet head has no batch norm before its last ReLU, as in the reference
    code.
    """

    def __init__(self, network: DartsConfig, channels: int, side: int) -> None:
        imagenet = network.has_imagenet_stem
        stride = 2 if imagenet else 3
        if side < 5 or (side - 5) // stride != 1:
            raise InputError(
                f"the auxiliary head of {network.macro} cannot read a {side}x{side} feature map",
                "use the published resolution (224 for imagenet, 32 for cifar), or train without "
                "the head (--auxiliary-weight 0)",
            )
        norm: list[nn.Module] = [] if imagenet else [nn.BatchNorm2d(768)]
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride, padding=0, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *norm,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, network.classes),
        )


def imagenet_stem0(c: int) -> nn.Module:
    """Two convolutions of stride 2, to ``c`` channels."""
    return nn.Sequential(
        nn.Conv2d(3, c // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c // 2),
        nn.ReLU(),
        nn.Conv2d(c // 2, c, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c),
    )


def imagenet_stem1(c: int) -> nn.Module:
    """The third convolution of stride 2."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(c, c, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c)
    )


def cifar_stem(c: int, c_in: int = 3) -> nn.Module:
    """One convolution of images to three times ``c`` channels."""
    return nn.Sequential(nn.Conv2d(c_in, 3 * c, 3, padding=1, bias=False), nn.BatchNorm2d(3 * c))


class Network(nn.Module):
    """A genotype in a network: stem, stacked cells, global pooling, classifier.

    Args:
        genotype: the cells. Its own reduction cell is used; ``config.reduction`` matters only
            where a normal cell is completed to a genotype.
        config: macro, depth, width and classes.
        auxiliary: add the auxiliary head; ``forward`` then returns (logits, auxiliary logits)
            while training.
        drop_path_probability: see :func:`drop_path`; may be changed between epochs.
        make: how parts are made; the default constructs them.
    """

    def __init__(
        self,
        genotype: Genotype,
        config: DartsConfig,
        auxiliary: bool = False,
        drop_path_probability: float = 0.0,
        make: Make = construct,
    ) -> None:
        super().__init__()
        self.drop_path_probability = drop_path_probability
        if config.has_imagenet_stem:
            self.stem0 = make(imagenet_stem0, config.channels)
            self.stem1 = make(imagenet_stem1, config.channels)
        else:
            self.stem0 = make(cifar_stem, config.channels)
            self.stem1 = nn.Identity()
        self.cells = nn.ModuleList()
        self.auxiliary_index = 2 * config.cells // 3
        self.auxiliary_head: AuxiliaryHead | None = None
        widths = len(genotype.normal_concat), len(genotype.reduce_concat)
        for index, place in enumerate(config.walk(*widths)):
            self.cells.append(Cell(genotype, place, make))
            if auxiliary and index == self.auxiliary_index:
                channels = widths[place.reduction] * place.channels
                self.auxiliary_head = AuxiliaryHead(config, channels, place.side)
        self.classifier = make(nn.Linear, config.classifier_channels(*widths), config.classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        s0 = self.stem0(x)
        s1 = self.stem1(s0)
        auxiliary_logits = None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path_probability)
            if self.training and self.auxiliary_head is not None and index == self.auxiliary_index:
                auxiliary_logits = self.auxiliary_head(s1)
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits if auxiliary_logits is None else (logits, auxiliary_logits)

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        """Add the network in eval mode to an ONNX graph; the name of its logits."""
        s0 = graph.module(self.stem0, x)
        s1 = graph.module(self.stem1, s0)
        for cell in self.cells:
            assert isinstance(cell, Cell)
            s0, s1 = s1, cell.to_onnx(graph, s0, s1)
        return graph.module(self.classifier, graph.pooled(s1))
