"""All operations on all edges that leave one state of a cell.

What edges of one source have in common is computed once: the ReLU, both pools and their norms, the
pixel phases for dilated convolutions. Parameters are stacked by edge, and executed a few edges at a
time, side by side in one convolution: on a CPU just so many that vectors are full, on a GPU all of
them, for few launches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latkit.search.supernet.functions import (
    Running,
    Statistics,
    Sum,
    batch_norm,
    depthwise,
    from_phases,
    fused,
    images_of,
    interleave,
    mix,
    norm,
    pointwise_norm,
    repeat,
    rows_of,
    to_phases,
)

# Kernel side of the convolutions.
SEPARABLE = {"sep_conv_3x3": 3, "sep_conv_5x5": 5}
DILATED = {"dil_conv_3x3": 3, "dil_conv_5x5": 5}
POOLS = ("max_pool_3x3", "avg_pool_3x3")
SKIP = "skip_connect"
# Channels side by side on a CPU: a convolution computes 16 at once, and each call costs something.
CPU_WIDTH = 64
LOOP_CHANNELS = 16


class NodeSum:
    """What has been added up in a node so far.

    Attributes:
        plain: pixels in the order of images.
        phased: pixels in the order of :func:`to_phases`.
        rest: ``N x *``, channels that pass the operations by (PC-DARTS).
    """

    def __init__(self) -> None:
        self.plain, self.phased = Sum(), Sum()
        self.rest: Tensor | None = None

    def total(self, batch: int, height: int, width: int) -> Tensor:
        """All of it, ``N x C`` rows; channels are shuffled where some have passed by."""
        whole = together(self.plain, self.phased, batch, height, width)
        assert whole.rows is not None
        rows = whole.rows
        if whole.shifts:
            rows = rows + torch.stack(whole.shifts).sum(0)
        return rows if self.rest is None else interleave(rows, self.rest)


def together(plain: Sum, phased: Sum, batch: int, height: int, width: int) -> Sum:
    """Two sums in one, with pixels in the order of images."""
    whole = Sum(plain.rows)
    whole.shifts = plain.shifts + phased.shifts
    if phased.rows is not None:
        whole.add(from_phases(phased.rows, batch, height, width))
    return whole


@dataclass
class EdgeWeights:
    """Mixture weights of a source's k edges, cut up once for all cells of a type.

    Attributes:
        linear: ``k x J``, of the pools and the skip (none where the stride is 2).
        others: of each other operation by name, ``k``-dim.
    """

    linear: Tensor
    others: dict[str, Tensor]

    @classmethod
    def of(cls, weights: Tensor, operations: Sequence[str], stride: int) -> EdgeWeights:
        """Args: weights: ``k x O``."""
        columns = weights.unbind(1)
        names = linear_names(operations, stride)
        return cls(
            torch.stack([columns[operations.index(name)] for name in names], dim=1),
            {
                name: column
                for name, column in zip(operations, columns, strict=True)
                if name not in names and name != "none"
            },
        )


def linear_names(operations: Sequence[str], stride: int) -> list[str]:
    """Operations without parameters."""
    names = [name for name in operations if name in POOLS]
    return names + ([SKIP] if SKIP in operations and stride == 1 else [])


class Norms(nn.Module):
    """Running statistics of a batch norm for each of k edges."""

    mean: Tensor
    var: Tensor

    def __init__(self, edges: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(edges, channels))
        self.register_buffer("var", torch.ones(edges, channels))

    def of(self, first: int, edges: int = 1) -> Running:
        """Of some edges side by side."""
        chosen = slice(first, first + edges)
        return Running(self.mean[chosen].view(-1), self.var[chosen].view(-1))


class Stage(nn.Module):
    """Depthwise convolution, 1x1 convolution and batch norm, for k edges.

    Attributes:
        depthwise: ``k x C x 1 x side x side``.
        pointwise: ``k x C x C``.
    """

    def __init__(self, edges: int, channels: int, side: int) -> None:
        super().__init__()
        self.depthwise = nn.Parameter(uniform((edges, channels, 1, side, side), side * side))
        self.pointwise = nn.Parameter(uniform((edges, channels, channels), channels))
        self.norms = Norms(edges, channels)

    def parts(self, width: int) -> list[Part]:
        """The stage for ``width`` edges at a time."""
        # Split at once: a slice at a time would have its gradient padded to all edges.
        pairs = zip(self.depthwise.split(width), self.pointwise.split(width), strict=True)
        return [
            Part(spatial.flatten(0, 1), mixing, self.norms.of(index * width, len(mixing)))
            for index, (spatial, mixing) in enumerate(pairs)
        ]


@dataclass
class Part:
    """A stage of g edges side by side.

    Attributes:
        depthwise: ``gC x 1 x side x side``.
        pointwise: ``g x C x C``.
    """

    depthwise: Tensor
    pointwise: Tensor
    running: Running

    def __call__(
        self,
        x: Tensor,
        how: Statistics,
        stride: int = 1,
        dilation: int = 1,
        scale: Tensor | None = None,
        total: Sum | None = None,
    ) -> Tensor | None:
        """From ``B x gC x H x W`` to ``N x gC`` rows; see :func:`pointwise_norm`."""
        d = depthwise(x, self.depthwise, stride, dilation)
        groups = len(self.pointwise)
        if fused(x):
            each = self.pointwise.unbind()
            weight = each[0] if groups == 1 else torch.block_diag(*each)
            return pointwise_norm(rows_of(d), weight, self.running, how, scale, total)
        z = F.conv2d(d, self.pointwise.flatten(0, 1)[:, :, None, None], groups=groups)
        return norm(rows_of(z), self.running, how, scale, total)


class SourceMix(nn.Module):
    """The operations of the k edges that leave one source.

    Args:
        operations: the space's, in the order of the mixture weights.
        edges: k.
        channels: C.
        stride: of the edges.
        width: edges executed at a time; None: what is best where it runs.
    """

    def __init__(
        self,
        operations: Sequence[str],
        edges: int,
        channels: int,
        stride: int,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.operations = tuple(operations)
        self.edges, self.channels, self.stride = edges, channels, stride
        self.width = width
        self.separable = nn.ModuleDict(
            {
                name: nn.ModuleList(Stage(edges, channels, side) for _ in range(2))
                for name, side in SEPARABLE.items()
                if name in operations
            }
        )
        self.dilated = nn.ModuleDict(
            {
                name: Stage(edges, channels, side)
                for name, side in DILATED.items()
                if name in operations
            }
        )
        self.pools = nn.ModuleDict({n: Norms(1, channels) for n in operations if n in POOLS})
        self.halves: nn.Parameter | None = None
        if SKIP in operations and stride == 2:
            # Of each edge's factorized reduction: two 1x1 convolutions to C/2 channels.
            shape = (edges, 2, channels // 2, channels)
            self.halves = nn.Parameter(uniform(shape, channels))
            self.skip_norms = Norms(edges, channels)

    def forward(
        self, x: Tensor, weights: EdgeWeights, sums: Sequence[NodeSum], how: Statistics
    ) -> None:
        """Add to the sums of the k targets.

        Args:
            x: ``B x C x H x W``, channels_last.
        """
        self._linear(x, weights.linear, sums, how)
        relu = x.relu()
        if self.halves is not None:
            self._reduce(relu, self.halves, weights, sums, how)
        self._convolve(relu, weights, sums, how)

    def _linear(self, x: Tensor, weights: Tensor, sums: Sequence[NodeSum], how: Statistics) -> None:
        """Pools and, with stride 1, the skip."""
        terms = []
        for name in linear_names(self.operations, self.stride):
            term = x
            if name == "max_pool_3x3":
                term = F.max_pool2d(x, 3, self.stride, padding=1)
            elif name == "avg_pool_3x3":
                term = F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=False)
            if name in POOLS:
                norms = self.pools[name]
                assert isinstance(norms, Norms)
                term = batch_norm(term, norms.of(0), how)
            terms.append(rows_of(term))
        totals = mix(terms, weights, [node.plain.rows for node in sums])
        for node, total in zip(sums, totals, strict=True):
            node.plain.rows = total

    def _reduce(
        self,
        relu: Tensor,
        halves: Tensor,
        weights: EdgeWeights,
        sums: Sequence[NodeSum],
        how: Statistics,
    ) -> None:
        """Factorized reductions: both halves are one product of pixels (0, 0) and (1, 1)."""
        pixels = torch.cat([rows_of(relu[:, :, ::2, ::2]), rows_of(relu[:, :, 1::2, 1::2])], 1)
        for edge, (node, scale) in enumerate(zip(sums, weights.others[SKIP].unbind(), strict=True)):
            weight = torch.block_diag(halves[edge, 0], halves[edge, 1])
            running = self.skip_norms.of(edge)
            pointwise_norm(pixels, weight, running, how, scale, node.plain)

    def _convolve(
        self, relu: Tensor, weights: EdgeWeights, sums: Sequence[NodeSum], how: Statistics
    ) -> None:
        batch, _, height, width = relu.shape
        inside = (batch, height // self.stride, width // self.stride)
        every = self.edges if relu.device.type != "cpu" else self._edges_on_a_cpu()
        every = min(self.edges, self.width or every)
        separable = {
            name: [stage.parts(every) for stage in stages]  # type: ignore[attr-defined]
            for name, stages in self.separable.items()
        }
        dilated = {name: stage.parts(every) for name, stage in self.dilated.items()}  # type: ignore[operator]
        scales = {name: weights.others[name].split(every) for name in (*separable, *dilated)}
        wide: dict[int, tuple[Tensor, Tensor, int, bool]] = {}
        for index, first in enumerate(range(0, self.edges, every)):
            nodes = sums[first : first + every]
            alone = len(nodes) == 1
            plain, phases = (nodes[0].plain, nodes[0].phased) if alone else (Sum(), Sum())
            if len(nodes) not in wide:
                x = repeat(relu, len(nodes))
                wide[len(nodes)] = x, *self._undilated(x)
            x, undilated, dilation, phased = wide[len(nodes)]
            for name, stages in separable.items():
                scale = self._channelwise(scales[name][index])
                inner = stages[0][index](x, how, self.stride)
                assert inner is not None
                stages[1][index](images_of(inner, *inside), how, scale=scale, total=plain)
            for name, parts in dilated.items():
                scale = self._channelwise(scales[name][index])
                total = phases if phased else plain
                parts[index](undilated, how, 1, dilation, scale, total)
            if alone or not (separable or dilated):
                continue
            whole = together(plain, phases, *inside)
            assert whole.rows is not None
            for node, part in zip(nodes, whole.rows.split(self.channels, 1), strict=True):
                node.plain.add(part)
            if whole.shifts:
                shifts = torch.stack(whole.shifts).sum(0).split(self.channels)
                for node, shift in zip(nodes, shifts, strict=True):
                    node.plain.shifts.append(shift)

    def _channelwise(self, scale: Tensor) -> Tensor:
        return scale if len(scale) == 1 else scale.repeat_interleave(self.channels)

    def _undilated(self, relu: Tensor) -> tuple[Tensor, int, bool]:
        """What the dilated convolutions read with stride 1: ``x``, dilation, whether in phases."""
        if self.stride == 2:
            # They read every second pixel, from the first on, and nothing else.
            return relu[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), 1, False
        if relu.shape[2] % 2 or relu.shape[3] % 2:
            return relu, 2, False
        return to_phases(relu), 1, True

    def _edges_on_a_cpu(self) -> int:
        return 1 if self.channels >= LOOP_CHANNELS else max(1, CPU_WIDTH // self.channels)


def uniform(shape: tuple[int, ...], fan_in: int) -> Tensor:
    """As PyTorch initialises convolutions."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(shape).uniform_(-bound, bound)
