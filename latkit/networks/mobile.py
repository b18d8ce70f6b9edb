"""Bricks of networks for phones: depthwise convolutions in inverted residuals, channel shuffles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from latkit.networks.onnx_model import OnnxGraph


class ConvBN(nn.Sequential):
    """A convolution without bias and a batch norm, with a ReLU after it unless it is linear.

    It maps ``B x C x H x W`` to ``B x C' x H/s x W/s`` for stride ``s``.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        affine: bool = True,
        linear: bool = False,
    ) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
            # In place, as such networks are run: only the norm's output is overwritten.
            *([] if linear else [nn.ReLU(inplace=True)]),
        )


class ChannelShuffle(nn.Module):
    """Deals the channels out to as many groups in turn, so that groups mix (Zhang et al. 2018).

    Args:
        channels: of the input.
        groups: a divisor of them.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.channels, self.groups = channels, groups

    def forward(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(x, self.groups)

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        # The form that exporters write and runtimes recognise. In shapes of ONNX, 0 is the size
        # that the input has there: of the images first, of a row last, and -1 is what is left.
        split = graph.integers(0, self.groups, self.channels // self.groups, 0, -1)
        merged = graph.integers(0, self.channels, -1, 0)
        x = graph.add("Transpose", graph.add("Reshape", x, split), perm=[0, 2, 1, 3, 4])
        return graph.add("Reshape", x, merged)


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one and a linear 1x1 one (Sandler et al.
    2018), and their input added where they change no shape.

    Args:
        c_in, c_out: channels.
        kernel, stride: of the depthwise convolution.
        expansion: its channels over ``c_in``.
        groups: of both 1x1 convolutions; where there are several, channels are shuffled after the
            first one.
        affine: whether batch norms have parameters.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int,
        expansion: int,
        groups: int = 1,
        affine: bool = True,
    ) -> None:
        super().__init__()
        middle = expansion * c_in
        shuffle = [ChannelShuffle(middle, groups)] if groups > 1 else []
        self.branch = nn.Sequential(
            ConvBN(c_in, middle, groups=groups, affine=affine),
            *shuffle,
            ConvBN(middle, middle, kernel, stride, middle, affine),
            ConvBN(middle, c_out, groups=groups, affine=affine, linear=True),
        )
        self.has_residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.has_residual else branch

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        branch = graph.module(self.branch, x)
        return graph.add("Add", x, branch) if self.has_residual else branch
