"""What an architecture has to keep: limits and targets of its costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latkit.core.errors import InputError
from latkit.lpm.base import FloatArray
from latkit.search.decode import TOLERANCE, cost_range
from latkit.search.objectives import Objective, evaluate
from latkit.spaces import ChoiceMatrix, SearchSpace

# Spaces that are not larger are enumerated: some seconds of any LPM.
ENUMERATED = 200_000


@dataclass(frozen=True)
class Condition(ABC):
    """A condition on one cost.

    Attributes:
        name: of the cost for people, e.g. ``latency on pixel3``.
        objective: the cost; :class:`latkit.search.objectives.PredictedBound` where the condition is
            to be kept with a probability.
        value: the limit or target, in the objective's unit, positive.

    Raises:
        InputError: the value is not a positive number.
    """

    name: str
    objective: Objective
    value: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.value) and self.value > 0):
            raise InputError(
                f"{self.value:g} {self.objective.unit} is no {self.name}", "use a positive number"
            )

    @abstractmethod
    def excess(self, costs: FloatArray) -> FloatArray:
        """By how much each of ``n`` costs misses the condition, relative to it; 0: it is kept."""

    @abstractmethod
    def __str__(self) -> str:
        """The condition for people."""


@dataclass(frozen=True)
class Limit(Condition):
    """The cost is at most the value; one that is not positive is no prediction to rely on."""

    def excess(self, costs: FloatArray) -> FloatArray:
        share = costs / self.value
        return np.where(costs > 0, np.maximum(0.0, share - 1), 1 - share)

    def __str__(self) -> str:
        return f"{self.name} at most {self.value:g} {self.objective.unit}"


@dataclass(frozen=True)
class Near(Condition):
    """The cost is within ``TOLERANCE`` of the value, as a search's target."""

    def excess(self, costs: FloatArray) -> FloatArray:
        return np.maximum(0.0, np.abs(costs / self.value - 1) - TOLERANCE)

    def __str__(self) -> str:
        percent = f"{100 * TOLERANCE:g} %"
        return f"{self.name} within {percent} of {self.value:g} {self.objective.unit}"


def total_excess(
    space: SearchSpace, conditions: Sequence[Condition], rows: ChoiceMatrix
) -> FloatArray:
    """The sum of the conditions' excesses of each row; 0: it keeps them all."""
    total = np.zeros(len(rows))
    for condition in conditions:
        total += condition.excess(evaluate(space, condition.objective, rows))
    return total


def infeasible(space: SearchSpace, conditions: Sequence[Condition]) -> InputError:
    """The error where no architecture keeps all conditions: with what each could be alone."""
    reaches = []
    for condition in conditions:
        low, high = reach(space, condition.objective)
        reaches.append(f"{condition} (reachable: {low:.4g} to {high:.4g})")
    return InputError(
        f"no architecture of {space.name} was found with " + " and ".join(reaches),
        "choose values within reach" if len(reaches) == 1 else "relax one of them",
    )


def reach(space: SearchSpace, objective: Objective) -> tuple[float, float]:
    """The least and the largest cost of a space's architectures; by descent in a large space."""
    if space.size <= ENUMERATED:
        costs = evaluate(space, objective, space.unrank(np.arange(space.size)))
        return float(costs.min()), float(costs.max())
    found = cost_range(space, objective)
    return found.low, found.high
