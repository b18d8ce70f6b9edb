"""The end of a search: what was found, predicted, and measured where that is possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latkit import __version__
from latkit.backends import backend_names, get_backend_class
from latkit.device import fingerprint, hardware_differences
from latkit.errors import LatkitError, from_os_error
from latkit.files import write_json_atomically
from latkit.lpm.base import LPM
from latkit.lpm.store import LPMCard
from latkit.networks.cost import network_cost
from latkit.networks.zoo import get_genotype
from latkit.profiling.loop import ANCHOR, Measurement, measure
from latkit.profiling.protocol import Protocol
from latkit.search.session import RESULT, SearchConfig, SearchOutcome
from latkit.spaces import DartsSpace, Genotype

MEASURED_VISITS = 8


def finish(
    outcome: SearchOutcome,
    config: SearchConfig,
    space: DartsSpace,
    lpm: LPM,
    card: LPMCard,
    reference: str,
    data: str,
    out: Path,
) -> dict[str, Any]:
    """Measure the found normal cell in the LPM's target, write and return ``result.json``.

    The network measured is the LPM's own target: the found normal cell with the target's
    reduction cell, which is what the LPM predicts. ``darts_v2`` is the anchor of that session.
    ``measured_ms`` is at the machine's speed now, ``measured_at_profile_speed_ms`` at the anchor's
    speed when the LPM's dataset was measured: only the latter is comparable with predictions.

    Raises:
        LatkitError: ``out`` cannot be written.
    """
    target = card.target
    row = space.from_genotype(outcome.genotype)
    network = space.genotype(row[0], get_genotype(target.setting.reduction))
    session, why_not = _measure(network, card)
    anchor_then_ms = float(card.dataset["anchor_median_ms"])

    def facts(cell: Genotype, ratio_to_anchor: float | None) -> dict[str, Any]:
        cost = network_cost(cell, target.setting)
        encoding = space.encode(space.from_genotype(cell))
        now = then = None
        if session is not None and ratio_to_anchor is not None:
            now = ratio_to_anchor * session.anchor_median_ms
            then = ratio_to_anchor * anchor_then_ms
        return {
            "predicted_ms": float(lpm.predict(encoding)[0]),
            "measured_ms": now,
            "measured_at_profile_speed_ms": then,
            "macs": cost.macs,
            "params": cost.params,
        }

    found_ratio = None if session is None else session.ratio_to_anchor
    measured: dict[str, Any] = {"why_not": why_not}
    if session is not None:
        measured |= {
            "backend": target.backend,
            "clock": session.visits[0].clock,
            "visits": len(session.visits),
            "visits_disturbed": sum(bool(visit.flags) for visit in session.visits),
            "ratio_std": session.ratio_std,
            "anchor_median_ms": session.anchor_median_ms,
            "anchor_median_when_profiled_ms": anchor_then_ms,
        }
    result = {
        "genotype": str(outcome.genotype),
        "arch": space.format(row[0]),
        "arch_id": int(space.rank(row)[0]),
        "found": {
            **facts(network, found_ratio),
            "predicted_std_ms": outcome.predicted_std_ms,
        },
        "darts_v2": facts(get_genotype(ANCHOR), 1.0),
        "measured": measured,
        "target": target.to_dict(),
        "lpm": reference,
        "lpm_metrics": card.metrics,
        "data": data,
        "config": config.to_dict(),
        "seconds": outcome.seconds,
        "epochs": outcome.history,
        "latkit_version": __version__,
    }
    try:
        write_json_atomically(out / RESULT, result)
    except OSError as error:
        raise from_os_error(error, f"write {out / RESULT}", "the checkpoint is kept") from None
    return result


def _measure(network: Genotype, card: LPMCard) -> tuple[Measurement | None, str | None]:
    """Measure on the LPM's backend if it and the LPM's hardware are here, else say why not."""
    target = card.target
    threads = int(card.fingerprint.get("threads") or 1)
    if target.backend not in backend_names():
        return None, f"this version has no backend {target.backend}"
    backend_class = get_backend_class(target.backend)
    probe = backend_class.probe()
    if not probe.usable:
        return None, f"{target.backend} is {probe.status} here: {probe.reason}"
    try:
        with backend_class(threads=threads) as backend:
            different = hardware_differences(fingerprint(backend), card.fingerprint)
            if different:
                return None, (
                    f"this is other hardware than {target.device} "
                    f"(here / there: {'; '.join(different)})"
                )
            protocol = Protocol(threads=threads)
            return measure(backend, network, target.setting, protocol, MEASURED_VISITS), None
    except LatkitError as error:
        return None, str(error)
