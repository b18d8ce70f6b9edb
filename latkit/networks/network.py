"""Whole networks of two cells: the CIFAR and ImageNet macros of the DARTS family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from latkit.errors import InputError
from latkit.networks.operations import FactorizedReduce, ReLUConvBN, build_operation
from latkit.networks.setting import Setting
from latkit.spaces.genotype import Genotype


class Make(Protocol):
    """How a network gets a part: ``make(constructor, *arguments)`` returns the module."""

    def __call__(self, constructor: Callable[..., nn.Module], *arguments: object) -> nn.Module: ...


def construct(constructor: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    """The plain way: call the constructor, with PyTorch's default initialisation."""
    return constructor(*arguments)


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zero whole samples of ``x`` with ``probability`` and rescale the rest (training only)."""
    keep = 1.0 - probability
    mask = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
    return x / keep * mask


class Cell(nn.Module):
    """One cell: two inputs, two operations a node, chosen nodes concatenated."""

    def __init__(
        self,
        genotype: Genotype,
        c_prev_prev: int,
        c_prev: int,
        c: int,
        reduction: bool,
        reduction_prev: bool,
        make: Make = construct,
    ) -> None:
        super().__init__()
        self.preprocess0 = make(FactorizedReduce if reduction_prev else ReLUConvBN, c_prev_prev, c)
        self.preprocess1 = make(ReLUConvBN, c_prev, c)
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


class AuxiliaryHead(nn.Sequential):
    """The auxiliary classifier after the second reduction cell (training only).

    Expects a 7 or 8 pixel wide feature map, which the pooling and the 2x2 convolution bring
    to one pixel. The ImageNet head has no batch norm before its last ReLU, as in print.
    """

    def __init__(self, macro: str, channels: int, side: int, classes: int) -> None:
        stride = 2 if macro == "imagenet" else 3
        if side < 5 or (side - 5) // stride != 1:
            raise InputError(
                f"the auxiliary head of {macro} cannot read a {side}x{side} feature map",
                "use the published resolution (224 for imagenet, 32 for cifar)",
            )
        norm: list[nn.Module] = [] if macro == "imagenet" else [nn.BatchNorm2d(768)]
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
            nn.Linear(768, classes),
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


def cifar_stem(c: int) -> nn.Module:
    """One convolution to three times ``c`` channels."""
    return nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False), nn.BatchNorm2d(3 * c))


class Network(nn.Module):
    """A genotype in a setting: stem, stacked cells, global pooling, classifier.

    Args:
        genotype: the cells. Its own reduction cell is used; ``setting.reduction`` matters only
            where a normal cell is completed to a genotype.
        setting: macro, depth, width and classes.
        auxiliary: add the auxiliary head; ``forward`` then returns (logits, auxiliary logits)
            while training.
        drop_path_probability: see :func:`drop_path`; may be changed between epochs.
        make: how parts are made; the default constructs them.
    """

    def __init__(
        self,
        genotype: Genotype,
        setting: Setting,
        auxiliary: bool = False,
        drop_path_probability: float = 0.0,
        make: Make = construct,
    ) -> None:
        super().__init__()
        self.drop_path_probability = drop_path_probability
        imagenet = setting.macro == "imagenet"
        c = setting.channels
        if imagenet:
            self.stem0 = make(imagenet_stem0, c)
            self.stem1 = make(imagenet_stem1, c)
            c_prev_prev = c_prev = c
        else:
            self.stem0 = make(cifar_stem, c)
            self.stem1 = nn.Identity()
            c_prev_prev = c_prev = 3 * c
        self.cells = nn.ModuleList()
        self.auxiliary_index = 2 * setting.cells // 3
        self.auxiliary_head: AuxiliaryHead | None = None
        reduction_prev = imagenet
        side = setting.resolution // (8 if imagenet else 1)
        for index in range(setting.cells):
            reduction = index in setting.reduction_indices
            if reduction:
                c *= 2
                side //= 2
            self.cells.append(
                Cell(genotype, c_prev_prev, c_prev, c, reduction, reduction_prev, make)
            )
            reduction_prev = reduction
            concat = genotype.reduce_concat if reduction else genotype.normal_concat
            c_prev_prev, c_prev = c_prev, len(concat) * c
            if auxiliary and index == self.auxiliary_index:
                self.auxiliary_head = AuxiliaryHead(setting.macro, c_prev, side, setting.classes)
        self.classifier = make(nn.Linear, c_prev, setting.classes)

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
