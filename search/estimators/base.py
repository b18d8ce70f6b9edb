"""What an estimator of LAT(α) is, and all of them by name."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from latkit.core.plugins import Plugins
from latkit.search.estimators.distribution import CostFunction
from latkit.spaces import SearchSpace


class Estimator(ABC):
    """Estimates LAT(α), the expected cost of a sub-network (paper, Eq. 2).

    A class is made without arguments and has no state.
    """

    @abstractmethod
    def __call__(
        self,
        space: SearchSpace,
        alpha: Tensor,
        cost: CostFunction,
        samples: int,
        generator: torch.Generator,
        edge_strength: Tensor | None = None,
    ) -> Tensor:
        """Estimate from samples.

        Args:
            space: the space.
            alpha: ``E x O`` on the CPU.
            cost: ``n x E*O`` encodings to ``n`` costs.
            samples: M, at least 1.
            generator: source of randomness.
            edge_strength: ``E`` positive numbers, see :meth:`Distribution.of`; None: sets of edges
                are uniform (the paper).

        Returns:
            A scalar in the unit of ``cost``, differentiable in both tensors.

        Raises:
            InputError: ``samples`` is less than 1, or the cost does not fit the estimator.
        """


_HERE = "latkit.search.estimators"
DEFAULT_ESTIMATOR = "marginal"
ESTIMATORS: Plugins[Estimator] = Plugins(
    "estimator",
    "latkit.estimators",
    Estimator,  # type: ignore[type-abstract]
    {
        DEFAULT_ESTIMATOR: f"{_HERE}.marginal",
        "straight-through": f"{_HERE}.straight_through",
        "score-function": f"{_HERE}.score_function",
    },
)


def get_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        InputError: there is no such estimator.
        PluginError: it is a plug-in that does not load.
    """
    return ESTIMATORS.get(name)()
