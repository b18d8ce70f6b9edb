"""Batch norms, alone and folded into the 1x1 convolution before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from latkit.search.supernet.base import BatchNormMode
from latkit.search.supernet.layout import images_of, into_rows
from latkit.search.supernet.moves import EPS, MOMENTUM, Moves
from latkit.search.supernet.products import add_product, fused, gram, on_cpu, pointwise, product
from latkit.search.supernet.sums import Sum

# From here on a product costs more than the passes over memory that folding a norm into it saves.
UNFOLDED_CHANNELS = 32
# A relative error of a folded norm's variance from which on its input is centred first, which costs
# a pass over memory.
CANCELLED = 1e-4


@dataclass
class Running:
    """A batch norm's running mean and (unbiased) variance, each ``C``-dim, changed in place.

    Attributes:
        copies: how many times the same channels are normalised side by side.
    """

    mean: Tensor
    var: Tensor
    copies: int = 1

    @classmethod
    def of(cls, norm: torch.nn.BatchNorm2d) -> Running:
        """A module's."""
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        return cls(mean, var)

    def move(
        self, mean: Tensor, spread: Tensor, count: int, bn_mode: BatchNormMode, inverse: bool
    ) -> None:
        """Towards a batch's statistics, at once or, as the mode has it, at the end of a pass.

        Args:
            mean: of the batch.
            spread: see :meth:`Moves.add`, as of ``inverse``.
            count: numbers that they are of.
        """
        width = len(self.mean)  # of which there may be copies
        moves = Moves() if bn_mode.moves is None else bn_mode.moves
        moves.add(self.mean, self.var, mean[:width], spread[:width], count, inverse)
        if bn_mode.moves is None:
            moves.take()

    def folded(self, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """The norm by these statistics as a folded scale and shift, with another scale on top."""
        inverse = (self.var.repeat(self.copies) + EPS).rsqrt()
        if scale is not None:
            inverse = inverse * scale
        return inverse, -self.mean.repeat(self.copies) * inverse


def batch_norm(
    x: Tensor,
    running: Running,
    bn_mode: BatchNormMode,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """Batch norm of ``B x C x H x W``; ``scale`` and ``shift``, of ``C``, come on top.

    In one process ``N x C`` rows will do, which a CPU is slow at.
    """
    if bn_mode.training and bn_mode.world > 1:
        y = _synchronised_norm(x, running, bn_mode)
        y = y if scale is None else y * scale.to(y.dtype).view(1, -1, 1, 1)
        return y if shift is None else y + shift.to(y.dtype).view(1, -1, 1, 1)
    # PyTorch (2.14, CPU, channels_last) takes a weight for contiguous whatever its strides.
    scale = None if scale is None else scale.contiguous()
    if scale is None and x.dtype in (torch.bfloat16, torch.float16):
        scale = running.mean.new_ones(x.shape[1])  # else the statistics too are in half precision
    if not bn_mode.training:
        return F.batch_norm(x, running.mean, running.var, scale, shift, False, MOMENTUM, EPS)
    # The statistics of many norms are parts of one tensor, which autograd must not see change.
    y, mean, inverse = torch.native_batch_norm(x, scale, shift, None, None, True, MOMENTUM, EPS)
    if bn_mode.track:
        count = x.numel() // x.shape[1]
        running.move(mean.detach(), inverse.detach(), count, bn_mode, inverse=True)
    return y


class ModedNorm(torch.nn.BatchNorm2d):
    """A batch norm that obeys a supernet's mode, whether the module is in training mode or not.

    It has the parameters, the running statistics and the names of the one that it takes the place
    of; the count of batches stays as it is.
    """

    def __init__(self, norm: torch.nn.BatchNorm2d, bn_mode: BatchNormMode) -> None:
        super().__init__(norm.num_features, affine=norm.affine)
        if (norm.eps, norm.momentum) != (self.eps, self.momentum):
            raise ValueError("a batch norm of a supernet has PyTorch's eps and momentum")
        self.load_state_dict(norm.state_dict())
        self.bn_mode = bn_mode

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(x, Running.of(self), self.bn_mode, self.weight, self.bias)


def obey(module: torch.nn.Module, bn_mode: BatchNormMode) -> None:
    """Let every ``nn.BatchNorm2d`` within a module obey a mode; its parameters stay its own."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is torch.nn.BatchNorm2d:
                setattr(parent, name, ModedNorm(child, bn_mode))


def _synchronised_norm(x: Tensor, running: Running, bn_mode: BatchNormMode) -> Tensor:
    """By the statistics of all processes' batches (equal in size); gradients flow across them."""
    wide = (1, -1, 1, 1)
    kind, x = x.dtype, x.float() if x.dtype == torch.bfloat16 else x
    mean = _SumOverProcesses.apply(x.mean((0, 2, 3))) / bn_mode.world
    centred = x - mean.view(wide)
    var = _SumOverProcesses.apply(centred.square().mean((0, 2, 3))) / bn_mode.world
    if bn_mode.track:
        count = bn_mode.world * x.numel() // x.shape[1]
        running.move(mean.detach(), var.detach(), count, bn_mode, inverse=False)
    normal: Tensor = centred * (var + EPS).rsqrt().view(wide)
    return normal.to(kind)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor of each process; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def pointwise_norm(
    rows: Tensor,
    weight: Tensor,
    running: Running,
    bn_mode: BatchNormMode,
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
    if bn_mode.training and not (weight.shape[1] < UNFOLDED_CHANNELS and fused(rows)):
        return norm(pointwise(rows, weight), running, bn_mode, scale, total)
    if not bn_mode.training:
        factor, shift = running.folded(scale)
        y = torch.addmm(shift, rows, (factor[:, None] * weight).T)
        if total is None:
            return y.relu()
        total.add(y)
        return None
    if total is None:
        return _PointwiseNorm.apply(rows, weight, None, None, True, running, bn_mode)[0]  # type: ignore[no-any-return]
    total.rows, shift = _PointwiseNorm.apply(
        rows, weight, scale, total.rows, False, running, bn_mode
    )
    total.shifts.append(shift)
    return None


def norm(
    rows: Tensor, running: Running, bn_mode: BatchNormMode, scale: Tensor | None, total: Sum | None
) -> Tensor | None:
    """Batch norm and what comes next, of ``N x C``; the rest as :func:`pointwise_norm`."""
    if scale is not None:
        scale = scale.expand(rows.shape[1])
    if bn_mode.world == 1 and not on_cpu(rows):  # there it is slower than as an image
        y = batch_norm(rows, running, bn_mode, scale)
    else:
        y = into_rows(batch_norm(images_of(rows, 1, len(rows), 1), running, bn_mode, scale))
    if total is None:
        return y.relu_()
    total.add(y)
    return None


def _moments(d: Tensor, weight: Tensor, world: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of ``N x K`` rows of all processes, and the variance of ``d W^T``."""
    count, mean = d.shape[0], d.mean(0)
    if world == 1:
        covariance = torch.addr(gram(d, d), mean, mean, beta=1 / count, alpha=-1)
    else:
        # Means over all processes, of moments about zero, so that one message is enough.
        moments = torch.cat([mean[None], gram(d, d) / count])
        dist.all_reduce(moments)
        moments /= world
        mean = moments[0]
        covariance = moments[1:] - torch.outer(mean, mean)
    return mean, covariance, ((weight @ covariance) * weight).sum(1).clamp_min_(0)


def _cancelled(mean: Tensor, weight: Tensor, var: Tensor) -> bool:
    """Whether a variance has lost too many digits in the difference of moments about zero."""
    lost = torch.finfo(var.dtype).eps * (weight.abs() @ mean.abs()).square()
    return bool((lost > CANCELLED * (var + EPS)).any())


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
        bn_mode: BatchNormMode,
    ) -> tuple[Tensor, Tensor]:
        count = bn_mode.world * d.shape[0]
        mean, covariance, var = _moments(d, weight, bn_mode.world)
        origin = None
        if _cancelled(mean, weight, var):
            # The norm is the same wherever its input's origin is: about the mean, little cancels.
            origin, d = mean, d - mean
            mean, covariance, var = _moments(d, weight, bn_mode.world)
        centre = weight @ mean
        inverse = (var + EPS).rsqrt_()
        factor = inverse if scale is None else inverse * scale
        folded = factor[:, None] * weight
        shift = -factor * centre
        if bn_mode.track:
            moved = centre if origin is None else centre + weight @ origin
            running.move(moved, var, count, bn_mode, inverse=False)
        if relu:
            y = product(d, folded, shift).relu_()
            ctx.mark_non_differentiable(shift)
        elif total is None:
            y = product(d, folded)
        else:
            y = add_product(total, d, folded)
            ctx.mark_dirty(total)
        ctx.bn_mode, ctx.count = bn_mode, count
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
        products = gram(gradient, d)
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
            if ctx.bn_mode.world > 1:
                both = torch.stack([to_var, through_mean])
                dist.all_reduce(both)
                to_var, through_mean = both[0], both[1]
            spread = (2 / ctx.count) * (weight.T @ (to_var[:, None] * weight))
            shift = -(mean @ spread) - (through_mean @ weight) / ctx.count
            # (The spread is symmetric.)
            to_d = add_product(product(d, spread, shift), gradient, folded.T)
        return to_d, to_weight, to_scale, to_total if ctx.needs_input_grad[3] else None, *[None] * 3
