"""``latkit lpms``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.output import json_option, note, number, print_json, print_table, warn
from latkit.cli.train_lpm import metric_rows
from latkit.core.quantities import COSTS

COLUMNS = (
    "space", "device", "backend", "setting", "cost", "version", "kind", "MAPE %", "Spearman",
    "trained on",
)  # fmt: skip


@click.group(name="lpms")
def command() -> None:
    """List, show, compare and remove the LPMs in the registry ($LATKIT_REGISTRY)."""


@command.command(name="list")
@json_option
def list_lpms(as_json: bool) -> None:
    """Every published LPM with its error on held-out networks; version 0 is built in."""
    from latkit.core.errors import LatkitError
    from latkit.registry import Registry, with_built_in

    registry = Registry()
    rows, objects = [], []
    for entry in with_built_in(registry.entries()):
        try:
            card = registry.card(entry)
        except LatkitError as error:
            warn(str(error))
            continue
        metrics = card.metrics
        objects.append(
            {
                "reference": entry.reference,
                "space": entry.space,
                "cost": entry.cost,
                "metrics": metrics,
            }
        )
        rows.append(
            [
                entry.space,
                entry.device,
                entry.backend,
                entry.setting,
                entry.cost,
                str(entry.version),
                card.training["kind"],
                number(metrics["mape_percent"], 2),
                number(metrics["spearman"], 3),
                str(metrics["n_train"]),
            ]
        )
    if as_json:
        print_json({"registry": registry.url, "lpms": objects})
        return
    print_table(f"LPMs in {registry.url}", COLUMNS, rows)
    note(
        "next: latkit search --device DEVICE" if rows else "next: latkit profile, latkit train-lpm"
    )


@command.command(name="show")
@click.argument("reference")
@click.option("--space", default="darts", show_default=True)
@json_option
def show_lpm(reference: str, space: str, as_json: bool) -> None:
    """The card of one LPM, e.g. p100, p100/torch-cuda@3 or p100+energy_mj."""
    from latkit.registry import Registry

    registry = Registry()
    entry = registry.resolve(reference, space)
    _, card = registry.load(entry)
    if as_json:
        print_json({"location": registry.location(entry), **card.to_dict()})
        return
    print_table(
        f"LPM {entry.reference} ({card.kind}, {card.created_at})",
        ["", "LPM", "straight line in MACs"],
        metric_rows(card),
    )
    facts = {
        **card.fingerprint,
        **{f"dataset {name}": value for name, value in card.dataset.items()},
        **{f"training {name}": value for name, value in card.training.items()},
    }
    print_table("made of", ["fact", "value"], [[name, str(v)] for name, v in facts.items()])
    if "warning" in card.training:
        warn(card.training["warning"])


@command.command(name="compare")
@click.argument("references", nargs=-1, required=True)
@click.option("--space", default="darts", show_default=True)
@json_option
def compare_lpms(references: tuple[str, ...], space: str, as_json: bool) -> None:
    """Set LPMs side by side: their errors, and how alike they rank the same networks.

    The Spearman correlation is of their predictions for 1,000 random architectures with those of
    the first: near 1 where a search for one device serves the other as well.
    """
    import numpy as np
    from scipy import stats

    from latkit.registry import Registry
    from latkit.spaces import get_space

    found = get_space(space)
    registry = Registry()
    encodings = found.encode(found.unrank(found.sample(min(1000, found.size), 0)))
    objects: list[dict[str, Any]] = []
    first = None
    for reference in references:
        entry = registry.resolve(reference, space)
        lpm, card = registry.load(entry)
        if "warning" in card.training:
            warn(card.training["warning"])
        predicted = lpm.predict(encodings)
        first = predicted if first is None else first
        objects.append(
            {
                "reference": entry.reference,
                "kind": card.training["kind"],
                "cost": card.cost,
                "metrics": card.metrics,
                f"median_predicted_{card.measured_cost.suffix}": float(np.median(predicted)),
                "spearman_with_first": float(stats.spearmanr(first, predicted).statistic),
            }
        )
    if as_json:
        print_json(objects)
        return
    rows = []
    for o in objects:
        cost = COSTS[o["cost"]]
        median = number(o[f"median_predicted_{cost.suffix}"], 2)
        rows.append(
            [
                o["reference"], o["kind"], number(o["metrics"]["mape_percent"], 2),
                number(o["metrics"]["spearman"], 3), f"{median} {cost.unit}",
                number(o["spearman_with_first"], 3),
            ]
        )  # fmt: skip
    names = ["LPM", "kind", "MAPE %", "Spearman", "median", "Spearman with the first"]
    print_table(f"LPMs of {space}", names, rows)


@command.command(name="rm")
@click.argument("reference")
@click.option("--space", default="darts", show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def remove_lpm(reference: str, space: str, yes: bool, as_json: bool) -> None:
    """Delete one version of an LPM, which REFERENCE must name: p100@3."""
    from latkit.core.errors import InputError
    from latkit.registry import Registry

    if "@" not in reference:
        raise InputError(f"{reference!r} names no version", f"write e.g. {reference}@3")
    registry = Registry()
    entry = registry.resolve(reference, space)
    if not yes:
        click.confirm(f"Delete {registry.location(entry)}?", abort=True)
    registry.remove(entry)
    if as_json:
        print_json({"removed": entry.reference})
    else:
        note(f"removed {entry.reference}")
