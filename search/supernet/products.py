"""Products of rows, and what can be written as one; depthwise convolutions and pools.

Each is what PyTorch's own would give, by the kernel that is fastest on a CPU; tests hold all to
1e-10 in double precision.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from latkit.search.supernet.layout import (
    apart,
    images_of,
    into_rows,
    rows_of,
    side_by_side,
)

# From so many rows, or multiplications, on, 1x1 convolutions beat BLAS at products of rows with
# small matrices. They are only given to oneDNN as a batch of so many images.
MANY_ROWS = 16384
MANY_PRODUCTS = 1 << 22
AS_IMAGES = 16
# Below this width BLAS is so slow that even a product apart and a sum is faster.
NARROW = 16
# To this width, PyTorch's pools leave most of a vector empty.
NARROW_POOL = 4


def on_cpu(x: Tensor) -> bool:
    """Whether to use what is best on a CPU."""
    return x.device.type == "cpu"


def fused(x: Tensor) -> bool:
    """Whether to use what is best on a CPU in full precision.

    (In half precision a variance by way of a covariance would lose too much.)
    """
    return on_cpu(x) and not torch.is_autocast_enabled("cpu")


# --- products ------------------------------------------------------------------------------------


def pointwise(rows: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution without bias: ``N x K`` rows and a ``C x K`` weight give ``N x C``."""
    if not fused(rows):
        return rows @ weight.T
    result: Tensor = _Product.apply(rows, weight)
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        of_rows, of_weight = ctx.needs_input_grad
        ctx.save_for_backward(rows if of_weight else None, weight if of_rows else None)
        return product(rows, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        to_rows = None if weight is None else product(gradient, weight.T)
        return to_rows, None if rows is None else gram(gradient, rows)


def product(rows: Tensor, weight: Tensor, shift: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + shift``, of ``N x K``, ``C x K`` and ``C``; without gradients."""
    if _by_onednn(rows, weight.numel()):
        return into_rows(F.conv2d(_as_images(rows), weight[:, :, None, None], shift))
    return rows @ weight.T if shift is None else torch.addmm(shift, rows, weight.T)


def add_product(total: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Add ``rows @ weight.T`` to ``N x C`` in place; without gradients."""
    if (len(weight) < NARROW or weight.shape[1] >= NARROW) and _by_onednn(rows, weight.numel()):
        return total.add_(product(rows, weight))
    return total.addmm_(rows, weight.T)


def gram(rows: Tensor, others: Tensor) -> Tensor:
    """``rows.T @ others``, of ``N x C`` and ``N x K``; without gradients."""
    if not (_by_onednn(rows, rows.shape[1] * others.shape[1]) and others.is_contiguous()):
        return rows.T @ others
    # It is the gradient of a 1x1 convolution's weight, whatever that weight is.
    weight = rows.new_empty(rows.shape[1], others.shape[1], 1, 1)
    return _convolution_gradient(
        _as_images(rows), _as_images(others), weight, 1, (0, 0), 1, of_x=False
    ).flatten(1)


def _by_onednn(rows: Tensor, weights: int) -> bool:
    """Whether its 1x1 convolution is the fastest product of rows with so many weights."""
    count = rows.shape[0]
    return (
        (count >= MANY_ROWS or count * weights >= MANY_PRODUCTS)
        and count % AS_IMAGES == 0
        and on_cpu(rows)
        and rows.is_contiguous()
    )


def _as_images(rows: Tensor) -> Tensor:
    return images_of(rows, AS_IMAGES, len(rows) // AS_IMAGES, 1)


def tiled(width: int, times: int, like: Tensor) -> Tensor:
    """The matrix whose product repeats ``width`` channels: ``times`` unit matrices in a column."""
    return torch.eye(width, dtype=like.dtype, device=like.device).repeat(times, 1)


def repeat(x: Tensor, times: int) -> Tensor:
    """The same channels several times side by side: ``B x kC x H x W``, channels_last."""
    if times == 1:
        return x
    rows = rows_of(x)
    # A product copies a few numbers a row faster than a copy does.
    rows = pointwise(rows, tiled(x.shape[1], times, x)) if fused(x) else rows.repeat(1, times)
    return images_of(rows, len(x), *x.shape[2:])


def interleave(rows: Tensor, rest: Tensor) -> Tensor:
    """The channel shuffle of PC-DARTS: of ``N x C/K`` and ``N x (K-1)C/K``, seen as K groups side
    by side, the first channels of all groups, then the second ones, and so on.
    """
    c, width = rows.shape[1], rows.shape[1] + rest.shape[1]
    if fused(rows) and width <= 2 * NARROW:  # as in :func:`repeat`
        places = torch.eye(width, dtype=rows.dtype).view(-1, c, width).transpose(0, 1)
        places = places.reshape(width, width)
        return pointwise(rows, places[:, :c]).add_(pointwise(rest, places[:, c:]))
    every = torch.cat([rows, rest], dim=1)
    return every.view(len(every), -1, c).transpose(1, 2).reshape(len(every), width)


# --- convolutions and pools ----------------------------------------------------------------------


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """A depthwise convolution that keeps ``H x W`` (or halves it).

    Args:
        x: ``B x C x H x W``.
        weight: ``C x 1 x k x k``.
    """
    side = weight.shape[-1]
    if side == 5 and dilation == 1 and on_cpu(x):
        result: Tensor = _Depthwise5.apply(x, weight, stride)
        return result
    return F.conv2d(x, weight, None, stride, dilation * (side // 2), dilation, len(weight))


class _Depthwise5(torch.autograd.Function):
    """A 5x5 one whose weight gradient is that of two of width 3.

    oneDNN (to 3.11 at least) has a fast kernel for the weight gradient of depthwise convolutions up
    to width 3 only; the general one it falls back to takes 13 times the forward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight)
        ctx.stride, ctx.shape, ctx.of_x = stride, x.shape, of_x
        return F.conv2d(x, weight, None, stride, 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        # An expanded or a plainly contiguous gradient would take oneDNN's slow way.
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        # Autocast left them as they were, and not every kernel takes two precisions.
        weight = weight.to(gradient.dtype)
        x = None if x is None else x.to(gradient.dtype)
        groups, to_x, to_weight = len(weight), None, None
        if ctx.of_x:
            like = x  # only its shape is looked at
            if like is None:
                like = torch.empty(
                    ctx.shape,
                    dtype=gradient.dtype,
                    device=gradient.device,
                    memory_format=torch.channels_last,
                )
            to_x = _convolution_gradient(
                gradient, like, weight, ctx.stride, (2, 2), groups, of_x=True
            )
        if x is not None:
            halves = [
                _convolution_gradient(
                    gradient, padded, weight[..., :3], ctx.stride, (2, 0), groups, of_x=False
                )
                for padded in _padded_left_and_right(x)
            ]
            # The middle column is in both.
            to_weight = torch.cat([halves[0], halves[1][..., 1:]], dim=-1)
        return to_x, to_weight, None


def _padded_left_and_right(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x`` with two empty columns on the left, and on the right: one memory, two pixels on."""
    b, c, h, w = x.shape
    pixels = x.new_empty(b * h * (w + 2) + 2, c)
    left = pixels[:-2].view(b, h, w + 2, c)
    left[:, :, :2].zero_()
    left[:, :, 2:].copy_(x.permute(0, 2, 3, 1))
    pixels[-2:].zero_()
    right = pixels[2:].view(b, h, w + 2, c)
    return left.permute(0, 3, 1, 2), right.permute(0, 3, 1, 2)


def _convolution_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: tuple[int, int],
    groups: int,
    of_x: bool,
) -> Tensor:
    """Of ``x``, or else of the weight."""
    mask = [of_x, not of_x, False]
    gradients = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, _pair(stride), padding, (1, 1), False, (0, 0), groups, mask
    )
    result: Tensor = gradients[0] if of_x else gradients[1]
    return result


def max_pool(x: Tensor, stride: int) -> Tensor:
    """3x3, channels_last."""
    if fused(x) and x.shape[1] <= NARROW_POOL and stride == 1:
        return apart(F.max_pool2d(side_by_side(x), 3, 1, padding=1), len(x))
    return F.max_pool2d(x, 3, stride, padding=1)


def average_pool(x: Tensor, stride: int) -> Tensor:
    """3x3, of the pixels that there are, channels_last.

    On a CPU a depthwise convolution sums them up many times faster than PyTorch's pool.
    """
    if not fused(x):
        return F.avg_pool2d(x, 3, stride, padding=1, count_include_pad=False)
    _, c, h, w = x.shape
    ones = x.new_ones(1, 1, 3, 3).expand(c, 1, 3, 3).contiguous()
    sums = F.conv2d(x, ones, None, stride, 1, 1, c)
    return sums * _shares(c, h, w, stride, x.dtype)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is made in inference mode could not be used for gradients later
def _shares(channels: int, height: int, width: int, stride: int, dtype: torch.dtype) -> Tensor:
    """One over how many pixels a 3x3 window covers: ``1 x C x H' x W'``, channels_last."""
    ones = torch.ones(1, 1, height, width, dtype=dtype)
    shares = 1 / F.conv2d(ones, ones.new_ones(1, 1, 3, 3), None, stride, 1)
    return shares.expand(1, channels, -1, -1).contiguous(memory_format=torch.channels_last)
