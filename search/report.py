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
from latkit.profiling.loop import ANCHOR, measure
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

    Raises:
        LatkitError: ``out`` cannot be written.
    """
    target = card.target
    row = space.from_genotype(outcome.genotype)
    network = space.genotype(row[0], get_genotype(target.setting.reduction))
    measured, found_ms, found_std_ms, anchor_ms = _measure(network, card)

    def facts(cell: Genotype, latency_ms: float | None) -> dict[str, Any]:
        cost = network_cost(cell, target.setting)
        encoding = space.encode(space.from_genotype(cell))
        return {
            "predicted_ms": float(lpm.predict(encoding)[0]),
            "measured_ms": latency_ms,
            "macs": cost.macs,
            "params": cost.params,
        }

    result = {
        "genotype": str(outcome.genotype),
        "arch": space.format(row[0]),
        "arch_id": int(space.rank(row)[0]),
        "found": {
            **facts(network, found_ms),
            "predicted_std_ms": outcome.predicted_std_ms,
            "measured_std_ms": found_std_ms,
        },
        "darts_v2": facts(get_genotype(ANCHOR), anchor_ms),
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


def _measure(
    network: Genotype, card: LPMCard
) -> tuple[dict[str, Any], float | None, float | None, float | None]:
    """Measure on the LPM's backend, if it and the LPM's hardware are here."""
    target = card.target
    threads = int(card.fingerprint.get("threads") or 1)
    if target.backend not in backend_names():
        return _not_measured(f"this version has no backend {target.backend}")
    backend_class = get_backend_class(target.backend)
    probe = backend_class.probe()
    if not probe.usable:
        return _not_measured(f"{target.backend} is {probe.status} here: {probe.reason}")
    try:
        with backend_class(threads=threads) as backend:
            different = hardware_differences(fingerprint(backend), card.fingerprint)
            if different:
                return _not_measured(
                    f"this is other hardware than {target.device} "
                    f"(here / there: {'; '.join(different)})"
                )
            done = measure(
                backend, network, target.setting, Protocol(threads=threads), MEASURED_VISITS
            )
    except LatkitError as error:
        return _not_measured(str(error))
    disturbed = sum(bool(visit.flags) for visit in done.visits)
    where = (
        f"on this machine with {target.backend}, {target.setting.slug}: mean of "
        f"{len(done.visits) - disturbed or len(done.visits)} visits "
        f"({disturbed} disturbed), clock {done.visits[0].clock}"
    )
    facts = {"where": where, "why_not": None}
    return facts, done.latency_ms, done.latency_std_ms, done.anchor_median_ms


def _not_measured(
    why: str,
) -> tuple[dict[str, Any], float | None, float | None, float | None]:
    return {"where": None, "why_not": why}, None, None, None
