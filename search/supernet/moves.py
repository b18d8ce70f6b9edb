"""Moves of batch norms' running statistics, all those of a pass at once.

One norm's move is five small operators, and a supernet has hundreds of norms.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-5
MOMENTUM = 0.1


class Moves:
    """What a pass will do to running statistics at its end."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._places: set[tuple[int, int]] = set()
        self._means: list[tuple[Tensor, Tensor]] = []
        # Of norms that have the variance, and of those that have one over the standard deviation.
        self._vars: list[tuple[Tensor, Tensor, float]] = []
        self._inverses: list[tuple[Tensor, Tensor, float]] = []

    def add(
        self, mean: Tensor, var: Tensor, to_mean: Tensor, spread: Tensor, count: int, inverse: bool
    ) -> None:
        """Take down one norm's move.

        Args:
            mean, var: running statistics, ``C``-dim.
            to_mean: a batch's, likewise.
            spread: a batch's biased variance or, with ``inverse``, one over the root of that
                variance and ``EPS``.
            count: numbers that they are of.
        """
        base = mean if mean._base is None else mean._base
        place = id(base), int(mean.storage_offset())
        if place in self._places:  # a module that is run twice in a pass
            self.take()
        self._places.add(place)
        self._means.append((mean, to_mean))
        moved = self._inverses if inverse else self._vars
        moved.append((var, spread, count / max(1, count - 1)))

    @torch.no_grad()
    def take(self) -> None:
        """Move what was taken down."""
        if not self._means:
            return
        means, to_means = map(list, zip(*self._means, strict=True))
        torch._foreach_lerp_(means, to_means, MOMENTUM)
        variances = list(self._vars)
        if self._inverses:
            spreads = list(torch._foreach_pow([spread for _, spread, _ in self._inverses], -2))
            torch._foreach_sub_(spreads, EPS)
            variances += [
                (var, spread, factor)
                for (var, _, factor), spread in zip(self._inverses, spreads, strict=True)
            ]
        places, biased, factors = map(list, zip(*variances, strict=True))
        torch._foreach_lerp_(places, list(torch._foreach_mul(biased, factors)), MOMENTUM)
        self._clear()
