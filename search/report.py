"""The end of a search: what was found, predicted, and measured where that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latkit.core.device import (
    differences,
)
from latkit.core.errors import LatkitError, from_os_error
from latkit.core.files import write_atomically, write_json_atomically
from latkit.lpm.base import LPM
from latkit.lpm.measuring import measure_as_profiled
from latkit.lpm.store import LPMCard
from latkit.profiling.anchor import anchor_name
from latkit.registry import Entry, Registry, with_built_in
from latkit.search.config import SearchConfig
from latkit.search.epochs import SearchOutcome
from latkit.search.objectives import Objective
from latkit.search.parts import reference_row, reference_value, value_of
from latkit.search.result import (
    DeviceValue,
    LPMPrediction,
    MeasuringInfo,
    NetworkResult,
    SearchedFor,
    SearchResult,
)
from latkit.search.session import RESULT
from latkit.spaces import ChoiceMatrix, SearchSpace, Setting
from latkit.spaces.architecture import architecture_cost

DRAWING = "cells.txt"


@dataclass(frozen=True)
class SearchLPM:
    """The LPM that an architecture is searched with, and where it came from.

    Attributes:
        entry: its version in the registry.
        lpm: the LPM.
        card: its card.
    """

    entry: Entry
    lpm: LPM
    card: LPMCard


def finish(
    outcome: SearchOutcome,
    config: SearchConfig,
    space: SearchSpace,
    searched_with: SearchLPM,
    registry: Registry,
    data: str,
    device: str,
    out: Path,
    objective: Objective,
    devices: Sequence[tuple[str, Objective]],
) -> SearchResult:
    """Measure what was found in the LPM's target; write ``result.json`` and a drawing.

    The network measured and counted as ``found`` is the LPM's own target: the point of the space in
    the target's setting, which is what the LPM predicts (of DARTS the found normal cell with the
    setting's reduction cell); the space's reference likewise. ``whole`` is the network of the whole
    architecture, which no LPM predicts where it is another one.

    Args:
        outcome: what the search found.
        config: its configuration.
        space: what was searched.
        searched_with: the LPM.
        registry: whose other LPMs predict as well.
        data: name of the images.
        device: where the supernet was trained.
        out: the search's folder.
        objective: what was searched for.
        devices: of each device searched for, its LPM's reference and what that predicts.

    Raises:
        LatkitError: ``out`` cannot be written, or the registry cannot be listed.
    """
    lpm, card = searched_with.lpm, searched_with.card
    target, architecture = card.target, outcome.architecture
    row, reference = space.row_of(architecture), reference_row(space)
    network = target.setting.network
    networks = [space.architecture(row[0], network), space.architecture(reference[0], network)]
    if architecture != networks[0]:
        networks.append(architecture)
    measurements, skip_reason = measure_as_profiled(networks, card)
    # Comparable only if both were measured against the same anchor network.
    same_anchor = card.dataset.get("anchor") == anchor_name(target.setting)
    anchor_then_ms = card.dataset["anchor_median_ms"] if same_anchor else None

    def describe(index: int, encoded: ChoiceMatrix | None) -> NetworkResult:
        size = architecture_cost(networks[index], target.setting)
        measured_ms = at_profile_speed_ms = relative_std = None
        if measurements is not None:
            measurement = measurements[index]
            measured_ms, relative_std = measurement.latency_ms, measurement.relative_std
            if anchor_then_ms is not None:
                at_profile_speed_ms = measurement.latency_at_ms(anchor_then_ms)
        predicted = None if encoded is None else space.encode(encoded)
        return NetworkResult(
            genotype=str(networks[index]),
            measured_ms=measured_ms,
            measured_at_profile_speed_ms=at_profile_speed_ms,
            measured_relative_std=relative_std,
            macs=size.macs,
            params=size.params,
            predicted_ms=None if predicted is None else float(lpm.predict(predicted)[0]),
            predicted_std_ms=None if predicted is None else float(lpm.predict_std(predicted)[0]),
        )

    measuring = None
    if measurements is not None:
        visits = measurements[0].measurements
        measuring = MeasuringInfo(
            backend=target.backend,
            clock=visits[0].clock,
            anchored=visits[0].anchored,
            visits=len(visits),
            visits_disturbed=sum(visit.disturbed for visit in visits),
            anchor_median_ms=measurements[0].anchor_median_ms,
            anchor_median_when_profiled_ms=anchor_then_ms,
        )
    found = describe(0, row)
    result = SearchResult(
        architecture=architecture,
        arch=space.format(row[0]),
        arch_id=int(space.rank(row)[0]),
        drawing=space.draw(architecture),
        found=found,
        reference=describe(1, reference),
        reference_name=_reference_name(space),
        whole=describe(2, None) if len(networks) > 2 else found,
        searched_for=SearchedFor(
            cost=config.cost,
            quantity=objective.quantity,
            unit=objective.unit,
            found=outcome.cost,
            reference=reference_value(space, objective),
            target_ms=config.target_ms,
            on_target=outcome.on_target,
            devices=tuple(
                DeviceValue(
                    name,
                    predicted.unit,
                    value_of(space, predicted, architecture),
                    reference_value(space, predicted),
                )
                for name, predicted in devices
            ),
        ),
        measuring=measuring,
        skip_reason=skip_reason,
        target=target,
        outcome=outcome,
        lpm=searched_with.entry.reference,
        lpm_metrics=card.metrics,
        lpms=tuple(predict_everywhere(space, row, registry, target.setting)),
        data=data,
        searched_on=device,
        config=config,
        out=out,
    )

    def draw(path: Path) -> None:
        path.write_text(f"{result.drawing}\n", encoding="utf-8")

    try:
        write_atomically(out / DRAWING, draw)
        write_json_atomically(out / RESULT, result.to_dict())
    except OSError as error:
        raise from_os_error(error, f"write {out / RESULT}", "the checkpoint is kept") from None
    return result


def _reference_name(space: SearchSpace) -> str:
    """The name of the space's reference as a key of files, where it has one."""
    return space.reference if space.find(space.reference) is not None else "reference"


def predict_everywhere(
    space: SearchSpace, row: ChoiceMatrix, registry: Registry, setting: Setting
) -> list[LPMPrediction]:
    """What every LPM of the space predicts for one architecture.

    Args:
        space: of the LPMs.
        row: the architecture, ``1 x E``.
        registry: the LPMs; built-in ones count where nothing was published for their target.
        setting: that of the search's LPM, from which others may differ.

    Raises:
        LatkitError: the registry cannot be listed.
    """
    entries = [e for e in with_built_in(registry.entries()) if e.space == space.name]
    encoding = space.encode(row)
    predictions = []
    for entry in entries:
        try:
            lpm, card = registry.load(entry)
        except LatkitError as error:
            predictions.append(LPMPrediction(entry.reference, skip_reason=str(error)))
            continue
        lpm_setting = card.target.setting
        predictions.append(
            LPMPrediction(
                lpm=entry.reference,
                quantity=card.cost,
                unit=card.quantity.unit,
                predicted=float(lpm.predict(encoding)[0]),
                predicted_std=float(lpm.predict_std(encoding)[0]),
                setting=lpm_setting.slug,
                setting_differences=tuple(differences(lpm_setting.to_dict(), setting.to_dict())),
                warning=card.training.get("warning"),
            )
        )
    return predictions
