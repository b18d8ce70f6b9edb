"""What is added up in a cell's nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from latkit.search.supernet.layout import from_phases, split_channels
from latkit.search.supernet.products import interleave


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
        """Add rows; the first ones are kept as they are, and are changed from then on."""
        self.rows = rows if self.rows is None else self.rows.add_(rows)

    def split(self, first: int) -> tuple[Sum, Sum]:
        """The sum of the first channels, and that of the others."""
        parts = Sum(), Sum()
        if self.rows is not None:
            for part, rows in zip(parts, split_channels(self.rows, first), strict=True):
                part.rows = rows
        if self.shifts:
            shift = torch.stack(self.shifts).sum(0)
            parts[0].shifts, parts[1].shifts = [shift[:first]], [shift[first:]]
        return parts


@dataclass
class Pair:
    """Sums of the same pixels in two orders.

    Attributes:
        plain: in the order of images.
        phased: in the order of :func:`~latkit.search.supernet.layout.to_phases`.
    """

    plain: Sum = field(default_factory=Sum)
    phased: Sum = field(default_factory=Sum)

    def split(self, first: int) -> tuple[Pair, Pair]:
        """See :meth:`Sum.split`."""
        plain, phased = self.plain.split(first), self.phased.split(first)
        return Pair(plain[0], phased[0]), Pair(plain[1], phased[1])

    def total(self, batch: int, height: int, width: int) -> Tensor:
        """All of it, ``N x C`` rows in the order of images."""
        whole = Sum(self.plain.rows)
        if self.phased.rows is not None:
            whole.add(from_phases(self.phased.rows, batch, height, width))
        assert whole.rows is not None
        shifts = self.plain.shifts + self.phased.shifts
        return whole.rows.add_(torch.stack(shifts).sum(0)) if shifts else whole.rows


class NodeSums:
    """What has been added up so far in the nodes of a cell that are still to come.

    Args:
        nodes: how many.
        channels: C of each, of those that the operations see.
        grouped: all nodes are side by side in one pair of sums; else each has its own.

    Attributes:
        pairs: the sums.
        rests: of each node, channels that pass the operations by, ``N x *`` (PC-DARTS).
    """

    def __init__(self, nodes: int, channels: int, grouped: bool) -> None:
        self._channels, self.grouped = channels, grouped
        self.pairs = [Pair() for _ in range(1 if grouped else nodes)]
        self.rests: list[Tensor | None] = [None] * nodes

    def pop(self, batch: int, height: int, width: int) -> Tensor:
        """Take away the first node: its ``N x C`` rows, shuffled where channels passed by."""
        rest, self.rests = self.rests[0], self.rests[1:]
        if self.grouped and self.rests:
            first, others = self.pairs[0].split(self._channels)
            self.pairs = [others]
        else:
            first, self.pairs = self.pairs[0], self.pairs[1:]
        rows = first.total(batch, height, width)
        return rows if rest is None else interleave(rows, rest)


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
        # Terms are large, and only the gradients of the weights need them.
        ctx.save_for_backward(weights, *(terms if ctx.needs_input_grad[0] else ()))
        ctx.wanted = ctx.needs_input_grad[2 : 2 + count]
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
        for index, wanted in enumerate(ctx.wanted):
            to_term = None
            if wanted:
                to_term = gradients[0] * scalars[0][index]
                for gradient, row in zip(gradients[1:], scalars[1:], strict=True):
                    to_term.addcmul_(gradient, row[index])
            to_terms.append(to_term)
        to_totals = [g if had else None for g, had in zip(gradients, ctx.had, strict=True)]
        return to_weights, None, *to_terms, *to_totals
