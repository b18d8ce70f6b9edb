"""What ``latkit retarget`` gives: ``result.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.quantities import get_quantity
from latkit.core.version import __version__
from latkit.dataset import Target
from latkit.spaces import Setting

KIND, FORMAT_VERSION = "retarget", 1


@dataclass(frozen=True)
class PointCost:
    """What is known of a cost of an architecture on a device.

    Attributes:
        lpm: reference of the LPM.
        quantity: what the cost is, with its unit.
        predicted: by the LPM.
        predicted_std: half the width of the interval that two thirds of measurements meet.
        corrected, corrected_std: the same by the LPM and what was measured; None: nothing was.
        measured: the mean of its undisturbed measurements, at the speed that the machine had when
            the LPM's dataset was measured, as predictions are; None: it was not measured.
        measured_error: half of the interval in which the mean is with 95 %; None: of one.
    """

    lpm: str
    quantity: str
    predicted: float
    predicted_std: float
    corrected: float | None = None
    corrected_std: float | None = None
    measured: float | None = None
    measured_error: float | None = None

    @property
    def value(self) -> float:
        """What the choice went by: corrected where anything was measured, else predicted."""
        return self.predicted if self.corrected is None else self.corrected

    def to_dict(self) -> dict[str, Any]:
        quantity = get_quantity(self.quantity)
        numbers = ("predicted", "predicted_std", "corrected", "corrected_std", "measured",
                   "measured_error")  # fmt: skip
        return {
            "lpm": self.lpm,
            "cost": self.quantity,
            "unit": quantity.unit,
            **{f"{name}_{quantity.suffix}": getattr(self, name) for name in numbers},
        }


@dataclass(frozen=True)
class RetargetPoint:
    """One architecture.

    Attributes:
        genotype: text of its network, of DARTS both cells.
        arch: its text in its space.
        arch_id: its identifier.
        accuracy_percent, accuracy_std_percent: predicted; the latter as of costs.
        costs: of each device in turn the latency, and then the energy where it is limited.
        macs, params: of the network in the devices' setting.
    """

    genotype: str
    arch: str
    arch_id: int
    accuracy_percent: float
    accuracy_std_percent: float
    costs: tuple[PointCost, ...]
    macs: int
    params: int

    @property
    def is_measured(self) -> bool:
        """Whether it was, on any device."""
        return any(cost.measured is not None for cost in self.costs)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "costs": [cost.to_dict() for cost in self.costs]}


@dataclass(frozen=True)
class RetargetedDevice:
    """A device that was retargeted to.

    Attributes:
        lpm: reference of its latency LPM.
        target: that the LPM predicts for.
        known_ms: between what predictions the LPM is relied on.
        measured: how many architectures were measured on it.
        skip_reason: why none were, where they should have been.
    """

    lpm: str
    target: Target
    known_ms: tuple[float, float]
    measured: int
    skip_reason: str | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "lpm": self.lpm,
            "target": self.target.to_dict(),
            "known_ms": list(self.known_ms),
            "measured": self.measured,
            "why_not": self.skip_reason,
        }


@dataclass(frozen=True)
class RetargetResult:
    """The architectures for the devices.

    Attributes:
        space: its name.
        setting: of the devices' LPMs.
        accuracy: reference or folder of the accuracy LPM.
        wanted: the limits and targets for people, one each.
        devices: in the order of the request.
        points: the one architecture, or the front by rising latency on the first device.
        others: what was measured besides, by rising latency on the first device.
        is_front: whether a front was requested.
        evaluated: how many architectures were looked at.
        exhaustive: whether that were all of the space.
        warnings: what to know of the LPMs, one line each.
        out: the folder.
    """

    space: str
    setting: Setting
    accuracy: str
    wanted: tuple[str, ...]
    devices: tuple[RetargetedDevice, ...]
    points: tuple[RetargetPoint, ...]
    others: tuple[RetargetPoint, ...]
    is_front: bool
    evaluated: int
    exhaustive: bool
    warnings: tuple[str, ...]
    out: Path

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        (first, *_) = self.points
        # Whatever reads an architecture from a search's result finds it in the same place.
        found = {"genotype": first.genotype, "arch": first.arch, "arch_id": first.arch_id}
        points = [
            {"name": point_name(number), **point.to_dict()}
            for number, point in enumerate(self.points, start=1)
        ]
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "latkit_version": __version__,
            **({} if self.is_front else found),
            "points": points,
            "space": self.space,
            "setting": self.setting.to_dict(),
            "accuracy_lpm": self.accuracy,
            "wanted": list(self.wanted),
            "devices": [device.to_dict() for device in self.devices],
            "evaluated": self.evaluated,
            "exhaustive": self.exhaustive,
            "warnings": list(self.warnings),
            "others": [_without_texts(point) for point in self.others],
        }


def point_name(number: int) -> str:
    """What a point is called, in ``result.json:p3`` too."""
    return f"p{number}"


def _without_texts(point: RetargetPoint) -> dict[str, Any]:
    """A point by its identifier alone: who reads the architectures of the file wants the others."""
    return {k: v for k, v in point.to_dict().items() if k not in ("genotype", "arch")}
