"""What ``latkit search`` prints when it is done."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from latkit.cli.output import note, number, print_table, warn
from latkit.core.quantities import LATENCY, get_quantity


def print_result(result: dict[str, Any], out: Path) -> None:
    """The content of a ``result.json`` as tables and a drawing."""
    from latkit.search.drawing import draw_genotype
    from latkit.spaces.darts.genotype import parse_genotype

    measured = result["measured"]
    reduction = result["target"]["setting"]["reduction"]
    networks = {
        f"found normal cell, {reduction}'s reduction cell": result["found"],
        "both found cells": result["found_genotype"],
        f"darts_v2's normal cell, {reduction}'s reduction cell": result["darts_v2"],
    }
    print_table(
        f"found on {result['data']} for {result['target']['device']}",
        ["network", "predicted ms", "measured ms", "measured now ms", "MACs M", "params M"],
        [
            [
                name,
                number(row.get("predicted_ms"), 2),
                number(row["measured_at_profile_speed_ms"], 2),
                number(row["measured_ms"], 2),
                number(row["macs"] / 1e6, 1),
                number(row["params"] / 1e6, 3),
            ]
            for name, row in networks.items()
        ],
    )
    _print_searched_for(result)
    if measured["why_not"] is not None:
        note(f"not measured: {measured['why_not']}")
    else:
        note(
            f"measured on this machine with {measured['backend']} in the LPM's setting, "
            f"{measured['visits']} visits ({measured['visits_disturbed']} disturbed), "
            f"clock {measured['clock']}"
        )
        if measured["anchored"]:
            note(
                "the first measured column is at the machine's speed when it was profiled (the "
                f"anchor took {number(measured['anchor_median_when_profiled_ms'], 2)} ms then, "
                f"{measured['anchor_median_ms']:.2f} ms now), as the predictions are"
            )
    _print_lpms(result["lpms"])
    click.echo(draw_genotype(parse_genotype(result["genotype"])))
    click.echo(result["genotype"])
    note(f"result: {out / 'result.json'}; history: {out / 'history.parquet'}")


def on_target_line(
    target_ms: float, cost_ms: float, on_target: bool, moved_from_ms: float | None
) -> str:
    """What became of a target, in a line."""
    met = "within 5 %" if on_target else "which is not within 5 %"
    line = f"target {target_ms:g} ms: the found cell is predicted at {cost_ms:.2f} ms, {met}"
    if moved_from_ms is not None:
        line += f" (alpha's strongest cell, at {moved_from_ms:.2f} ms, was moved away from)"
    return line


def _print_searched_for(result: dict[str, Any]) -> None:
    """The cost, where it is not the first device's prediction, and what became of a target."""
    weighed = result["searched_for"]
    if weighed["cost"] != "predicted":
        print_table(
            "what was searched for, and the LPMs it was searched with",
            ["of the normal cell", "unit", "found", "darts_v2"],
            [
                [name, row["unit"], number(row["found"], 3), number(row["darts_v2"], 3)]
                for name, row in (
                    (f"{weighed['cost']} ({weighed['name']})", weighed),
                    *((row["lpm"], row) for row in weighed["devices"]),
                )
            ],
        )
    if weighed["target_ms"] is not None:
        moved_from_ms = result["moved_from_ms"]
        click.echo(
            on_target_line(
                weighed["target_ms"], weighed["found"], weighed["on_target"], moved_from_ms
            )
        )


def _print_lpms(predictions: list[dict[str, Any]]) -> None:
    for prediction in predictions:
        if "why_not" in prediction:
            warn(f"LPM {prediction['lpm']} is left out: {prediction['why_not']}")
    readable = [prediction for prediction in predictions if "why_not" not in prediction]
    print_table(
        "the found cell by every LPM of the registry, each in its own setting",
        ["LPM", "predicted", "±", "unit", "setting: there / searched for"],
        [
            [
                prediction["lpm"],
                *(
                    number(prediction[f"{what}_{get_quantity(prediction['cost']).suffix}"], 2)
                    for what in ("predicted", "predicted_std")
                ),
                prediction["unit"],
                "; ".join(prediction["setting_differences"]) or "the same",
            ]
            for prediction in readable
        ],
    )
    if any(prediction["setting_differences"] for prediction in readable):
        warn("predictions of different settings are of different networks: do not compare them")


def print_sweep(sweep: dict[str, Any], out: Path) -> None:
    """The content of a ``sweep.json`` as a table; a star marks the Pareto front."""
    from latkit.search.collapse import signs_of_collapse
    from latkit.spaces.darts.genotype import parse_genotype

    rows = [row for row in sweep["searches"] if "error" not in row]
    cost = rows[0]["cost_name"] if rows else "cost"
    print_table(
        f"sweep (*: nothing else has both a lower {cost} and a higher accuracy)",
        [
            "search", "predicted ms", "measured ms", "measured now ms", "val accuracy %", "MACs M",
            "params M", "",
        ],
        [
            [
                row["name"],
                number(row["predicted_ms"], 2),
                number(row["measured_at_profile_speed_ms"], 2),
                number(row["measured_ms"], 2),
                number(100 * row["val_accuracy"], 1),
                number(row["macs"] / 1e6, 1),
                number(row["params"] / 1e6, 3),
                "*" if row["pareto"] else "",
            ]
            for row in rows
        ],
    )  # fmt: skip
    note(
        "of the found normal cell with the LPM's reduction cell; the accuracy is the supernet's on "
        "the half that trains alpha, in the cell's epoch"
    )
    for row in rows:
        click.echo(f"{row['name']}: {row['genotype']}")
        click.echo(
            f"{row['name']}: the network of both cells has {row['genotype_macs'] / 1e6:.1f} M MACs "
            f"and {row['genotype_params'] / 1e6:.3f} M params"
        )
        if row["cost_name"] != LATENCY or not math.isclose(
            row["cost"], row["predicted_ms"], rel_tol=1e-4
        ):  # of several devices, say
            cost = f"{row['cost_name']} {number(row['cost'], 3)} {row['cost_unit']}"
            click.echo(f"{row['name']}: searched for {cost}")
        if row["target_ms"] is not None:
            told = on_target_line(
                row["target_ms"], row["cost"], row["on_target"], row["moved_from_ms"]
            )
            click.echo(f"{row['name']}: {told}")
        signs = signs_of_collapse(parse_genotype(row["genotype"]).normal)
        if signs is not None:
            warn(f"{row['name']}: the normal cell has {signs}")
    for reason in sorted({row["why_not_measured"] for row in rows} - {None}):
        note(f"not measured: {reason}")
    note(f"sweep: {out / 'sweep.json'}; each search has a folder beside it")
