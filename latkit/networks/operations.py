"""The operations of the DARTS family as PyTorch modules.

Every operation maps ``B x C x H x W`` to ``B x C x H/s x W/s`` for stride ``s``. Batch
normalisation is affine except where a supernet asks otherwise (DARTS, section 3: no affine
parameters while searching).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from latkit.core.errors import InputError


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zero whole samples of ``x`` with ``probability`` and rescale the rest (training only)."""
    keep = 1.0 - probability
    mask = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
    return x / keep * mask


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution (1x1 if not said otherwise), batch norm."""

    def __init__(
        self, c_in: int, c_out: int, affine: bool = True, kernel: int = 1, stride: int = 1
    ) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )


class FactorizedReduce(nn.Module):
    """Halves the resolution by two 1x1 convolutions of stride 2, one pixel apart.

    Input height and width must be even; ``c_out`` must be even.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        halves = torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1)
        return self.bn(halves)  # type: ignore[no-any-return]


class SepConv(nn.Sequential):
    """Depthwise-separable convolution applied twice; the stride is in the first."""

    def __init__(self, c: int, kernel: int, stride: int, affine: bool = True) -> None:
        def half(stride: int) -> list[nn.Module]:
            return [
                nn.ReLU(),
                nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c, bias=False),
                nn.Conv2d(c, c, 1, bias=False),
                nn.BatchNorm2d(c, affine=affine),
            ]

        super().__init__(*half(stride), *half(1))


class DilConv(nn.Sequential):
    """Depthwise-separable convolution with dilation 2, applied once."""

    def __init__(self, c: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c, c, kernel, stride, kernel - 1, dilation=2, groups=c, bias=False),
            nn.Conv2d(c, c, 1, bias=False),
            nn.BatchNorm2d(c, affine=affine),
        )


class Conv7x1_1x7(nn.Sequential):
    """A 1x7 and a 7x1 convolution; each carries one direction of the stride (AmoebaNet-A)."""

    def __init__(self, c: int, stride: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c, c, (1, 7), (1, stride), (0, 3), bias=False),
            nn.Conv2d(c, c, (7, 1), (stride, 1), (3, 0), bias=False),
            nn.BatchNorm2d(c, affine=affine),
        )


OPERATIONS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "max_pool_3x3": lambda c, s, affine: nn.MaxPool2d(3, s, padding=1),
    "avg_pool_3x3": lambda c, s, affine: nn.AvgPool2d(3, s, padding=1, count_include_pad=False),
    "skip_connect": lambda c, s, affine: (
        nn.Identity() if s == 1 else FactorizedReduce(c, c, affine)
    ),
    "sep_conv_3x3": lambda c, s, affine: SepConv(c, 3, s, affine),
    "sep_conv_5x5": lambda c, s, affine: SepConv(c, 5, s, affine),
    "sep_conv_7x7": lambda c, s, affine: SepConv(c, 7, s, affine),
    "dil_conv_3x3": lambda c, s, affine: DilConv(c, 3, s, affine),
    "dil_conv_5x5": lambda c, s, affine: DilConv(c, 5, s, affine),
    "conv_7x1_1x7": lambda c, s, affine: Conv7x1_1x7(c, s, affine),
}


def build_operation(name: str, channels: int, stride: int, affine: bool = True) -> nn.Module:
    """The module of an operation.

    Raises:
        InputError: there is no such operation.
    """
    if name not in OPERATIONS:
        raise InputError(f"unknown operation {name!r}", f"use one of: {', '.join(OPERATIONS)}")
    return OPERATIONS[name](channels, stride, affine)
