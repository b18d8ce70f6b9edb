"""What a search or a sweep has found, as ``result.json`` and ``sweep.json`` have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latkit.core.errors import LatkitError, SearchError
from latkit.core.quantities import get_quantity
from latkit.core.version import __version__
from latkit.dataset import Target
from latkit.search.config import SearchConfig
from latkit.search.epochs import SearchOutcome
from latkit.spaces import Architecture

# Keys of the networks in files, besides that of the space's reference.
FOUND, WHOLE = "found", "found_genotype"


@dataclass(frozen=True)
class NetworkResult:
    """One network at the end of a search.

    Attributes:
        genotype: text of its architecture.
        measured_ms: at the machine's speed now; None: not measured, as the next two.
        measured_at_profile_speed_ms: at the anchor's speed when the LPM's dataset was measured,
            as predictions are; None for an imported dataset, too.
        measured_relative_std: standard deviation of its runs, over their mean.
        macs: multiply-adds for one image.
        params: trainable parameters.
        predicted_ms: by the search's LPM; None: no LPM predicts it.
        predicted_std_ms: half the width of the interval that two thirds of measurements meet.
    """

    genotype: str
    measured_ms: float | None
    measured_at_profile_speed_ms: float | None
    measured_relative_std: float | None
    macs: int
    params: int
    predicted_ms: float | None = None
    predicted_std_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        predicted: dict[str, Any] = {}
        if self.predicted_ms is not None:
            predicted = {
                "predicted_ms": self.predicted_ms,
                "predicted_std_ms": self.predicted_std_ms,
            }
        return {
            "genotype": self.genotype,
            **predicted,
            "measured_ms": self.measured_ms,
            "measured_at_profile_speed_ms": self.measured_at_profile_speed_ms,
            "measured_relative_std": self.measured_relative_std,
            "macs": self.macs,
            "params": self.params,
        }


@dataclass(frozen=True)
class DeviceValue:
    """What one LPM predicts of what was found, and of the space's reference.

    Attributes:
        lpm: reference of the LPM.
        unit: of both numbers.
    """

    lpm: str
    unit: str
    found: float
    reference: float


@dataclass(frozen=True)
class SearchedFor:
    """What the search weighed.

    Attributes:
        cost: name of the objective.
        quantity: its quantity, with the unit, as in ``latency_ms``.
        unit: of ``found`` and ``reference``.
        found: objective of what was found.
        reference: objective of the space's reference.
        target_ms: None: there was none.
        on_target: whether ``found`` is within 5 % of the target; None without one.
        devices: of each device, what its LPM predicts.
    """

    cost: str
    quantity: str
    unit: str
    found: float
    reference: float
    target_ms: float | None
    on_target: bool | None
    devices: tuple[DeviceValue, ...]

    def to_dict(self, reference: str) -> dict[str, Any]:
        """Args: reference: what the space's reference is called in files."""
        return {
            "cost": self.cost,
            "name": self.quantity,
            "unit": self.unit,
            "found": self.found,
            reference: self.reference,
            "target_ms": self.target_ms,
            "on_target": self.on_target,
            "devices": [
                {
                    "lpm": device.lpm,
                    "unit": device.unit,
                    "found": device.found,
                    reference: device.reference,
                }
                for device in self.devices
            ],
        }


@dataclass(frozen=True)
class MeasuringInfo:
    """How networks were measured.

    Attributes:
        backend: by which.
        clock: which time counts.
        anchored: whether runs alternated with those of the anchor.
        visits: measurements of each network.
        visits_disturbed: those of the first network that were disturbed.
        anchor_median_ms: of the anchor, now.
        anchor_median_when_profiled_ms: when the LPM's dataset was measured; None: not known.
    """

    backend: str
    clock: str
    anchored: bool
    visits: int
    visits_disturbed: int
    anchor_median_ms: float
    anchor_median_when_profiled_ms: float | None


