"""λ·LAT(α): what the cost of sub-networks adds to the loss of α (Eq. 3), and how λ is set."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.search.estimators import DEFAULT_ESTIMATOR, get_estimator, strength_of
from latkit.search.objectives import NoisyObjective, Objective, check_noise, expectation
from latkit.spaces import SearchSpace

EdgeSampling = Literal["uniform", "strength"]

# TargetWeight: λ·T is UNIT * sinh(v), near zero proportional to v and exponential beyond, so that
# any size of loss is reached, in both directions; v is the output of a controller of the cost's
# logarithm, with these gains (the integral one over a whole search), and bounds.
UNIT = 0.05
PROPORTIONAL = 10.0
INTEGRAL = 60.0
BOUND = 9.0
# Weight of the last derived architecture in the mean distance of LAT(α) from such architectures.
NEWS = 0.1


class Multiplier(ABC):
    """λ, whose unit is 1/cost."""

    @property
    @abstractmethod
    def weight(self) -> float:
        """λ now."""

    @abstractmethod
    def after_step(self, expected: float, derived_cost: Callable[[], float]) -> None:
        """Adapt after a step of α.

        Args:
            expected: LAT(α).
            derived_cost: what the architecture derived from α costs.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, float]:
        """All that changes, as plain numbers."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises:
            KeyError: the state does not fit.
        """


class FixedWeight(Multiplier):
    """The paper's λ.

    Args:
        weight: 0 or more.

    Raises:
        InputError: it is not.
    """

    def __init__(self, weight: float) -> None:
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"lambda={weight} is not a coefficient", "use 0 or more")
        self._weight = weight

    @property
    def weight(self) -> float:
        return self._weight

    def after_step(self, expected: float, derived_cost: Callable[[], float]) -> None:
        """Nothing to adapt."""

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Nothing to restore."""


class TargetWeight(Multiplier):
    """λ such that the derived architecture ends up at a target cost, from below or above.

    A proportional-integral controller of the logarithm of cost over target. It goes by LAT(α),
    corrected by how far derived architectures were from it of late: these alone jump. λ is
    negative where the validation loss alone would end below the target: a user who allows so many
    milliseconds wants them spent.

    Args:
        target: in the objective's unit.
        steps: of α in the whole search, which the gains are relative to.

    Raises:
        InputError: the target or the steps are not positive.
    """

    def __init__(self, target: float, steps: int) -> None:
        if not (math.isfinite(target) and target > 0):
            raise InputError(f"{target} is no target", "use a positive number")
        if steps < 1:
            raise InputError(f"{steps} steps cannot reach a target", "use 1 or more")
        self.target, self.steps = target, steps
        self._integral = 0.0
        self._control = 0.0
        self._gap = 0.0

    @property
    def weight(self) -> float:
        return UNIT * math.sinh(self._control) / self.target

    def after_step(self, expected: float, derived_cost: Callable[[], float]) -> None:
        least = 1e-3 * self.target
        expected, derived = max(expected, least), max(derived_cost(), least)
        self._gap += NEWS * (math.log(derived / expected) - self._gap)
        error = math.log(expected / self.target) + self._gap
        self._integral = _clamp(self._integral + INTEGRAL * error / self.steps)
        self._control = _clamp(self._integral + PROPORTIONAL * error)

    def state_dict(self) -> dict[str, float]:
        return {"integral": self._integral, "control": self._control, "gap": self._gap}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self._integral, self._control = state["integral"], state["control"]
        self._gap = state["gap"]


class Penalty:
    """LAT(α) and its λ.

    Args:
        space: the space.
        objective: what LAT(α) is the expectation of.
        multiplier: λ.
        estimator: of LAT(α), by name; not used where the expectation is exact (see
            :meth:`~latkit.search.objectives.Objective.coefficients`).
        samples: M, sub-networks per estimate.
        edges: ``uniform``: all sets of edges alike (the paper); ``strength``: in proportion to
            their strengths.
        noise: standard deviation of what is added to every cost that is sampled (paper, Table 3),
            in the objective's unit.

    Raises:
        InputError: a value cannot work.
    """

    def __init__(
        self,
        space: SearchSpace,
        objective: Objective,
        multiplier: Multiplier,
        estimator: str = DEFAULT_ESTIMATOR,
        samples: int = 20,
        edges: EdgeSampling = "uniform",
        noise: float = 0.0,
    ) -> None:
        if edges not in get_args(EdgeSampling):
            raise InputError(
                f"unknown edge sampling {edges!r}",
                f"use one of: {', '.join(get_args(EdgeSampling))}",
            )
        if samples < 1:
            raise InputError(f"samples={samples} is too small", "use at least 1")
        check_noise(noise)
        self.space, self.objective, self.multiplier = space, objective, multiplier
        self._estimate = get_estimator(estimator)
        self._samples, self._edges, self._noise = samples, edges, noise

    def expected(
        self, alpha: Tensor, edge_strength: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """LAT(α), without λ, differentiable.

        Args:
            alpha: ``E x O``, on any device.
            edge_strength: ``E`` positive numbers where the supernet has them (β of PC-DARTS); else
                an edge is as strong as its strongest operation. Ignored with uniform edges.
            generator: on the CPU; source of the sub-networks and of the noise.

        Returns:
            A scalar on the CPU, in the objective's unit.
        """
        alpha = alpha.cpu()  # a few numbers: the way there costs less than the kernels would
        strength = None
        if self._edges == "strength":
            strength = (
                strength_of(self.space, alpha) if edge_strength is None else edge_strength.cpu()
            )
        if self._noise:
            noisy = NoisyObjective(self.objective, self._noise, generator)
            return self._estimate(self.space, alpha, noisy, self._samples, generator, strength)
        if self.objective.coefficients() is not None:
            return expectation(self.space, alpha, self.objective, strength)
        return self._estimate(self.space, alpha, self.objective, self._samples, generator, strength)

    @property
    def weight(self) -> float:
        """λ, whose unit is 1/cost."""
        return self.multiplier.weight

    def after_step(self, expected: float, derived_cost: Callable[[], float]) -> None:
        """See :meth:`Multiplier.after_step`."""
        self.multiplier.after_step(expected, derived_cost)

    def state_dict(self) -> dict[str, float]:
        """Plain numbers, through JSON and back without loss."""
        return self.multiplier.state_dict()

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """The inverse of :meth:`state_dict`.

        Raises:
            KeyError: the state does not fit.
        """
        self.multiplier.load_state_dict(state)


def _clamp(control: float) -> float:
    return min(BOUND, max(-BOUND, control))
