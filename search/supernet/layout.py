"""Where pixels and channels lie in memory, and how they are put elsewhere.

Feature maps are handled as ``rows``: ``N x C`` matrices, a row a pixel (``N = B*H*W``), which is
the memory of a ``B x C x H x W`` tensor in channels_last. Gradients have that layout too: one
slice of a tensor whose gradient comes back in NCHW makes everything before it slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def rows_of(x: Tensor) -> Tensor:
    """``B x C x H x W`` as ``N x C`` rows: a view where ``x`` is channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def into_rows(x: Tensor) -> Tensor:
    """The same of an ``x`` in channels_last that nothing else uses: no view to autograd, which
    lets rows be changed in place where it would refuse that for views, or copy them.
    """
    rows: Tensor = torch.ops.aten._unsafe_view(
        x.permute(0, 2, 3, 1).contiguous(), (x.numel() // x.shape[1], x.shape[1])
    )
    return rows


def images_of(rows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`rows_of`, in channels_last."""
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


# --- pixels --------------------------------------------------------------------------------------


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


def corners(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of each square of four pixels the first and the last one: two ``B x C x H/2 x W/2``."""
    first, last = _Corners.apply(x)
    return first, last


class _Corners(torch.autograd.Function):
    """Two slices; autograd would pad the gradient of each with zeros by itself, in NCHW."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.shape = x.shape
        last = torch.channels_last
        return (
            x[:, :, ::2, ::2].contiguous(memory_format=last),
            x[:, :, 1::2, 1::2].contiguous(memory_format=last),
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Tensor | None:
        given = {first: g for first, g in enumerate(gradients) if g is not None}
        if not given:
            return None
        b, c, h, w = ctx.shape
        any_one = next(iter(given.values()))
        whole = any_one.new_zeros(b, h, w, c).permute(0, 3, 1, 2)
        for first, gradient in given.items():
            whole[:, :, first::2, first::2] = gradient
        return whole


def side_by_side(x: Tensor) -> Tensor:
    """The images of a batch as channels of one: ``1 x BC x H x W``, channels_last."""
    b, c, h, w = x.shape
    return images_of(_swapped(rows_of(x).view(b, h * w, c)).flatten(1), 1, h, w)


def apart(x: Tensor, batch: int) -> Tensor:
    """The inverse of :func:`side_by_side`."""
    h, w = x.shape[2:]
    return images_of(_swapped(rows_of(x).view(h * w, batch, -1)).flatten(0, 1), batch, h, w)


def _swapped(x: Tensor) -> Tensor:
    result: Tensor = _Swapped.apply(x)
    return result


class _Swapped(torch.autograd.Function):
    """``a x b x c`` as a contiguous ``b x a x c``, and the gradient likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.transpose(0, 1).contiguous()


# --- channels ------------------------------------------------------------------------------------


def split_channels(rows: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The first channels and the others of ``N x C`` rows, each contiguous."""
    left, right = rows.split([first, rows.shape[1] - first], dim=1)
    return left.contiguous(), right.contiguous()


def join_channels(parts: Sequence[Tensor]) -> Tensor:
    """Rows of several tensors side by side: ``N x C1``, ``N x C2`` ... as ``N x (C1 + C2 + ...)``.

    Autograd would hand each part a slice of the gradient, as wide as all of them in memory, and
    kernels that want rows of their own would copy it one after the other.
    """
    result: Tensor = _Joined.apply(*parts)
    return result


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.widths = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous() for part in gradient.split(ctx.widths, dim=1))
