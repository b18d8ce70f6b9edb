"""What a search may spend less of: latency or energy of one device or several, or multiply-adds.

A new cost is a subclass of :class:`Cost` in a file of its own and a line in ``COSTS``, whose entry
says what it is made of and whether it is of several devices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.core.quantities import LATENCY, get_quantity
from latkit.lpm.base import LPM, SERVED_AT_ONCE, FloatArray
from latkit.search.estimators import Distribution
from latkit.spaces import SearchSpace, Setting
from latkit.spaces.analytic import COLUMNS
from latkit.spaces.registry import analytic_table


class Cost(ABC):
    """A number that each architecture has.

    Attributes:
        name: with the unit, as in ``latency_ms``.
        unit: for people, as in ``ms``; λ is in one over it.
    """

    name: str
    unit: str

    @abstractmethod
    def __call__(self, encodings: Tensor) -> Tensor:
        """Costs of ``n x E*O`` encodings: ``n``, of the encodings' type.

        Differentiable in the encodings, if the cost is.
        """

    def coefficients(self) -> tuple[Tensor, float] | None:
        """Where the cost is ``encoding @ c + d``: ``c``, an ``E*O``-dim tensor, and ``d``.

        The expectation of such a cost is exact (:func:`expectation`); None: it is not of this form.
        """
        return None


class LPMCost(Cost):
    """What an LPM predicts of one device.

    Args:
        lpm: the LPM; it is asked in single precision, as everywhere.
        cost: what it predicts, by the name on its card.

    Raises:
        InputError: no LPM predicts such a cost.
    """

    def __init__(self, lpm: LPM, cost: str = LATENCY) -> None:
        self.lpm, self.name, self.unit = lpm, cost, get_quantity(cost).unit

    def __call__(self, encodings: Tensor) -> Tensor:
        return self.lpm.mean(encodings.float()).to(encodings.dtype)

    def coefficients(self) -> tuple[Tensor, float] | None:
        return self.lpm.coefficients()


class LinearCost(Cost):
    """A table of what each operation on each edge adds to a constant.

    Args:
        name, unit: see :class:`Cost`.
        entries: ``E*O``.
        constant: what all architectures share.
    """

    def __init__(self, name: str, unit: str, entries: Tensor, constant: float) -> None:
        self.name, self.unit = name, unit
        self._entries, self._constant = entries.double(), constant

    def __call__(self, encodings: Tensor) -> Tensor:
        return encodings @ self._entries.to(encodings.dtype) + self._constant

    def coefficients(self) -> tuple[Tensor, float]:
        return self._entries, self._constant


class MacsCost(LinearCost):
    """Multiply-adds of the whole network in millions, exact (the paper's control, Table 4).

    Args:
        space: one of those that latkit knows by name.
        setting: the network's.

    Raises:
        InputError: the setting is of another space.
    """

    def __init__(self, space: SearchSpace, setting: Setting) -> None:
        if setting.space != space.name:
            raise InputError(
                f"the setting's networks are of {setting.space}, the space is {space.name}",
                f"use a setting of {space.name}",
            )
        table = analytic_table(space.name, setting.network)
        column = COLUMNS.index("macs")
        entries = torch.from_numpy(table.operations[:, :, column] / 1e6).flatten()
        super().__init__("macs_millions", "MMACs", entries, float(table.frame[column]) / 1e6)


class WeightedSum(Cost):
    """The sum of several costs of one unit, each times its weight.

    Args:
        costs: e.g. the latencies on several devices.
        weights: as many positive numbers; None: the mean.

    Raises:
        InputError: no costs, different units, or weights that do not fit.
    """

    def __init__(self, costs: Sequence[Cost], weights: Sequence[float] | None = None) -> None:
        weights = [1 / max(1, len(costs))] * len(costs) if weights is None else list(weights)
        _check_factors("weight", costs, weights)
        if len({cost.unit for cost in costs}) > 1:
            raise InputError(
                f"{' and '.join(sorted({cost.unit for cost in costs}))} do not add up",
                "combine costs of one unit, or take the worst case relative to targets",
            )
        self._costs, self._weights = tuple(costs), tuple(weights)
        self.unit = costs[0].unit
        names = {cost.name for cost in costs}
        self.name = names.pop() if len(names) == 1 else f"weighted_sum_{self.unit}"

    def __call__(self, encodings: Tensor) -> Tensor:
        parts = [w * cost(encodings) for w, cost in zip(self._weights, self._costs, strict=True)]
        return torch.stack(parts).sum(0)

    def coefficients(self) -> tuple[Tensor, float] | None:
        entries, constant = torch.zeros(()), 0.0
        for weight, cost in zip(self._weights, self._costs, strict=True):
            own = cost.coefficients()
            if own is None:
                return None
            entries, constant = entries + weight * own[0].double(), constant + weight * own[1]
        return entries, constant


class WorstCase(Cost):
    """The largest of several costs, each as a share of its own target.

    At 1 or less, every target is met.

    Args:
        costs: of any units.
        targets: as many, each in its cost's unit.

    Raises:
        InputError: no costs, or targets that do not fit.
    """

    name = "share_of_target"
    unit = "share of the target"

    def __init__(self, costs: Sequence[Cost], targets: Sequence[float]) -> None:
        _check_factors("target", costs, targets)
        self._costs, self._targets = tuple(costs), tuple(targets)

    def __call__(self, encodings: Tensor) -> Tensor:
        shares = [c(encodings) / t for c, t in zip(self._costs, self._targets, strict=True)]
        return torch.stack(shares).amax(0)


class NoisyCost(Cost):
    """A cost with N(0, sd²) added to every number it gives, anew each time (paper, Table 3).

    Args:
        cost: what the noise is added to.
        sd: standard deviation in the unit of the cost.
        generator: source of the noise.

    Raises:
        InputError: ``sd`` is negative or no number.
    """

    def __init__(self, cost: Cost, sd: float, generator: torch.Generator) -> None:
        check_noise(sd)
        self.name, self.unit = cost.name, cost.unit
        self._cost, self._sd, self._generator = cost, sd, generator

    def __call__(self, encodings: Tensor) -> Tensor:
        noise = torch.randn(len(encodings), generator=self._generator, dtype=encodings.dtype)
        return self._cost(encodings) + self._sd * noise


@dataclass(frozen=True)
class CostParts:
    """What costs are made of.

    Attributes:
        space: the space.
        setting: of the networks.
        predicted: of each device in turn, what is predicted.
        factors: as many weights or targets, where the cost takes them; None: none were given.
    """

    space: SearchSpace
    setting: Setting
    predicted: Sequence[Cost] = ()
    factors: Sequence[float] | None = None


@dataclass(frozen=True)
class CostKind:
    """An entry of ``COSTS``.

    Attributes:
        make: makes the cost.
        predicts: what the LPMs that it is made of predict.
        several: whether it is of several devices, rather than of one.
        relative: whether its factors are what a cell in print costs on each device.
        usual_weight: λ in one over its unit, where one is in print, and where; for people.
    """

    make: Callable[[CostParts], Cost]
    predicts: str = LATENCY
    several: bool = False
    relative: bool = False
    usual_weight: str | None = None


def _single(parts: CostParts) -> Cost:
    if len(parts.predicted) != 1:
        raise InputError(
            f"{len(parts.predicted)} devices do not make one predicted cost",
            "name one device, or combine several by weighted-sum or worst-case",
        )
    return parts.predicted[0]


def _worst_case(parts: CostParts) -> Cost:
    if parts.factors is None:
        raise InputError("the worst case needs a target for each device", "give the targets")
    return WorstCase(parts.predicted, parts.factors)


COSTS: dict[str, CostKind] = {
    "predicted": CostKind(_single),
    "energy": CostKind(_single, predicts="energy_mj"),
    "macs": CostKind(
        lambda parts: MacsCost(parts.space, parts.setting),
        usual_weight="0.005 (Table 4's η, of networks of some 500 MMACs)",
    ),
    "weighted-sum": CostKind(
        lambda parts: WeightedSum(parts.predicted, parts.factors), several=True
    ),
    "worst-case": CostKind(_worst_case, several=True, relative=True),
}


def make_cost(name: str, parts: CostParts) -> Cost:
    """The cost of that name.

    Raises:
        InputError: there is no such cost, or the parts do not fit it.
    """
    if name not in COSTS:
        raise InputError(f"unknown cost {name!r}", f"use one of: {', '.join(COSTS)}")
    return COSTS[name].make(parts)


def expectation(
    space: SearchSpace, alpha: Tensor, cost: Cost, edge_strength: Tensor | None = None
) -> Tensor:
    """E[cost] under S(α), exact and differentiable, of a cost that has coefficients.

    Args:
        space: the space.
        alpha: ``E x O``.
        cost: a linear one.
        edge_strength: ``E`` positive numbers; None: sets of edges are uniform.

    Returns:
        A scalar in the cost's unit.

    Raises:
        InputError: the cost is not linear.
    """
    own = cost.coefficients()
    if own is None:
        raise InputError(f"{cost.name} is no sum over operations", "estimate it from samples")
    distribution = Distribution.of(space, alpha, edge_strength)
    entries = own[0].to(alpha.dtype).view_as(alpha)[:, list(space.choices)]
    return distribution.inclusion() @ (distribution.operations * entries).sum(1) + own[1]


def evaluate(space: SearchSpace, cost: Cost, matrix: npt.ArrayLike) -> FloatArray:
    """Costs of the rows of an ``n x E`` choice matrix.

    Raises:
        SpaceError: a row is not an architecture of the space.
    """
    encodings = torch.from_numpy(space.encode(matrix))
    with torch.no_grad():
        parts = [cost(part) for part in encodings.split(SERVED_AT_ONCE)]
    return np.asarray(torch.cat(parts).double().numpy())


def check_noise(sd: float) -> None:
    """Raises: InputError: ``sd`` is no standard deviation."""
    if not (math.isfinite(sd) and sd >= 0):
        raise InputError(f"{sd} is no standard deviation", "use 0 or more, in the cost's unit")


def _check_factors(what: str, costs: Sequence[Cost], factors: Sequence[float]) -> None:
    if not costs or len(costs) != len(factors):
        raise InputError(
            f"{len(factors)} {what}s for {len(costs)} costs", f"give one {what} for each cost"
        )
    for factor in factors:
        if not (math.isfinite(factor) and factor > 0):
            raise InputError(f"{factor} is no {what}", "use a positive number")
