"""What α's step weighs: latency or energy of one device or several, or multiply-adds.

A new objective is a subclass of :class:`Objective`, registered here or by an entry point in the
group ``latkit.objectives``; its class attributes describe what it is made of.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.core.plugins import Plugins
from latkit.core.quantities import LATENCY, get_quantity
from latkit.lpm.base import SERVED_AT_ONCE, FloatArray, Predictor
from latkit.search.estimators import Distribution
from latkit.spaces import SearchSpace, Setting
from latkit.spaces.analytic import COLUMNS
from latkit.spaces.registry import analytic_table


class Objective(ABC):
    """A number that each architecture has, of which α's step weighs the expectation.

    Attributes:
        quantity: what the number is, with its unit, as in ``latency_ms``.
        unit: for people, as in ``ms``; λ has the unit 1/``unit``.
        predicts: the quantity that the LPMs which it is made of predict.
        several: whether it is of several devices, rather than of one.
        relative: whether its factors are what the space's reference architecture costs on each
            device.
        usual_weight: a published λ, with its source, as a text; None: there is none.
    """

    quantity: str
    unit: str
    predicts: ClassVar[str] = LATENCY
    several: ClassVar[bool] = False
    relative: ClassVar[bool] = False
    usual_weight: ClassVar[str | None] = None

    @classmethod
    def from_parts(cls, parts: ObjectiveParts) -> Objective:
        """The objective of a search.

        Args:
            parts: what is known of the search; the default needs nothing of it.

        Raises:
            InputError: the parts do not fit.
        """
        return cls()

    @abstractmethod
    def __call__(self, encodings: Tensor) -> Tensor:
        """Values of ``n x E*O`` encodings: ``n``, of the encodings' type.

        Differentiable in the encodings, if the objective is.
        """

    def coefficients(self) -> tuple[Tensor, float] | None:
        """Where the objective is ``encoding @ c + d``: ``c``, an ``E*O``-dim tensor, and ``d``.

        The expectation of such an objective is exact (:func:`expectation`); None: it is not of
        this form.
        """
        return None


@dataclass(frozen=True)
class ObjectiveParts:
    """What objectives are made of.

    Attributes:
        space: the space.
        setting: of the networks.
        predicted: of each device in turn, what is predicted.
        factors: as many weights or targets, where the objective takes them; None: none were given.
    """

    space: SearchSpace
    setting: Setting
    predicted: Sequence[Objective] = ()
    factors: Sequence[float] | None = None


_HERE = __name__
OBJECTIVES: Plugins[Objective] = Plugins(
    "objective",
    "latkit.objectives",
    Objective,  # type: ignore[type-abstract]
    dict.fromkeys(("predicted", "energy", "macs", "weighted-sum", "worst-case"), _HERE),
)


@OBJECTIVES.register("predicted")
class PredictedObjective(Objective):
    """What an LPM predicts of one device.

    Args:
        lpm: the LPM; it predicts in single precision, as everywhere.
        quantity: what it predicts, by the name on its card.

    Raises:
        InputError: no LPM predicts such a quantity.
    """

    def __init__(self, lpm: Predictor, quantity: str = LATENCY) -> None:
        self.lpm, self.quantity, self.unit = lpm, quantity, get_quantity(quantity).unit

    @classmethod
    def from_parts(cls, parts: ObjectiveParts) -> Objective:
        if len(parts.predicted) != 1:
            raise InputError(
                f"{len(parts.predicted)} devices do not make one predicted objective",
                "name one device, or combine several by weighted-sum or worst-case",
            )
        return parts.predicted[0]

    def __call__(self, encodings: Tensor) -> Tensor:
        return self.lpm.mean(encodings.float()).to(encodings.dtype)

    def coefficients(self) -> tuple[Tensor, float] | None:
        return self.lpm.coefficients()

    # Two of one LPM are the same: what was computed of the one serves the other.
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PredictedObjective)
            and other.lpm is self.lpm
            and other.quantity == self.quantity
        )

    def __hash__(self) -> int:
        return hash((id(self.lpm), self.quantity))


@OBJECTIVES.register("energy")
class PredictedEnergy(PredictedObjective):
    """What the LPM of energy of the same target predicts."""

    predicts = "energy_mj"


class PredictedBound(Objective):
    """What a quantity of one device stays below with a probability, by an LPM's intervals.

    Args:
        predicted: of the quantity.
        confidence: the probability; see :meth:`latkit.lpm.base.Predictor.margin`.
    """

    def __init__(self, predicted: PredictedObjective, confidence: float) -> None:
        self.quantity, self.unit = predicted.quantity, predicted.unit
        self._predicted, self._confidence = predicted, confidence

    def __call__(self, encodings: Tensor) -> Tensor:
        margin = self._predicted.lpm.margin(encodings, self._confidence)
        return self._predicted(encodings) + margin.to(encodings.dtype)


class LinearObjective(Objective):
    """A table of what each operation on each edge adds to a constant.

    Args:
        quantity, unit: see :class:`Objective`.
        entries: ``E*O``.
        constant: what all architectures share.
    """

    def __init__(self, quantity: str, unit: str, entries: Tensor, constant: float) -> None:
        self.quantity, self.unit = quantity, unit
        self._entries, self._constant = entries.double(), constant

    def __call__(self, encodings: Tensor) -> Tensor:
        return encodings @ self._entries.to(encodings.dtype) + self._constant

    def coefficients(self) -> tuple[Tensor, float]:
        return self._entries, self._constant


class AnalyticObjective(LinearObjective):
    """A column of the analytic table, in millions, of the whole network, exact.

    Args:
        space: one of those that latkit knows by name.
        setting: the network's.

    Attributes:
        column: its name in the table.

    Raises:
        InputError: the setting is of another space.
    """

    column: ClassVar[str]

    def __init__(self, space: SearchSpace, setting: Setting) -> None:
        if setting.space != space.name:
            raise InputError(
                f"the setting's networks are of {setting.space}, the space is {space.name}",
                f"use a setting of {space.name}",
            )
        table = analytic_table(space.name, setting.network)
        column = COLUMNS.index(self.column)
        entries = torch.from_numpy(table.operations[:, :, column] / 1e6).flatten()
        super().__init__(self.quantity, self.unit, entries, float(table.frame[column]) / 1e6)

    @classmethod
    def from_parts(cls, parts: ObjectiveParts) -> Objective:
        return cls(parts.space, parts.setting)


@OBJECTIVES.register("macs")
class MacsObjective(AnalyticObjective):
    """Multiply-adds (the paper's control, Table 4)."""

    column, quantity, unit = "macs", "macs_millions", "MMACs"
    usual_weight = "0.005 (Table 4's η, of networks of some 500 MMACs)"


class ParamsObjective(AnalyticObjective):
    """Trainable parameters; a limit for retargeting, and nothing that α's step weighs."""

    column, quantity, unit = "params", "params_millions", "M"


@OBJECTIVES.register("weighted-sum")
class WeightedSum(Objective):
    """The sum of several objectives of one unit, each times its weight.

    Args:
        objectives: e.g. the latencies on several devices.
        weights: as many positive numbers; None: the mean.

    Raises:
        InputError: no objectives, different units, or weights that do not fit.
    """

    several = True

    def __init__(
        self, objectives: Sequence[Objective], weights: Sequence[float] | None = None
    ) -> None:
        weights = (
            [1 / max(1, len(objectives))] * len(objectives) if weights is None else list(weights)
        )
        _check_factors("weight", objectives, weights)
        units = sorted({objective.unit for objective in objectives})
        if len(units) > 1:
            raise InputError(
                f"{' and '.join(units)} do not add up",
                "combine objectives of one unit, or take the worst case relative to targets",
            )
        self._objectives, self._weights = tuple(objectives), tuple(weights)
        self.unit = objectives[0].unit
        quantities = {objective.quantity for objective in objectives}
        self.quantity = quantities.pop() if len(quantities) == 1 else f"weighted_sum_{self.unit}"

    def __call__(self, encodings: Tensor) -> Tensor:
        parts = [
            w * objective(encodings)
            for w, objective in zip(self._weights, self._objectives, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def coefficients(self) -> tuple[Tensor, float] | None:
        entries, constant = torch.zeros(()), 0.0
        for weight, objective in zip(self._weights, self._objectives, strict=True):
            linear = objective.coefficients()
            if linear is None:
                return None
            entries, constant = entries + weight * linear[0].double(), constant + weight * linear[1]
        return entries, constant

    @classmethod
    def from_parts(cls, parts: ObjectiveParts) -> Objective:
        return cls(parts.predicted, parts.factors)


@OBJECTIVES.register("worst-case")
class WorstCase(Objective):
    """The largest of several objectives, each as a share of its own target.

    At 1 or less, every target is met.

    Args:
        objectives: of any units.
        targets: as many, each in its objective's unit.

    Raises:
        InputError: no objectives, or targets that do not fit.
    """

    quantity = "share_of_target"
    unit = "share of the target"
    several = True
    relative = True

    def __init__(self, objectives: Sequence[Objective], targets: Sequence[float]) -> None:
        _check_factors("target", objectives, targets)
        self._objectives, self._targets = tuple(objectives), tuple(targets)

    def __call__(self, encodings: Tensor) -> Tensor:
        shares = [c(encodings) / t for c, t in zip(self._objectives, self._targets, strict=True)]
        return torch.stack(shares).amax(0)

    @classmethod
    def from_parts(cls, parts: ObjectiveParts) -> Objective:
        if parts.factors is None:
            raise InputError("the worst case needs a target for each device", "give the targets")
        return cls(parts.predicted, parts.factors)


class NoisyObjective(Objective):
    """An objective with N(0, sd²) added to every number it gives, anew each time (paper, Table 3).

    Args:
        objective: what the noise is added to.
        sd: standard deviation in the unit of the objective.
        generator: source of the noise.

    Raises:
        InputError: ``sd`` is negative or no number.
    """

    def __init__(self, objective: Objective, sd: float, generator: torch.Generator) -> None:
        check_noise(sd)
        self.quantity, self.unit = objective.quantity, objective.unit
        self._objective, self._sd, self._generator = objective, sd, generator

    def __call__(self, encodings: Tensor) -> Tensor:
        noise = torch.randn(len(encodings), generator=self._generator, dtype=encodings.dtype)
        return self._objective(encodings) + self._sd * noise


def make_objective(name: str, parts: ObjectiveParts) -> Objective:
    """The objective of that name.

    Raises:
        InputError: there is no such objective, or the parts do not fit it.
        PluginError: it is a plug-in that does not load.
    """
    return OBJECTIVES.get(name).from_parts(parts)


def expectation(
    space: SearchSpace, alpha: Tensor, objective: Objective, edge_strength: Tensor | None = None
) -> Tensor:
    """E[cost] under S(α), exact and differentiable, of an objective that has coefficients.

    Args:
        space: the space.
        alpha: ``E x O``.
        objective: a linear one.
        edge_strength: ``E`` positive numbers; None: sets of edges are uniform.

    Returns:
        A scalar in the objective's unit.

    Raises:
        InputError: the objective is not linear.
    """
    linear = objective.coefficients()
    if linear is None:
        raise InputError(
            f"{objective.quantity} is no sum over operations", "estimate it from samples"
        )
    distribution = Distribution.of(space, alpha, edge_strength)
    entries = linear[0].to(alpha.dtype).view_as(alpha)[:, list(space.choices)]
    return distribution.inclusion() @ (distribution.operations * entries).sum(1) + linear[1]


def evaluate(space: SearchSpace, objective: Objective, matrix: npt.ArrayLike) -> FloatArray:
    """Values of the rows of an ``n x E`` choice matrix.

    Raises:
        SpaceError: a row is not an architecture of the space.
    """
    encodings = torch.from_numpy(space.encode(matrix))
    with torch.no_grad():
        parts = [objective(part) for part in encodings.split(SERVED_AT_ONCE)]
    return np.asarray(torch.cat(parts).double().numpy())


def check_noise(sd: float) -> None:
    """Raises: InputError: ``sd`` is no standard deviation."""
    if not (math.isfinite(sd) and sd >= 0):
        raise InputError(f"{sd} is no standard deviation", "use 0 or more, in the objective's unit")


def _check_factors(what: str, objectives: Sequence[Objective], factors: Sequence[float]) -> None:
    if not objectives or len(objectives) != len(factors):
        raise InputError(
            f"{len(factors)} {what}s for {len(objectives)} objectives",
            f"give one {what} for each objective",
        )
    for factor in factors:
        if not (math.isfinite(factor) and factor > 0):
            raise InputError(f"{factor} is no {what}", "use a positive number")
