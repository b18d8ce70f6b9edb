"""What the supernet's speed on a CPU rests on: few passes over memory, products of matrices.

Feature maps are handled as ``rows``: ``N x C`` matrices, a row a pixel (``N = B*H*W``), which is
the memory of a ``B x C x H x W`` tensor in channels_last.

Everything here computes what the plain modules compute; tests hold it to 1e-10 in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

EPS = 1e-5
MOMENTUM = 0.1
# From here on a product costs more than the passes over memory that folding a norm into it saves.
UNFOLDED_CHANNELS = 32


def fused(x: Tensor) -> bool:
    """Whether to use what is best on a CPU in full precision.

    (In half precision a variance by way of a covariance would lose too much.)
    """
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def rows_of(x: Tensor) -> Tensor:
    """``B x C x H x W`` as ``N x C`` rows: a view where ``x`` is channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def images_of(rows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`rows_of`, in channels_last."""
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


# --- pixel phases --------------------------------------------------------------------------------


def to_phases(x: Tensor) -> Tensor:
    """The four images of every second pixel: ``B x C x H x W`` to ``4B x C x H/2 x W/2``.

    A convolution of dilation 2 is an ordinary one on each of them.
    """
    b, c, h, w = x.shape
    cut = x.permute(0, 2, 3, 1).reshape(b, h // 2, 2, w // 2, 2, c)
    return cut.permute(2, 4, 0, 1, 3, 5).reshape(4 * b, h // 2, w // 2, c).permute(0, 3, 1, 2)


def from_phases(rows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Rows of phases, put back as rows of whole images."""
    c = rows.shape[1]
    cut = rows.view(2, 2, batch, height // 2, width // 2, c)
    return cut.permute(2, 3, 0, 4, 1, 5).reshape(-1, c)


# --- channels ------------------------------------------------------------------------------------


def repeat(x: Tensor, times: int) -> Tensor:
    """The same channels several times side by side: ``B x kC x H x W``, channels_last."""
    if times == 1:
        return x
    rows = rows_of(x)
    if fused(x):  # A product copies a few numbers a row faster than a copy does.
        rows = rows @ torch.eye(x.shape[1], dtype=x.dtype).repeat(1, times)
    else:
        rows = rows.repeat(1, times)
    return images_of(rows, len(x), *x.shape[2:])


def interleave(rows: Tensor, rest: Tensor) -> Tensor:
    """The channel shuffle of PC-DARTS: of ``N x C/K`` and ``N x (K-1)C/K``, seen as K groups side
    by side, the first channels of all groups, then the second ones, and so on.
    """
    c, width = rows.shape[1], rows.shape[1] + rest.shape[1]
    if fused(rows) and width < UNFOLDED_CHANNELS:  # as in :func:`repeat`
        order = torch.arange(width).view(-1, c).T.reshape(-1)
        places = torch.eye(width, dtype=rows.dtype)[:, order]
        return torch.addmm(rows @ places[:c], rest, places[c:])
    every = torch.cat([rows, rest], dim=1)
    return every.view(len(every), -1, c).transpose(1, 2).reshape(len(every), width)


# --- depthwise convolution -----------------------------------------------------------------------


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """A depthwise convolution that keeps ``H x W`` (or halves it).

    Args:
        x: ``B x C x H x W``.
        weight: ``C x 1 x k x k``.
    """
    side = weight.shape[-1]
    if side == 5 and dilation == 1 and x.device.type == "cpu":
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
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        # An expanded or a plainly contiguous gradient would take oneDNN's slow way.
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _convolution_gradients(gradient, x, weight, ctx.stride, (2, 2), True)
        if ctx.needs_input_grad[1]:
            halves = [
                _convolution_gradients(gradient, padded, weight[..., :3], ctx.stride, (2, 0), False)
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


def _convolution_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], of_x: bool
) -> Tensor:
    mask = [of_x, not of_x, False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, _pair(stride), padding, (1, 1), False, (0, 0), len(weight), mask
    )
    result: Tensor = found[0] if of_x else found[1]
    return result


# --- normalisation -------------------------------------------------------------------------------


@dataclass
class Statistics:
    """How a batch norm is to be done.

    Attributes:
        training: by the statistics of the batch, else by the running ones.
        track: a training pass moves the running statistics.
        group: processes whose batches are one (None: this one alone).
    """

    training: bool = True
    track: bool = True
    group: Any = None


@dataclass
class Running:
    """A batch norm's running mean and (unbiased) variance, each ``C``-dim, changed in place."""

    mean: Tensor
    var: Tensor

    @classmethod
    def of(cls, norm: torch.nn.BatchNorm2d) -> Running:
        """A module's."""
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        return cls(mean, var)

    def move(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Towards a batch's statistics."""
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.var.lerp_(var * (count / max(1, count - 1)), MOMENTUM)


def batch_norm(x: Tensor, running: Running, how: Statistics, scale: Tensor | None = None) -> Tensor:
    """Batch norm of ``B x C x H x W`` without parameters of its own; ``scale`` is ``C``-dim."""
    if how.training and how.group is not None:
        y = _synchronised_norm(x, running, how)
        return y if scale is None else y * scale.view(1, -1, 1, 1)
    # PyTorch (2.14, CPU, channels_last) takes a weight for contiguous whatever its strides.
    scale = None if scale is None else scale.contiguous()
    if scale is None and x.dtype in (torch.bfloat16, torch.float16):
        scale = running.mean.new_ones(x.shape[1])  # else the statistics too are in half precision
    if not how.training:
        return F.batch_norm(x, running.mean, running.var, scale, None, False, MOMENTUM, EPS)
    # The statistics of many norms are parts of one tensor, which autograd must not see change.
    y, mean, inverse = torch.native_batch_norm(x, scale, None, None, None, True, MOMENTUM, EPS)
    if how.track:
        running.move(mean.detach(), inverse.detach().pow(-2) - EPS, x.numel() // x.shape[1])
    return y


def _synchronised_norm(x: Tensor, running: Running, how: Statistics) -> Tensor:
    """By the statistics of all processes' batches (equal in size); gradients flow across them."""
    from torch.distributed.nn.functional import all_reduce

    wide = (1, -1, 1, 1)
    kind, x = x.dtype, x.float() if x.dtype == torch.bfloat16 else x
    world = dist.get_world_size(how.group)
    mean = all_reduce(x.mean((0, 2, 3)), group=how.group) / world
    centred = x - mean.view(wide)
    var = all_reduce(centred.square().mean((0, 2, 3)), group=how.group) / world
    if how.track:
        running.move(mean.detach(), var.detach(), world * x.numel() // x.shape[1])
    normal: Tensor = centred * (var + EPS).rsqrt().view(wide)
    return normal.to(kind)


class Sum:
    """What is added up, ``N x C`` rows, and vectors that each row of it is still to be given: all
    of them at once, so that rows are read and written only once for it.

    Attributes:
        rows: changed in place; None: nothing yet.
        shifts: ``C``-dim.
    """

    def __init__(self, rows: Tensor | None = None) -> None:
        self.rows = rows
        self.shifts: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Add rows; the first ones are kept as they are."""
        self.rows = rows if self.rows is None else self.rows + rows


def pointwise_norm(
    rows: Tensor,
    weight: Tensor,
    running: Running,
    how: Statistics,
    scale: Tensor | None = None,
    total: Sum | None = None,
) -> Tensor | None:
    """A 1x1 convolution and batch norm, then a ReLU, or into a sum.

    The mean and variance of ``W d`` follow from those of its input ``d``: ``W m`` and the diagonal
    of ``W Cov(d) W^T``. So the norm can become a part of the weight, and the convolution one
    product that adds to a sum at once, without an output of its own in memory.

    Args:
        rows: ``N x K``, d.
        weight: ``C x K``, W.
        running: of the batch norm, which has no affine parameters.
        scale: of what goes into a sum; ``1``- or ``C``-dim.
        total: a sum; None: end with a ReLU.

    Returns:
        ``N x C``; None if it went into a sum.
    """
    if how.training and not (weight.shape[1] < UNFOLDED_CHANNELS and fused(rows)):
        return norm(rows @ weight.T, running, how, scale, total)
    if not how.training:
        inverse = (running.var + EPS).rsqrt()
        if scale is not None:
            inverse = inverse * scale
        y = torch.addmm(-running.mean * inverse, rows, (inverse[:, None] * weight).T)
        if total is None:
            return y.relu()
        total.add(y)
        return None
    if total is None:
        return _PointwiseNorm.apply(rows, weight, None, None, True, running, how)[0]  # type: ignore[no-any-return]
    total.rows, shift = _PointwiseNorm.apply(rows, weight, scale, total.rows, False, running, how)
    total.shifts.append(shift)
    return None


def norm(
    rows: Tensor, running: Running, how: Statistics, scale: Tensor | None, total: Sum | None
) -> Tensor | None:
    """Batch norm and what comes next, of ``N x C``; the rest as :func:`pointwise_norm`."""
    if scale is not None:
        scale = scale.expand(rows.shape[1])
    y = rows_of(batch_norm(images_of(rows, 1, len(rows), 1), running, how, scale))
    if total is None:
        return y.relu_()
    total.rows = y if total.rows is None else total.rows.add_(y)
    return None


class _PointwiseNorm(torch.autograd.Function):
    """Returns rows and a shift; with ``relu`` the rows have been given it."""

    @staticmethod
    def forward(
        ctx: Any,
        d: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        total: Tensor | None,
        relu: bool,
        running: Running,
        how: Statistics,
    ) -> tuple[Tensor, Tensor]:
        count = len(d)
        mean = d.mean(0)
        if how.group is None:
            covariance = torch.addmm(torch.outer(mean, mean), d.T, d, beta=-1, alpha=1 / count)
        else:
            # Means over all processes, of moments about zero, so that one message is enough.
            moments = torch.cat([mean[None], (d.T @ d) / count])
            dist.all_reduce(moments, group=how.group)
            moments /= dist.get_world_size(how.group)
            count *= dist.get_world_size(how.group)
            mean = moments[0]
            covariance = moments[1:] - torch.outer(mean, mean)
        centre = weight @ mean
        var = ((weight @ covariance) * weight).sum(1).clamp_min_(0)
        inverse = (var + EPS).rsqrt_()
        factor = inverse if scale is None else inverse * scale
        folded = factor[:, None] * weight
        shift = -factor * centre
        if how.track:
            running.move(centre, var, count)
        if relu:
            y = torch.addmm(shift, d, folded.T).relu_()
            ctx.mark_non_differentiable(shift)
        elif total is None:
            y = d @ folded.T
        else:
            y = total.addmm_(d, folded.T)
            ctx.mark_dirty(total)
        ctx.how, ctx.count = how, count
        ctx.save_for_backward(
            d, weight, scale, y if relu else None, mean, covariance, centre, inverse, folded
        )
        return y, shift

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, sums: Tensor) -> tuple[Any, ...]:
        d, weight, scale, y, mean, covariance, centre, inverse, folded = ctx.saved_tensors
        to_total = gradient
        if y is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
            sums = gradient.sum(0)
        factor = inverse if scale is None else inverse * scale
        products = gradient.T @ d
        # With y = factor (W d - centre): the gradients of the factor and of the variance in it.
        to_factor = (products * weight).sum(1) - sums * centre
        to_scale = None
        if scale is not None and ctx.needs_input_grad[2]:
            to_scale = (to_factor * inverse).sum_to_size(scale.shape)
        to_var = -0.5 * factor * inverse.square() * to_factor
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = factor[:, None] * (products - torch.outer(sums, mean)) + 2 * to_var[
                :, None
            ] * (weight @ covariance)
        to_d = None
        if ctx.needs_input_grad[0]:
            through_mean = factor * sums
            if ctx.how.group is not None:
                both = torch.stack([to_var, through_mean])
                dist.all_reduce(both, group=ctx.how.group)
                to_var, through_mean = both[0], both[1]
            spread = (2 / ctx.count) * (weight.T @ (to_var[:, None] * weight))
            shift = -(mean @ spread) - (through_mean @ weight) / ctx.count
            to_d = torch.addmm(shift, d, spread).addmm_(gradient, folded)
        return to_d, to_weight, to_scale, to_total if ctx.needs_input_grad[3] else None, *[None] * 3


# --- sums ----------------------------------------------------------------------------------------


def mix(terms: Sequence[Tensor], weights: Tensor, totals: Sequence[Tensor | None]) -> list[Tensor]:
    """Add the terms of one source, weighted, to the totals of several targets, in place.

    Args:
        terms: J tensors of one shape, contiguous.
        weights: ``k x J``.
        totals: k of that shape, or None where nothing has been added yet.
    """
    return list(_Mix.apply(weights, len(terms), *terms, *totals))


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, count: int, *tensors: Any) -> tuple[Tensor, ...]:
        terms, totals = tensors[:count], tensors[count:]
        scalars = [row.unbind() for row in weights.unbind()]
        results = []
        for total, row in zip(totals, scalars, strict=True):
            first = terms[0]
            result = first * row[0] if total is None else total.addcmul_(first, row[0])
            for term, scalar in zip(terms[1:], row[1:], strict=True):
                result.addcmul_(term, scalar)
            results.append(result)
        ctx.mark_dirty(*[total for total in totals if total is not None])
        ctx.save_for_backward(weights, *terms)
        ctx.had = [total is not None for total in totals]
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        weights, *terms = ctx.saved_tensors
        scalars = [row.unbind() for row in weights.unbind()]
        to_weights = None
        if ctx.needs_input_grad[0]:
            to_weights = torch.stack(
                [torch.stack([(g * term).sum() for term in terms]) for g in gradients]
            )
        to_terms: list[Tensor | None] = []
        for index in range(len(terms)):
            to_term = None
            if ctx.needs_input_grad[2 + index]:
                to_term = gradients[0] * scalars[0][index]
                for gradient, row in zip(gradients[1:], scalars[1:], strict=True):
                    to_term.addcmul_(gradient, row[index])
            to_terms.append(to_term)
        to_totals = [g if had else None for g, had in zip(gradients, ctx.had, strict=True)]
        return to_weights, None, *to_terms, *to_totals
