"""From an accuracy LPM and devices' LPMs to the architectures for these devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latkit.core.errors import InputError
from latkit.core.quantities import ACCURACY, get_quantity
from latkit.core.requests import check_seed, set_tuples
from latkit.core.storage import Storage
from latkit.lpm.base import FloatArray
from latkit.lpm.prediction import PublishedLPM
from latkit.lpm.store import CARD, read_lpm
from latkit.lpm.threads import one_thread
from latkit.registry import Registry, load_lpm
from latkit.search.objectives import (
    MacsObjective,
    ParamsObjective,
    PredictedBound,
    PredictedObjective,
)
from latkit.search.oneshot.accuracy import FOLDER
from latkit.search.retarget import Condition, Front, Limit, Near, most_accurate, pareto_front
from latkit.spaces import ChoiceMatrix, SearchSpace, Setting, get_space
from latkit.spaces.registry import analytic_table

ENERGY = "energy_mj"


@dataclass(frozen=True)
class RetargetRequest:
    """What is wanted of the architectures for one device or several.

    Attributes:
        accuracy: the accuracy LPM: its folder, that of the one-shot search which ended with it, or
            its reference in the registry.
        device: references of the devices' latency LPMs, all of one setting.
        space: of the LPMs.
        target_ms: the latency to be near, one for all devices or one each.
        max_ms: what the latency may be at most, likewise.
        max_mj: what the energy of a run may be at most, likewise, by the energy LPMs of the same
            targets.
        max_macs_millions, max_params_millions: what the network may have at most.
        front: how many points of the front are wanted; None: the one most accurate architecture.
        confidence: with what probability limits of predicted costs are kept; None: the predictions
            themselves are within them.
        seed: of the search in a large space.
        registry: URL of the LPMs; None: the default one.

    Raises:
        InputError: a value is out of range, or the numbers of devices and values do not fit.
    """

    accuracy: str | Path
    device: tuple[str, ...]
    space: str = "darts"
    target_ms: tuple[float, ...] = ()
    max_ms: tuple[float, ...] = ()
    max_mj: tuple[float, ...] = ()
    max_macs_millions: float | None = None
    max_params_millions: float | None = None
    front: int | None = None
    confidence: float | None = None
    seed: int = 0
    registry: str | None = None

    def __post_init__(self) -> None:
        set_tuples(self, "device")
        check_seed(self.seed)
        if not self.device:
            raise InputError("there is no device to retarget to", "name an LPM of one")
        for name in ("target_ms", "max_ms", "max_mj"):
            given = getattr(self, name)
            values = tuple(given) if isinstance(given, (tuple, list)) else (given,)
            if len(values) == 1:
                values *= len(self.device)
            object.__setattr__(self, name, values)
            if values and len(values) != len(self.device):
                raise InputError(
                    f"{len(values)} values of {name} for {len(self.device)} devices",
                    "give one for all devices, or one for each",
                )
        if self.front is not None and (self.front < 1 or self.target_ms):
            raise InputError(
                f"front={self.front} is not possible"
                + (" with a target" if self.target_ms else ""),
                "use 1 or more points, within limits",
            )
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise InputError(
                f"confidence={self.confidence:g} is out of range", "use 0.5 or more, below 1"
            )


@dataclass(frozen=True)
class PredictedCost:
    """What an LPM predicts of an architecture.

    Attributes:
        lpm: its reference.
        quantity: the name of what is predicted, with its unit.
        value: the prediction.
        std: half the width of the interval that two thirds of measurements meet.
    """

    lpm: str
    quantity: str
    value: float
    std: float

    def to_dict(self) -> dict[str, Any]:
        suffix = get_quantity(self.quantity).suffix
        return {"lpm": self.lpm, self.quantity: self.value, f"std_{suffix}": self.std}


@dataclass(frozen=True)
class RetargetPoint:
    """One architecture.

    Attributes:
        arch: its text in its space.
        arch_id: its identifier.
        accuracy: predicted.
        costs: predicted, of each device in turn: the latency, and the energy where it is limited.
        macs, params: of the network in the devices' setting.
    """

    arch: str
    arch_id: int
    accuracy: PredictedCost
    costs: tuple[PredictedCost, ...]
    macs: int
    params: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "arch": self.arch,
            "arch_id": self.arch_id,
            **{k: v for k, v in self.accuracy.to_dict().items() if k != "lpm"},
            "costs": [cost.to_dict() for cost in self.costs],
            "macs": self.macs,
            "params": self.params,
        }


@dataclass(frozen=True)
class RetargetResult:
    """The architectures for the devices, predicted and not measured.

    Attributes:
        space: its name.
        setting: of the devices' LPMs.
        accuracy: reference or folder of the accuracy LPM.
        points: the one architecture, or the front by rising latency on the first device.
        evaluated: how many architectures were looked at.
        exhaustive: whether that were all of the space.
        warnings: what to know of the LPMs, one line each.
    """

    space: str
    setting: Setting
    accuracy: str
    points: tuple[RetargetPoint, ...]
    evaluated: int
    exhaustive: bool
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "space": self.space,
            "setting": self.setting.to_dict(),
            "accuracy_lpm": self.accuracy,
            "points": [point.to_dict() for point in self.points],
            "evaluated": self.evaluated,
            "exhaustive": self.exhaustive,
            "warnings": list(self.warnings),
        }


@one_thread()
def retarget(request: RetargetRequest) -> RetargetResult:
    """The architectures that are most accurate, as predicted, for one device or several.

    Nothing is trained or measured, and no image is read.

    Raises:
        InputError: a reference is unknown or of another quantity, the LPMs are of different spaces
            or settings, or no architecture keeps the limits.
        LPMError: a file of an LPM is missing or corrupt.
        LatkitError: a file cannot be read.
    """
    space, registry = get_space(request.space), Registry(request.registry)
    accuracy = _load_accuracy(request, registry)
    latencies = [_load(reference, request, registry) for reference in request.device]
    energies = [_energy_of(lpm, request, registry) for lpm in latencies if request.max_mj]
    costs = [*latencies, *energies]
    setting = latencies[0].target.setting
    for lpm in costs:
        lpm.check_setting(setting)
    conditions = _conditions(request, space, setting, latencies, energies)
    predicted = _objective(accuracy)
    if request.front is None:
        choice = most_accurate(space, predicted, conditions, request.seed)
        rows, evaluated, exhaustive = choice.row[None], choice.evaluated, choice.exhaustive
    else:
        found: Front = pareto_front(
            space, predicted, [_objective(lpm) for lpm in latencies], conditions, request.seed
        ).spread(request.front)
        rows, evaluated, exhaustive = found.rows, found.evaluated, found.exhaustive
    warnings = dict.fromkeys(line for lpm in (accuracy, *costs) for line in lpm.warnings)
    return RetargetResult(
        space.name,
        setting,
        accuracy.reference,
        _points(space, setting, rows, accuracy, costs),
        evaluated,
        exhaustive,
        tuple(warnings),
    )


def _load(reference: str, request: RetargetRequest, registry: Registry) -> PublishedLPM:
    lpm = load_lpm(reference, request.space, registry)
    if not get_quantity(lpm.quantity).is_cost or lpm.unit != "ms":
        raise InputError(f"{reference!r} is an LPM of {lpm.quantity}", "name one of a latency")
    return lpm


def _energy_of(lpm: PublishedLPM, request: RetargetRequest, registry: Registry) -> PublishedLPM:
    """The newest energy LPM of the same target."""
    target = lpm.target
    reference = f"{target.device}/{target.backend}/{target.setting.slug}+{ENERGY}"
    return load_lpm(reference, request.space, registry)


def _load_accuracy(request: RetargetRequest, registry: Registry) -> PublishedLPM:
    given = Path(request.accuracy)
    folder = next((path for path in (given, given / FOLDER) if (path / CARD).exists()), None)
    if folder is not None:
        model, card = read_lpm(Storage(str(folder.parent)), folder.name)
        lpm = PublishedLPM(model, card, str(folder))
    else:
        lpm = load_lpm(str(request.accuracy), request.space, registry)
    if lpm.quantity != ACCURACY:
        raise InputError(
            f"{request.accuracy} is an LPM of {lpm.quantity}", "name the LPM of an accuracy"
        )
    if lpm.space != request.space:
        raise InputError(
            f"{request.accuracy} is an LPM of the space {lpm.space}, not {request.space}",
            f"use --space {lpm.space}, and LPMs of devices for it",
        )
    return lpm


def _objective(lpm: PublishedLPM) -> PredictedObjective:
    return PredictedObjective(lpm.lpm, lpm.quantity)


def _conditions(
    request: RetargetRequest,
    space: SearchSpace,
    setting: Setting,
    latencies: Sequence[PublishedLPM],
    energies: Sequence[PublishedLPM],
) -> list[Condition]:
    def name(lpm: PublishedLPM) -> str:
        return f"{get_quantity(lpm.quantity).noun} on {lpm.target.device}"

    def limit(lpm: PublishedLPM, value: float) -> Limit:
        if request.confidence is None:
            return Limit(name(lpm), _objective(lpm), value)
        bound = PredictedBound(_objective(lpm), request.confidence)
        return Limit(f"{name(lpm)} with probability {request.confidence:g}", bound, value)

    conditions: list[Condition] = [
        Near(name(lpm), _objective(lpm), value)
        for lpm, value in zip(latencies, request.target_ms, strict=False)
    ]
    for lpms, values in ((latencies, request.max_ms), (energies, request.max_mj)):
        conditions += [limit(lpm, value) for lpm, value in zip(lpms, values, strict=False)]
    if request.max_macs_millions is not None:
        macs = MacsObjective(space, setting)
        conditions.append(Limit("MACs", macs, request.max_macs_millions))
    if request.max_params_millions is not None:
        params = ParamsObjective(space, setting)
        conditions.append(Limit("parameters", params, request.max_params_millions))
    return conditions


def _points(
    space: SearchSpace,
    setting: Setting,
    rows: ChoiceMatrix,
    accuracy: PublishedLPM,
    costs: Sequence[PublishedLPM],
) -> tuple[RetargetPoint, ...]:
    encodings = space.encode(rows)

    def predictions(lpm: PublishedLPM) -> list[PredictedCost]:
        values: FloatArray = lpm.lpm.predict(encodings)
        stds = lpm.lpm.predict_std(encodings)
        return [
            PredictedCost(lpm.reference, lpm.quantity, float(value), float(std))
            for value, std in zip(values, stds, strict=True)
        ]

    of_costs = np.array([predictions(lpm) for lpm in costs], dtype=object).T
    sizes = analytic_table(space.name, setting.network).costs(rows)
    return tuple(
        RetargetPoint(space.format(row), int(arch_id), quality, tuple(own), size.macs, size.params)
        for row, arch_id, quality, own, size in zip(
            rows, space.rank(rows), predictions(accuracy), of_costs, sizes, strict=True
        )
    )
