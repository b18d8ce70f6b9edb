"""Adding the terms of one source to all targets side by side, in few launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def spread(terms: Sequence[Tensor], weights: Tensor, total: Tensor | None) -> Tensor:
    """Add J terms, weighted, to k targets that are side by side.

    Args:
        terms: of one shape, ``N x C``.
        weights: ``k x J``.
        total: ``N x kC``, contiguous, changed in place; None: nothing has been added yet.

    Returns:
        ``N x kC``.
    """
    result: Tensor = _Spread.apply(weights, total, *terms)
    return result


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, total: Tensor | None, *terms: Tensor) -> Tensor:
        edges = len(weights)
        # In the terms' precision: autocast leaves weights as they are.
        columns = weights.to(terms[0].dtype)[:, :, None].unbind(1)  # each k x 1
        rows, channels = terms[0].shape
        ctx.had, pairs = total is not None, list(zip(terms, columns, strict=True))
        if total is None:
            total = terms[0].new_empty(rows, edges * channels)  # (a view could not change in place)
            term, column = pairs.pop(0)
            torch.mul(term[:, None], column, out=total.view(rows, edges, channels))
        else:
            ctx.mark_dirty(total)
        for term, column in pairs:
            total.view(rows, edges, channels).addcmul_(term[:, None], column)
        of_weights, ctx.wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[2:]
        # Terms are large, and only the gradients of the weights need them.
        ctx.save_for_backward(weights, *(terms if of_weights else ()))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, *terms = ctx.saved_tensors
        apart = gradient.reshape(len(gradient), len(weights), -1)
        to_weights = None
        if ctx.needs_input_grad[0]:
            sums = [(apart * term[:, None]).sum((0, 2)) for term in terms]
            to_weights = torch.stack(sums, 1).to(weights.dtype)
        columns = weights.to(gradient.dtype)[:, :, None].unbind(1)
        to_terms = [
            (apart * column).sum(1) if wanted else None
            for column, wanted in zip(columns, ctx.wanted, strict=True)
        ]
        return to_weights, gradient if ctx.had else None, *to_terms
