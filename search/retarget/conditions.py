"""What an architecture has to keep: limits and targets of its costs."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latkit.core.errors import InputError
from latkit.lpm.base import FloatArray
from latkit.search.decode import TOLERANCE, cost_range
from latkit.search.objectives import Objective, evaluate
from latkit.search.retarget.explore import ENUMERATED, explore
from latkit.spaces import ChoiceMatrix, SearchSpace

# An LPM is relied on from the least value that it was trained on over this to the largest times it.
BEYOND = 2.0
# Costs of a batch of architectures by objective, each computed once.
Costs = Callable[[Objective], FloatArray]


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


@dataclass(frozen=True)
class Known(Condition):
    """The cost is at least the value and at most ``high``: what an LPM is relied on for."""

    high: float

    @classmethod
    def of(cls, name: str, objective: Objective, least: float, largest: float) -> Known:
        """Of the least and the largest value that an LPM was trained on; see ``BEYOND``."""
        return cls(name, objective, least / BEYOND, largest * BEYOND)

    def excess(self, costs: FloatArray) -> FloatArray:
        return np.maximum(0.0, np.maximum(1 - costs / self.value, costs / self.high - 1))

    def __str__(self) -> str:
        return f"{self.name} of {self.value:.4g} to {self.high:.4g} {self.objective.unit}"


def costs_of(space: SearchSpace, rows: ChoiceMatrix) -> Costs:
    """What gives the costs of some architectures, each objective's computed once."""
    return functools.cache(lambda objective: evaluate(space, objective, rows))


def total_excess(conditions: Sequence[Condition], costs: Costs, n: int) -> FloatArray:
    """The sum of the conditions' excesses of each of ``n`` architectures; 0: it keeps them all."""
    total = np.zeros(n)
    for condition in conditions:
        total += condition.excess(costs(condition.objective))
    return total


def infeasible(space: SearchSpace, conditions: Sequence[Condition]) -> InputError:
    """The error where no architecture keeps all conditions: with what each could be alone."""
    known = [condition for condition in conditions if isinstance(condition, Known)]
    wanted = [condition for condition in conditions if not isinstance(condition, Known)]
    reaches = []
    for condition in wanted:
        found = reach(space, condition.objective, known)
        if found is None:
            break
        low, high = found
        reaches.append(f"{condition} (reachable: {low:.4g} to {high:.4g})")
    if not wanted or len(reaches) < len(wanted):
        return InputError(
            f"no architecture of {space.name} was found that is predicted to have "
            + " and ".join(map(str, known)),
            "the LPMs are of other networks, or of too few: measure more, and train them again",
        )
    return InputError(
        f"no architecture of {space.name} was found with " + " and ".join(reaches),
        "choose values within reach" if len(reaches) == 1 else "relax one of them",
    )


def reach(
    space: SearchSpace, objective: Objective, known: Sequence[Condition] = ()
) -> tuple[float, float] | None:
    """The least and the largest cost of a space's architectures; by descent in a large space.

    Args:
        space: the space.
        objective: the cost.
        known: conditions that the architectures keep; in a large space by local search.

    Returns:
        Both; None: no architecture was found that keeps the conditions.
    """
    if space.size > ENUMERATED:
        found = cost_range(space, objective)
        ends = np.concatenate([found.low_row[None], found.high_row[None]])
        if not total_excess(known, costs_of(space, ends), 2).any():
            return found.low, found.high
    reached = []
    for sign in (1.0, -1.0):

        def points(rows: ChoiceMatrix, sign: float = sign) -> FloatArray:
            costs = costs_of(space, rows)
            excess = total_excess(known, costs, len(rows))
            return np.column_stack([sign * costs(objective), excess])

        best = explore(space, points).points
        kept = best[best[:, 1] == 0, 0]
        if not len(kept):
            return None
        reached.append(sign * float(kept.min()))
    return reached[0], reached[1]
