"""Measure one architecture as the end of a search does: by the LPM's backend, beside its anchor."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import Any

from latkit.core.errors import InputError, SpaceError
from latkit.core.quantities import LATENCY
from latkit.lpm.measuring import measure_as_profiled
from latkit.profiling.anchor import anchor_name
from latkit.registry import load_lpm
from latkit.spaces.architecture import architecture_cost, read_network
from latkit.spaces.reader import Given


@dataclass(frozen=True)
class GenotypeMeasurement:
    """An architecture in an LPM's setting: predicted, and measured where that is possible.

    Attributes:
        genotype: text of the architecture.
        lpm: reference of the LPM.
        predicted_ms, predicted_std_ms: by the LPM; None: the architecture is no point of its space.
        measured_ms: at the machine's speed now; None: not measured, as the next two.
        measured_at_profile_speed_ms: at the anchor's speed when the LPM's dataset was measured,
            as predictions are; None for an imported dataset, too.
        measured_relative_std: standard deviation of the measurements over their mean.
        macs, params: of the network.
        skip_reason: why it was not measured; None: it was.
    """

    genotype: str
    lpm: str
    predicted_ms: float | None
    predicted_std_ms: float | None
    measured_ms: float | None
    measured_at_profile_speed_ms: float | None
    measured_relative_std: float | None
    macs: int
    params: int
    skip_reason: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_genotype(
    architecture: Given, device: str, space: str = "darts", registry: str | None = None
) -> GenotypeMeasurement:
    """Measure an architecture in the setting of a device's LPM, if that device is here.

    Args:
        architecture: a name, a text or a file (see ``latkit.spaces.reader.read_architectures``);
            a whole genotype is measured with its own reduction cell.
        device: reference of the LPM, of the latency.
        space: of the LPM.
        registry: URL of the LPMs; None: the default one.

    Raises:
        InputError: the LPM or the architecture is unknown or of another space.
        LPMError: the LPM cannot be read.
    """
    lpm = load_lpm(device, space, registry)
    if lpm.quantity != LATENCY:
        raise InputError(f"{lpm.reference} is of {lpm.quantity}", "name an LPM of the latency")
    setting = lpm.target.setting
    network = read_network(architecture, setting)
    cost = architecture_cost(network, setting)
    predicted = predicted_std = None
    # Not every network is a point of the space, and then no LPM predicts it.
    with contextlib.suppress(SpaceError):
        prediction = lpm.predict(network)[0]
        predicted, predicted_std = prediction.value, prediction.std
    replicates, skip_reason = measure_as_profiled([network], lpm.card)
    measured = at_profile_speed = relative_std = None
    if replicates is not None:
        (found,) = replicates
        measured, relative_std = found.latency_ms, found.relative_std
        if lpm.card.dataset.get("anchor") == anchor_name(setting):
            at_profile_speed = found.latency_at_ms(lpm.card.dataset["anchor_median_ms"])
    return GenotypeMeasurement(
        str(network), lpm.reference, predicted, predicted_std, measured, at_profile_speed,
        relative_std, cost.macs, cost.params, skip_reason,
    )  # fmt: skip
