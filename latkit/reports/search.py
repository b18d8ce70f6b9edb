"""What a search or a sweep has found."""

from __future__ import annotations

import math
from collections.abc import Iterator

from latkit.core.quantities import LATENCY
from latkit.reports.parts import Caution, Line, Note, Part, Table, number
from latkit.search.result import LPMPrediction, SearchResult, SweepResult
from latkit.search.run import describe_target


def search_parts(result: SearchResult) -> Iterator[Part]:
    """A search's result as tables and a drawing."""
    networks = {"found, in the network of the LPM's setting": result.found}
    if result.whole is not result.found:
        networks["found, all its cells"] = result.whole
    networks |= {
        f"{result.reference_name}, in the network of the LPM's setting": result.reference,
    }
    yield Table(
        f"found on {result.data} for {result.target.device}",
        ["network", "predicted ms", "measured ms", "measured now ms", "MACs M", "params M"],
        [
            [
                name,
                number(row.predicted_ms, 2),
                number(row.measured_at_profile_speed_ms, 2),
                number(row.measured_ms, 2),
                number(row.macs / 1e6, 1),
                number(row.params / 1e6, 3),
            ]
            for name, row in networks.items()
        ],
    )
    yield from _searched_for(result)
    measuring = result.measuring
    if measuring is None:
        yield Note(f"not measured: {result.skip_reason}")
    else:
        yield Note(
            f"measured on this machine with {measuring.backend} in the LPM's setting, "
            f"{measuring.visits} measurements ({measuring.visits_disturbed} disturbed), "
            f"clock {measuring.clock}"
        )
        if measuring.anchored:
            yield Note(
                "the first measured column is at the machine's speed when it was profiled (the "
                f"anchor took {number(measuring.anchor_median_when_profiled_ms, 2)} ms then, "
                f"{measuring.anchor_median_ms:.2f} ms now), as the predictions are"
            )
    yield from _lpms(result.lpms)
    yield Line(result.drawing)
    if result.drawing != str(result.architecture):
        yield Line(str(result.architecture))
    yield Note(f"result: {result.out / 'result.json'}; history: {result.out / 'history.parquet'}")


def _searched_for(result: SearchResult) -> Iterator[Part]:
    """The objective, where it is not the first device's prediction, and what became of a target."""
    weighed = result.searched_for
    if weighed.cost != "predicted":
        rows = [(f"{weighed.cost} ({weighed.quantity})", weighed.unit, weighed)]
        rows += [(device.lpm, device.unit, device) for device in weighed.devices]  # type: ignore[misc]
        yield Table(
            "what was searched for, and the LPMs it was searched with",
            ["of what was found", "unit", "found", result.reference_name],
            [
                [name, unit, number(row.found, 3), number(row.reference, 3)]
                for name, unit, row in rows
            ],
        )
    if weighed.target_ms is not None:
        unconstrained_cost = result.outcome.unconstrained_cost
        on_target = weighed.on_target is True
        yield Line(describe_target(weighed.target_ms, weighed.found, on_target, unconstrained_cost))


def _lpms(predictions: tuple[LPMPrediction, ...]) -> Iterator[Part]:
    for prediction in predictions:
        if prediction.skip_reason is not None:
            yield Caution(f"LPM {prediction.lpm} is left out: {prediction.skip_reason}")
    readable = [prediction for prediction in predictions if prediction.skip_reason is None]
    yield Table(
        "the found cell by every LPM of the registry, each in its own setting",
        ["LPM", "predicted", "±", "unit", "setting: there / searched for"],
        [
            [
                prediction.lpm,
                number(prediction.predicted, 2),
                number(prediction.predicted_std, 2),
                prediction.unit,
                "; ".join(prediction.setting_differences) or "the same",
            ]
            for prediction in readable
        ],
    )
    if any(prediction.setting_differences for prediction in readable):
        yield Caution(
            "predictions of different settings are of different networks: do not compare them"
        )


def sweep_parts(sweep: SweepResult) -> Iterator[Part]:
    """A sweep's result as a table; a star marks the Pareto front."""
    from latkit.search.result import SearchResult

    rows = [(row, row.result) for row in sweep.searches if isinstance(row.result, SearchResult)]
    quantity = rows[0][1].searched_for.quantity if rows else "cost"
    yield Table(
        f"sweep (*: nothing else has both a lower {quantity} and a higher accuracy)",
        [
            "search", "predicted ms", "measured ms", "measured now ms", "val accuracy %", "MACs M",
            "params M", "",
        ],
        [
            [
                row.name,
                number(result.found.predicted_ms, 2),
                number(result.found.measured_at_profile_speed_ms, 2),
                number(result.found.measured_ms, 2),
                number(100 * row.val_accuracy, 1),
                number(result.found.macs / 1e6, 1),
                number(result.found.params / 1e6, 3),
                "*" if row.pareto else "",
            ]
            for row, result in rows
        ],
    )  # fmt: skip
    yield Note(
        "of what was found, in the network of the LPM's setting; the accuracy is the supernet's on "
        "the half that trains alpha, in the epoch of what was found"
    )
    for row, result in rows:
        weighed = result.searched_for
        yield Line(f"{row.name}: {result.architecture}")
        yield Line(
            f"{row.name}: the network of all of it has {result.whole.macs / 1e6:.1f} M MACs "
            f"and {result.whole.params / 1e6:.3f} M params"
        )
        predicted_ms = result.found.predicted_ms or 0.0
        if weighed.quantity != LATENCY or not math.isclose(
            weighed.found, predicted_ms, rel_tol=1e-4
        ):  # of several devices, say
            value = f"{weighed.quantity} {number(weighed.found, 3)} {weighed.unit}"
            yield Line(f"{row.name}: searched for {value}")
        if weighed.target_ms is not None:
            line = describe_target(
                weighed.target_ms, weighed.found, weighed.on_target is True,
                result.outcome.unconstrained_cost,
            )  # fmt: skip
            yield Line(f"{row.name}: {line}")
    for reason in sorted({result.skip_reason for _, result in rows} - {None}, key=str):
        yield Note(f"not measured: {reason}")
    yield Note(f"sweep: {sweep.out / 'sweep.json'}; each search has a folder beside it")