@dataclass(frozen=True)
class LPMPrediction:
    """What an LPM of the registry predicts of what was found.

    Attributes:
        lpm: reference of the LPM.
        skip_reason: why it could not be read; then nothing else is known.
        quantity: what it predicts.
        unit: of that.
        predicted: the prediction.
        predicted_std: half the width of the interval that two thirds of measurements meet.
        setting: the LPM's own, as a text.
        setting_differences: in what it differs from that of the search's LPM (there / here).
        warning: of its training.
    """

    lpm: str
    skip_reason: str | None = None
    quantity: str = ""
    unit: str = ""
    predicted: float = 0.0
    predicted_std: float = 0.0
    setting: str = ""
    setting_differences: tuple[str, ...] = ()
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        if self.skip_reason is not None:
            return {"lpm": self.lpm, "why_not": self.skip_reason}
        suffix = get_quantity(self.quantity).suffix
        return {
            "lpm": self.lpm,
            "cost": self.quantity,
            "unit": self.unit,
            f"predicted_{suffix}": self.predicted,
            f"predicted_std_{suffix}": self.predicted_std,
            "setting": self.setting,
            "setting_differences": list(self.setting_differences),
            "warning": self.warning,
        }


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        architecture: what was found; of DARTS both cells.
        arch: the point of the space, as datasets have it.
        arch_id: its identifier.
        drawing: of the architecture, in text.
        found: the network of the point of the space in the LPM's setting, which is what the LPM
            predicts (of DARTS with the setting's reduction cell).
        reference: the network of the space's reference, likewise.
        reference_name: what that is called.
        whole: the network of ``architecture``; where that is one of the space alone, ``found``.
        searched_for: what the search weighed.
        measuring: how networks were measured; None: they were not.
        skip_reason: why they were not measured.
        target: of the LPM.
        outcome: the end of training, with the history.
        lpm: reference of the LPM.
        lpm_metrics: of the LPM.
        lpms: what every LPM of the registry predicts.
        data: name of the images.
        searched_on: where the supernet was trained, ``cpu`` or ``cuda``.
        config: of the search.
        out: the search's folder.
    """

    architecture: Architecture
    arch: str
    arch_id: int
    drawing: str
    found: NetworkResult
    reference: NetworkResult
    reference_name: str
    whole: NetworkResult
    searched_for: SearchedFor
    measuring: MeasuringInfo | None
    skip_reason: str | None
    target: Target
    outcome: SearchOutcome
    lpm: str
    lpm_metrics: Mapping[str, Any]
    lpms: tuple[LPMPrediction, ...]
    data: str
    searched_on: str
    config: SearchConfig
    out: Path

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        measured: dict[str, Any] = {"why_not": self.skip_reason}
        if self.measuring is not None:
            measured |= vars(self.measuring)
        outcome = self.outcome
        return {
            "genotype": str(self.architecture),
            "arch": self.arch,
            "arch_id": self.arch_id,
            FOUND: self.found.to_dict(),
            self.reference_name: self.reference.to_dict(),
            WHOLE: self.whole.to_dict(),
            "searched_for": self.searched_for.to_dict(self.reference_name),
            "measured": measured,
            "target": self.target.to_dict(),
            "genotype_epoch": outcome.epoch,
            "collapsed": outcome.collapsed,
            "moved_from_ms": outcome.unconstrained_cost,
            "lpm": self.lpm,
            "lpm_metrics": dict(self.lpm_metrics),
            "lpms": [prediction.to_dict() for prediction in self.lpms],
            "data": self.data,
            "searched_on": self.searched_on,
            "config": self.config.to_dict(),
            "seconds": outcome.seconds,
            "epochs": [dict(row) for row in outcome.history],
            "latkit_version": __version__,
        }


@dataclass(frozen=True)
class SweepRow:
    """One search of a sweep.

    Attributes:
        name: of the search, and of its folder.
        config: of the search.
        result: what it has found, or why it failed.
        pareto: whether no other search has both a lower cost and a higher accuracy; None if it
            failed.
    """

    name: str
    config: SearchConfig
    result: SearchResult | LatkitError
    pareto: bool | None

    @property
    def val_accuracy(self) -> float:
        """Of the supernet in the epoch of what was found, on the half that trains α."""
        assert isinstance(self.result, SearchResult)
        outcome = self.result.outcome
        accuracy = outcome.history[outcome.epoch - 1]["val_accuracy"]
        assert isinstance(accuracy, float)
        return accuracy

    def to_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": self.name,
            "lambda_per_ms": self.config.lambda_per_ms,
            "target_ms": self.config.target_ms,
        }
        result = self.result
        if isinstance(result, LatkitError):
            return {**row, "error": str(result)}
        found, searched_for = result.found, result.searched_for
        return {
            **row,
            "predicted_ms": found.predicted_ms,
            "predicted_std_ms": found.predicted_std_ms,
            "measured_ms": found.measured_ms,
            "measured_at_profile_speed_ms": found.measured_at_profile_speed_ms,
            "macs": found.macs,
            "params": found.params,
            "cost": searched_for.found,
            "cost_name": searched_for.quantity,
            "cost_unit": searched_for.unit,
            "on_target": searched_for.on_target,
            "moved_from_ms": result.outcome.unconstrained_cost,
            "val_accuracy": self.val_accuracy,
            "genotype": str(result.architecture),
            "genotype_macs": result.whole.macs,
            "genotype_params": result.whole.params,
            "genotype_epoch": result.outcome.epoch,
            "collapsed": result.outcome.collapsed,
            "why_not_measured": result.skip_reason,
            "seconds": result.outcome.seconds,
            "pareto": self.pareto,
        }


@dataclass(frozen=True)
class SweepResult:
    """What the searches of a sweep have found, in their order."""

    searches: tuple[SweepRow, ...]
    out: Path = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``sweep.json``."""
        rows = [row.to_dict() for row in self.searches]
        return {"searches": rows, "latkit_version": __version__}

    def check(self) -> None:
        """Raises: SearchError: some of the searches failed."""
        failed = [row.name for row in self.searches if isinstance(row.result, LatkitError)]
        if failed:
            raise SearchError(
                f"{len(failed)} of {len(self.searches)} searches failed ({', '.join(failed)})",
                "see the warnings above; the same command goes on with what can go on",
            )


def pareto_front(rows: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, gain) pairs no other pair beats in one without losing in the other."""
    return [
        not any(
            (other_cost <= cost and other_gain >= gain) and (other_cost, other_gain) != (cost, gain)
            for other_cost, other_gain in rows
        )
        for cost, gain in rows
    ]
