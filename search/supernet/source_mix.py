"""All operations on all edges that leave one state of a cell.

What edges of one source have in common is computed once: the ReLU, both pools and their norms, the
pixel phases for dilated convolutions. Parameters are stacked by edge, and executed in one of two
ways: an edge at a time, or grouped, all edges side by side in one convolution, so that on a CPU
vectors are full and on a GPU launches are few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latkit.search.supernet.base import BatchNormMode
from latkit.search.supernet.layout import corners, images_of, rows_of, to_phases
from latkit.search.supernet.norms import (
    Running,
    batch_norm,
    norm,
    pointwise_norm,
)
from latkit.search.supernet.products import (
    average_pool,
    depthwise,
    fused,
    max_pool,
    on_cpu,
    pointwise,
    repeat,
    tiled,
)
from latkit.search.supernet.spread import spread
from latkit.search.supernet.sums import NodeSums, Pair, Sum, mix

# Kernel side of the convolutions.
SEPARABLE = {"sep_conv_3x3": 3, "sep_conv_5x5": 5}
DILATED = {"dil_conv_3x3": 3, "dil_conv_5x5": 5}
POOLS = ("max_pool_3x3", "avg_pool_3x3")
SKIP = "skip_connect"
# From so many channels on, an edge by itself fills a CPU's vectors,
LOOP_CHANNELS = 16
# but of so few pixels the time is mostly that of calls, which are fewer side by side.
FEW_ROWS = 4096


@dataclass
class EdgeWeights:
    """Mixture weights of a source's k edges, cut up once for all cells of a type.

    Attributes:
        linear: ``k x J``, of the pools and the skip (none where the stride is 2).
        others: of each other operation by name, ``k``-dim.
    """

    linear: Tensor
    others: dict[str, Tensor]
    _wide: dict[int, dict[str, Tensor]] = field(default_factory=dict)

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

    def wide(self, channels: int) -> dict[str, Tensor]:
        """The others, each for all channels of the edges side by side: ``kC``-dim, contiguous."""
        if channels not in self._wide:
            scales = torch.stack(list(self.others.values())).repeat_interleave(channels, 1)
            self._wide[channels] = dict(zip(self.others, scales.unbind(), strict=True))
        return self._wide[channels]


def best_grouped(channels: int, rows: int, device: torch.device) -> bool:
    """Whether edges of so many channels are faster side by side than one after the other.

    Args:
        rows: pixels of the nodes, of all images.
    """
    few = channels <= LOOP_CHANNELS and rows <= FEW_ROWS
    return device.type != "cpu" or channels < LOOP_CHANNELS or few


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

    def of(self, first: int, edges: int = 1, copies: int = 1) -> Running:
        """Of some edges side by side."""
        chosen = slice(first, first + edges)
        return Running(self.mean[chosen].view(-1), self.var[chosen].view(-1), copies)


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
        pairs = zip(_split(self.depthwise, width), _split(self.pointwise, width), strict=True)
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
        bn_mode: BatchNormMode,
        stride: int = 1,
        dilation: int = 1,
        scale: Tensor | None = None,
        total: Sum | None = None,
    ) -> Tensor | None:
        """From ``B x gC x H x W`` to ``N x gC`` rows; see :func:`pointwise_norm`."""
        d = depthwise(x, self.depthwise, stride, dilation)
        groups = len(self.pointwise)
        if fused(x):
            mixings = self.pointwise.unbind()
            weight = mixings[0] if groups == 1 else torch.block_diag(*mixings)
            return pointwise_norm(rows_of(d), weight, self.running, bn_mode, scale, total)
        z = F.conv2d(d, self.pointwise.flatten(0, 1)[:, :, None, None], groups=groups)
        return norm(rows_of(z), self.running, bn_mode, scale, total)


class SourceMix(nn.Module):
    """The operations of the k edges that leave one source.

    Args:
        operations: the space's, in the order of the mixture weights.
        edges: k.
        channels: C.
        stride: of the edges.
    """

    def __init__(self, operations: Sequence[str], edges: int, channels: int, stride: int) -> None:
        super().__init__()
        self.operations = tuple(operations)
        self.edges, self.channels, self.stride = edges, channels, stride
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
        self, x: Tensor, weights: EdgeWeights, sums: NodeSums, bn_mode: BatchNormMode
    ) -> None:
        """Add to the sums of the k targets; grouped, if they are.

        Args:
            x: ``B x C x H x W``, channels_last.
        """
        self._linear(x, weights.linear, sums, bn_mode)
        relu = x.relu()
        halves = None
        if self.stride == 2:
            # Dilated convolutions read every second pixel, from the first on, and nothing else.
            halves = corners(relu)
            undilated, dilation, phased = halves[0], 1, False
        elif relu.shape[2] % 2 or relu.shape[3] % 2:
            undilated, dilation, phased = relu, 2, False
        else:
            undilated, dilation, phased = to_phases(relu), 1, True
        if halves is not None and self.halves is not None:
            self._reduce(halves, self.halves, weights, sums, bn_mode)
        groups = self.edges // len(sums.pairs)
        self._separable(repeat(relu, groups), weights, sums.pairs, bn_mode)
        undilated = repeat(undilated, groups)
        for name, stage in self.dilated.items():
            for part, scale, pair in self._parts(name, stage, weights, sums.pairs):
                part(undilated, bn_mode, 1, dilation, scale, pair.phased if phased else pair.plain)

    def _linear(self, x: Tensor, weights: Tensor, sums: NodeSums, bn_mode: BatchNormMode) -> None:
        """Pools and, with stride 1, the skip."""
        terms = []
        for name in linear_names(self.operations, self.stride):
            term = x
            if name in POOLS:
                pool = max_pool if name == "max_pool_3x3" else average_pool
                term = pool(x, self.stride)
            terms.append((name, term))
        if sums.grouped and not on_cpu(x):
            rows = [rows_of(self._norm_of(name, term, bn_mode)) for name, term in terms]
            whole = sums.pairs[0].plain
            whole.rows = spread(rows, weights, whole.rows)
            return
        if sums.grouped:
            for (name, term), scale in zip(terms, weights.unbind(1), strict=True):
                self._spread(name, term, scale, sums.pairs[0].plain, bn_mode)
            return
        normal = [rows_of(self._norm_of(name, term, bn_mode)) for name, term in terms]
        totals = mix(normal, weights, [pair.plain.rows for pair in sums.pairs])
        for pair, total in zip(sums.pairs, totals, strict=True):
            pair.plain.rows = total

    def _spread(
        self, name: str, term: Tensor, scale: Tensor, total: Sum, bn_mode: BatchNormMode
    ) -> None:
        """Add one term to all targets side by side: a product that repeats it."""
        places = tiled(self.channels, self.edges, term)
        scale = self._channelwise(scale)
        if name in POOLS and fused(term):
            running = self.pools[name].of(0, copies=self.edges)  # type: ignore[operator]
            pointwise_norm(rows_of(term), places, running, bn_mode, scale, total)
        else:
            normal = rows_of(self._norm_of(name, term, bn_mode))
            total.add(pointwise(normal, scale[:, None] * places))

    def _norm_of(self, name: str, term: Tensor, bn_mode: BatchNormMode) -> Tensor:
        if name not in POOLS:
            return term
        return batch_norm(term, self.pools[name].of(0), bn_mode)  # type: ignore[operator]

    def _reduce(
        self,
        pixels: tuple[Tensor, Tensor],
        halves: Tensor,
        weights: EdgeWeights,
        sums: NodeSums,
        bn_mode: BatchNormMode,
    ) -> None:
        """Factorized reductions: both halves are one product of pixels (0, 0) and (1, 1)."""
        rows = torch.cat([rows_of(corner) for corner in pixels], 1)
        every = self.edges // len(sums.pairs)
        blocks = [torch.block_diag(*pair.unbind()) for pair in halves.unbind()]
        scales = self._scales(SKIP, weights, len(sums.pairs))
        for index, (pair, scale) in enumerate(zip(sums.pairs, scales, strict=True)):
            first = index * every
            weight = torch.cat(blocks[first : first + every])
            running = self.skip_norms.of(first, every)
            pointwise_norm(rows, weight, running, bn_mode, scale, pair.plain)

    def _separable(
        self, x: Tensor, weights: EdgeWeights, pairs: Sequence[Pair], bn_mode: BatchNormMode
    ) -> None:
        batch, _, height, width = x.shape
        inside = (batch, height // self.stride, width // self.stride)
        for name, (first, second) in self.separable.items():  # type: ignore[misc]
            begins = first.parts(self.edges // len(pairs))  # type: ignore[has-type]
            ends = self._parts(name, second, weights, pairs)  # type: ignore[has-type]
            for begin, (end, scale, pair) in zip(begins, ends, strict=True):
                inner = begin(x, bn_mode, self.stride)
                assert inner is not None
                end(images_of(inner, *inside), bn_mode, scale=scale, total=pair.plain)

    def _parts(
        self, name: str, stage: nn.Module, weights: EdgeWeights, pairs: Sequence[Pair]
    ) -> Iterator[tuple[Part, Tensor, Pair]]:
        """What adds to each pair: a part of a stage, and the scale of its channels."""
        assert isinstance(stage, Stage)
        scales = self._scales(name, weights, len(pairs))
        return zip(stage.parts(self.edges // len(pairs)), scales, pairs, strict=True)

    def _scales(self, name: str, weights: EdgeWeights, pairs: int) -> Sequence[Tensor]:
        """Of the channels that add to each of so many pairs."""
        if pairs == 1:
            return [weights.wide(self.channels)[name]]
        return list(map(self._channelwise, weights.others[name].split(self.edges // pairs)))

    def _channelwise(self, scale: Tensor) -> Tensor:
        return scale if len(scale) == 1 else scale.repeat_interleave(self.channels)


def _split(tensor: Tensor, width: int) -> Sequence[Tensor]:
    """Parts of a width; all of it as it is, whose gradient is then no copy."""
    return [tensor] if len(tensor) == width else tensor.split(width)


def uniform(shape: tuple[int, ...], fan_in: int) -> Tensor:
    """As PyTorch initialises convolutions."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(shape).uniform_(-bound, bound)
