"""The request of ``latkit retarget``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latkit.core.errors import InputError
from latkit.core.requests import check_seed, set_paths, set_tuples

# Limits and targets that have a value for each device, and those of the network itself.
OF_DEVICES = ("target_ms", "max_ms", "max_mj")
OF_NETWORKS = ("max_macs_millions", "max_params_millions")


@dataclass(frozen=True)
class RetargetRequest:
    """What is wanted of the architectures for one device or several.

    Attributes:
        run: where the accuracies are known from: the folder of a one-shot search that has ended,
            that of an accuracy LPM, or its reference in the registry.
        device: references of the devices' latency LPMs, all of one setting.
        target_ms: the latency to be near, one for all devices or one each.
        max_ms: what the latency may be at most, likewise.
        max_mj: what the energy of a run may be at most, likewise, by the energy LPMs of the same
            targets.
        max_macs_millions, max_params_millions: what the network may have at most.
        front: how many points of the front are wanted; None: the one most accurate architecture.
        confidence: with what probability limits of predicted costs are kept; None: the predictions
            themselves are within them.
        measure: how many candidates are measured on the devices that are here, whose LPMs are then
            corrected; 0: everything is predicted.
        space: of the LPMs; None: that of ``run``.
        seed: of the search in a large space.
        registry: URL of the LPMs; None: the default one.
        out: the folder, new or of the same request; None: ``retargets/DEVICE/`` and what is wanted.

    Raises:
        InputError: a value is out of range, or the numbers of devices and values do not fit.
    """

    run: str | Path
    device: tuple[str, ...]
    target_ms: tuple[float, ...] = ()
    max_ms: tuple[float, ...] = ()
    max_mj: tuple[float, ...] = ()
    max_macs_millions: float | None = None
    max_params_millions: float | None = None
    front: int | None = None
    confidence: float | None = None
    measure: int = 0
    space: str | None = None
    seed: int = 0
    registry: str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        set_tuples(self, "device", *OF_DEVICES)
        set_paths(self, "out")
        check_seed(self.seed)
        if not self.device:
            raise InputError("there is no device to retarget to", "name an LPM of one")
        for name in OF_DEVICES:
            values = getattr(self, name)
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
        if self.measure < 0:
            raise InputError(f"measure={self.measure} is not possible", "use 0 or more")
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise InputError(
                f"confidence={self.confidence:g} is out of range", "use 0.5 or more, below 1"
            )

    @property
    def title(self) -> str:
        """What is wanted, as the name of a folder, e.g. ``max-ms-5`` or ``front-10``."""
        wanted = [] if self.front is None else [f"front-{self.front}"]
        for name in OF_DEVICES:
            values = "-".join(f"{value:g}" for value in dict.fromkeys(getattr(self, name)))
            wanted += [f"{name.replace('_', '-')}-{values}"] if values else []
        for name in (*OF_NETWORKS, "confidence"):
            value = getattr(self, name)
            short = name.removesuffix("_millions").replace("_", "-")
            wanted += [] if value is None else [f"{short}-{value:g}"]
        return "-".join(wanted) or "most-accurate"
