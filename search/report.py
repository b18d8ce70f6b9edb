"""The end of a search: what was found, predicted, and measured where that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latkit import __version__
from latkit.backends import backend_names, get_backend_class, probe_backend
from latkit.backends.base import fingerprint
from latkit.core.device import (
    differences,
    environment_differences,
    hardware_differences,
    pinned_to,
)
from latkit.core.errors import LatkitError, from_os_error
from latkit.core.files import write_atomically, write_json_atomically
from latkit.lpm.base import LPM
from latkit.lpm.store import LPMCard
from latkit.profiling.protocol import Protocol, anchor_name
from latkit.profiling.session import Measurement, measure
from latkit.registry import Entry, Registry, with_built_in
from latkit.search.config import SearchConfig
from latkit.search.costs import Cost
from latkit.search.drawing import draw_genotype
from latkit.search.epochs import SearchOutcome
from latkit.search.parts import REFERENCE, cell_cost, reference_cost
from latkit.search.session import RESULT
from latkit.spaces import ChoiceMatrix, Setting
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.space import DartsSpace
from latkit.spaces.darts.zoo import get_genotype

DRAWING = "cells.txt"
# The network of both found cells, beside that of the normal cell, which is what was searched for.
WHOLE = "found_genotype"
MEASURED_VISITS = 8


def finish(
    outcome: SearchOutcome,
    config: SearchConfig,
    space: DartsSpace,
    lpm: LPM,
    card: LPMCard,
    entry: Entry,
    registry: Registry,
    data: str,
    device: str,
    out: Path,
    cost: Cost,
    devices: Sequence[tuple[str, Cost]],
) -> dict[str, Any]:
    """Measure the found cells in the LPM's target; write ``result.json`` and a drawing.

    Of ``found``, the network measured and counted is the LPM's own target: the found normal cell
    with the target's reduction cell, which is what the LPM predicts; ``darts_v2``'s normal cell
    likewise. ``found_genotype`` is the network of both found cells, which no LPM predicts. Each has
    the text of its own ``genotype``.
    ``measured_ms`` is at the machine's speed now, ``measured_at_profile_speed_ms`` at the anchor's
    speed when the LPM's dataset was measured (None for an imported one): only the latter is
    comparable with predictions. ``searched_for`` holds what the search weighed, of both cells:
    its value, name and unit, and what is predicted of each device. ``lpms`` holds what every LPM of
    the registry predicts for the found cell, each in its own setting.

    Args:
        outcome: what the search found.
        config: its configuration.
        space: what was searched.
        lpm: that it was searched with.
        card: of that LPM.
        entry: of that LPM.
        registry: whose other LPMs predict as well.
        data: name of the images.
        device: where the supernet was trained.
        out: the search's folder.
        cost: what was searched for.
        devices: of each device searched for, its LPM's reference and what that predicts.

    Returns:
        The content of ``result.json``.

    Raises:
        LatkitError: ``out`` cannot be written, or the registry cannot be listed.
    """
    target = card.target
    row = space.from_genotype(outcome.genotype)
    cells = {"found": row, REFERENCE: space.from_genotype(get_genotype(REFERENCE))}
    networks = {
        name: space.architecture(cell[0], target.setting.network) for name, cell in cells.items()
    }
    networks[WHOLE] = outcome.genotype
    session, why_not = _measure(list(networks.values()), card)
    # Comparable only if both were measured against the same anchor network.
    same_anchor = card.dataset.get("anchor") == anchor_name(target.setting)
    anchor_then_ms = card.dataset["anchor_median_ms"] if same_anchor else None
    facts: dict[str, dict[str, Any]] = {}
    for index, (name, network) in enumerate(networks.items()):
        size = architecture_cost(network, target.setting)
        its = None if session is None else session[index]
        facts[name] = {"genotype": str(network)}
        if name in cells:
            encoding = space.encode(cells[name])
            facts[name] |= {
                "predicted_ms": float(lpm.predict(encoding)[0]),
                "predicted_std_ms": float(lpm.predict_std(encoding)[0]),
            }
        facts[name] |= {
            "measured_ms": None if its is None else its.latency_ms,
            "measured_at_profile_speed_ms": (
                None if its is None or anchor_then_ms is None else its.latency_at_ms(anchor_then_ms)
            ),
            "measured_relative_std": None if its is None else its.relative_std,
            "macs": size.macs,
            "params": size.params,
        }
    measured: dict[str, Any] = {"why_not": why_not}
    if session is not None:
        visits = session[0].visits
        measured |= {
            "backend": target.backend,
            "clock": visits[0].clock,
            "anchored": visits[0].anchored,
            "visits": len(visits),
            "visits_disturbed": sum(visit.disturbed for visit in visits),
            "anchor_median_ms": session[0].anchor_median_ms,
            "anchor_median_when_profiled_ms": anchor_then_ms,
        }
    result = {
        "genotype": str(outcome.genotype),
        "arch": space.format(row[0]),
        "arch_id": int(space.rank(row)[0]),
        **facts,
        "searched_for": {
            "cost": config.cost,
            "name": cost.name,
            "unit": cost.unit,
            "found": outcome.cost,
            REFERENCE: reference_cost(space, cost),
            "target_ms": config.target_ms,
            "on_target": outcome.on_target,
            "devices": [
                {
                    "lpm": reference,
                    "unit": predicted.unit,
                    "found": cell_cost(space, predicted, outcome.genotype),
                    REFERENCE: reference_cost(space, predicted),
                }
                for reference, predicted in devices
            ],
        },
        "measured": measured,
        "target": target.to_dict(),
        "genotype_epoch": outcome.epoch,
        "collapsed": outcome.collapsed,
        "moved_from_ms": outcome.moved_from_ms,
        "lpm": entry.reference,
        "lpm_metrics": card.metrics,
        "lpms": predict_everywhere(space, row, registry, target.setting),
        "data": data,
        "searched_on": device,
        "config": config.to_dict(),
        "seconds": outcome.seconds,
        "epochs": outcome.history,
        "latkit_version": __version__,
    }

    def draw(path: Path) -> None:
        path.write_text(draw_genotype(outcome.genotype) + "\n", encoding="utf-8")

    try:
        write_atomically(out / DRAWING, draw)
        write_json_atomically(out / RESULT, result)
    except OSError as error:
        raise from_os_error(error, f"write {out / RESULT}", "the checkpoint is kept") from None
    return result


def predict_everywhere(
    space: DartsSpace, row: ChoiceMatrix, registry: Registry, setting: Setting
) -> list[dict[str, Any]]:
    """What every LPM of the space predicts for one architecture.

    Args:
        space: of the LPMs.
        row: the architecture, ``1 x E``.
        registry: the LPMs; built-in ones count where nothing was published for their target.
        setting: that of the search's LPM, from which others may differ.

    Returns:
        A dictionary an LPM: ``lpm`` (its reference), ``cost`` and ``unit``, ``predicted_ms`` and
        ``predicted_std_ms`` (half the width of the interval that two thirds of measurements meet;
        of another cost ``_mj`` or ``_mb``), ``setting`` (its text), ``setting_differences``
        (there / here) and ``warning``; of an LPM that cannot be read ``lpm`` and ``why_not``.

    Raises:
        LatkitError: the registry cannot be listed.
    """
    entries = [e for e in with_built_in(registry.entries()) if e.space == space.name]
    encoding = space.encode(row)
    predictions: list[dict[str, Any]] = []
    for entry in entries:
        try:
            lpm, card = registry.load(entry)
        except LatkitError as error:
            predictions.append({"lpm": entry.reference, "why_not": str(error)})
            continue
        theirs, suffix = card.target.setting, card.quantity.suffix
        predictions.append(
            {
                "lpm": entry.reference,
                "cost": card.cost,
                "unit": card.quantity.unit,
                f"predicted_{suffix}": float(lpm.predict(encoding)[0]),
                f"predicted_std_{suffix}": float(lpm.predict_std(encoding)[0]),
                "setting": theirs.slug,
                "setting_differences": differences(theirs.to_dict(), setting.to_dict()),
                "warning": card.training.get("warning"),
            }
        )
    return predictions


def _measure(
    networks: list[Genotype], card: LPMCard
) -> tuple[list[Measurement] | None, str | None]:
    """Measure on the LPM's backend if it and the LPM's hardware are here, else say why not."""
    target = card.target
    if target.backend not in backend_names():
        return None, f"this version has no backend {target.backend}"
    probe = probe_backend(target.backend)
    if not probe.usable:
        return None, f"{target.backend} is {probe.status} here: {probe.reason}"
    try:
        # As the LPM's dataset was measured, so that the results are comparable.
        protocol = Protocol.from_dict(card.dataset.get("protocol", {}))
        with get_backend_class(target.backend)(threads=protocol.threads) as backend:
            here = fingerprint(backend)
            for what, different in (
                ("other hardware than", hardware_differences(here, card.fingerprint)),
                (
                    "another environment than that of",
                    environment_differences(here, card.fingerprint),
                ),
            ):
                if different:
                    return None, (
                        f"this is {what} {target.device} (here / there: {'; '.join(different)})"
                    )
            with pinned_to(protocol.cores):
                return measure(backend, networks, target.setting, protocol, MEASURED_VISITS), None
    except LatkitError as error:
        return None, str(error)
