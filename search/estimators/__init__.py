"""Estimators of LAT(α), the expected cost of a sub-network (paper, Eq. 2), by name.

A new one is a file with a function of :class:`Estimator`'s signature, and a line in ``ESTIMATORS``.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.search.estimators.distribution import CostFunction, Distribution, strength_of
from latkit.search.estimators.marginal import marginal
from latkit.search.estimators.score_function import score_function
from latkit.search.estimators.straight_through import straight_through
from latkit.spaces import SearchSpace

__all__ = [
    "DEFAULT_ESTIMATOR",
    "ESTIMATORS",
    "CostFunction",
    "Distribution",
    "Estimator",
    "get_estimator",
    "strength_of",
]


class Estimator(Protocol):
    """See :func:`~latkit.search.estimators.marginal.marginal` for arguments and result."""

    def __call__(
        self,
        space: SearchSpace,
        alpha: Tensor,
        cost: CostFunction,
        samples: int,
        generator: torch.Generator,
        edge_strength: Tensor | None = None,
    ) -> Tensor: ...


DEFAULT_ESTIMATOR = "marginal"
ESTIMATORS: dict[str, Estimator] = {
    DEFAULT_ESTIMATOR: marginal,
    "straight-through": straight_through,
    "score-function": score_function,
}


def get_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        InputError: there is no such estimator.
    """
    if name not in ESTIMATORS:
        raise InputError(f"unknown estimator {name!r}", f"use one of: {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]
