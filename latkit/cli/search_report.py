"""What ``latkit search`` prints when it is done."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from latkit.cli.output import note, number, print_table, warn
from latkit.core.quantities import LATENCY

if TYPE_CHECKING:
    from latkit.search.result import LPMPrediction, SearchResult, SweepResult


def print_result(result: SearchResult) -> None:
    """A search's result as tables and a drawing."""
    networks = {
        "found, in the network of the LPM's setting": result.found,
        "found, both cells where there are two": result.whole,
        f"{result.reference_name}, in the network of the LPM's setting": result.reference,
    }
    print_table(
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
    _print_searched_for(result)
    measuring = result.measuring
    if measuring is None:
        note(f"not measured: {result.skip_reason}")
    else:
        note(
            f"measured on this machine with {measuring.backend} in the LPM's setting, "
            f"{measuring.visits} visits ({measuring.visits_disturbed} disturbed), "
            f"clock {measuring.clock}"
        )
        if measuring.anchored:
            note(
                "the first measured column is at the machine's speed when it was profiled (the "
                f"anchor took {number(measuring.anchor_median_when_profiled_ms, 2)} ms then, "
                f"{measuring.anchor_median_ms:.2f} ms now), as the predictions are"
            )
    _print_lpms(result.lpms)
    click.echo(result.drawing)
    if result.drawing != str(result.architecture):
        click.echo(str(result.architecture))
    note(f"result: {result.out / 'result.json'}; history: {result.out / 'history.parquet'}")


def _print_searched_for(result: SearchResult) -> None:
    """The objective, where it is not the first device's prediction, and what became of a target."""
    from latkit.search.run import describe_target

    weighed = result.searched_for
    if weighed.cost != "predicted":
        rows = [(f"{weighed.cost} ({weighed.quantity})", weighed.unit, weighed)]
        rows += [(device.lpm, device.unit, device) for device in weighed.devices]  # type: ignore[misc]
        print_table(
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
        click.echo(describe_target(weighed.target_ms, weighed.found, on_target, unconstrained_cost))


def _print_lpms(predictions: tuple[LPMPrediction, ...]) -> None:
    for prediction in predictions:
        if prediction.skip_reason is not None:
            warn(f"LPM {prediction.lpm} is left out: {prediction.skip_reason}")
    readable = [prediction for prediction in predictions if prediction.skip_reason is None]
    print_table(
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
        warn("predictions of different settings are of different networks: do not compare them")


def print_sweep(sweep: SweepResult) -> None:
    """A sweep's result as a table; a star marks the Pareto front."""
    from latkit.search.result import SearchResult
    from latkit.search.run import describe_target

    rows = [(row, row.result) for row in sweep.searches if isinstance(row.result, SearchResult)]
    quantity = rows[0][1].searched_for.quantity if rows else "cost"
    print_table(
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
    note(
        "of what was found, in the network of the LPM's setting; the accuracy is the supernet's on "
        "the half that trains alpha, in the epoch of what was found"
    )
    for row, result in rows:
        weighed = result.searched_for
        click.echo(f"{row.name}: {result.architecture}")
        click.echo(
            f"{row.name}: the network of all of it has {result.whole.macs / 1e6:.1f} M MACs "
            f"and {result.whole.params / 1e6:.3f} M params"
        )
        predicted_ms = result.found.predicted_ms or 0.0
        if weighed.quantity != LATENCY or not math.isclose(
            weighed.found, predicted_ms, rel_tol=1e-4
        ):  # of several devices, say
            value = f"{weighed.quantity} {number(weighed.found, 3)} {weighed.unit}"
            click.echo(f"{row.name}: searched for {value}")
        if weighed.target_ms is not None:
            line = describe_target(
                weighed.target_ms, weighed.found, weighed.on_target is True,
                result.outcome.unconstrained_cost,
            )  # fmt: skip
            click.echo(f"{row.name}: {line}")
    for reason in sorted({result.skip_reason for _, result in rows} - {None}, key=str):
        note(f"not measured: {reason}")
    note(f"sweep: {sweep.out / 'sweep.json'}; each search has a folder beside it")
