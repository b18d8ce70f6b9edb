"""``latkit lpms``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, note, number, print_json, print_table, warn
from latkit.cli.progress import Terminal
from latkit.cli.train_lpm import metric_rows

COLUMNS = (
    "space", "device", "backend", "setting", "cost", "version", "kind", "MAPE %", "Spearman",
    "trained on",
)  # fmt: skip


@click.group(name="lpms")
def command() -> None:
    """List, show, compare and remove the LPMs in the registry ($LATKIT_REGISTRY)."""


@command.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """Every published LPM with its error on held-out networks; version 0 is built in."""
    from latkit.registry import Registry
    from latkit.registry.listing import list_lpms

    registry = Registry()
    listed = list_lpms(registry, Terminal())
    if as_json:
        print_json({"registry": registry.url, "lpms": [lpm.to_dict() for lpm in listed]})
        return
    rows = [
        [
            lpm.entry.space,
            lpm.entry.device,
            lpm.entry.backend,
            lpm.entry.setting,
            lpm.entry.cost,
            str(lpm.entry.version),
            lpm.card.training["kind"],
            number(lpm.card.metrics["mape_percent"], 2),
            number(lpm.card.metrics["spearman"], 3),
            str(lpm.card.metrics["n_train"]),
        ]
        for lpm in listed
    ]
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
    from latkit.registry import Registry, load_lpm

    registry = Registry()
    lpm = load_lpm(reference, space, registry)
    card = lpm.card
    if as_json:
        location = registry.location(registry.resolve(lpm.reference, space))
        print_json({"location": location, **card.to_dict()})
        return
    print_table(
        f"LPM {lpm.reference} ({card.kind}, {card.created_at})",
        ["", "LPM", "straight line in MACs"],
        metric_rows(card),
    )
    facts = {
        **card.fingerprint,
        **{f"dataset {name}": value for name, value in card.dataset.items()},
        **{f"training {name}": value for name, value in card.training.items()},
    }
    print_table("made of", ["fact", "value"], [[name, str(v)] for name, v in facts.items()])
    for warning in lpm.warnings:
        warn(warning)


@command.command(name="compare")
@click.argument("references", nargs=-1, required=True)
@click.option("--space", default="darts", show_default=True)
@json_option
def compare_command(references: tuple[str, ...], space: str, as_json: bool) -> None:
    """Compare LPMs: their errors, and how alike they rank the same networks.

    The Spearman correlation is of their predictions for 1,000 random architectures with those of
    the first: near 1 where a search for one device serves the other as well.
    """
    from latkit.registry.listing import compare_lpms

    compared = compare_lpms(references, space, listener=Terminal())
    if as_json:
        print_json([lpm.to_dict() for lpm in compared])
        return
    rows = [
        [
            lpm.reference,
            lpm.card.training["kind"],
            number(lpm.card.metrics["mape_percent"], 2),
            number(lpm.card.metrics["spearman"], 3),
            f"{number(lpm.median_predicted, 2)} {lpm.card.quantity.unit}",
            number(lpm.spearman_with_first, 3),
        ]
        for lpm in compared
    ]
    names = ["LPM", "kind", "MAPE %", "Spearman", "median", "Spearman with the first"]
    print_table(f"LPMs of {space}", names, rows)


@command.command(name="rm")
@click.argument("reference")
@click.option("--space", default="darts", show_default=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def remove_lpm(reference: str, space: str, yes: bool, as_json: bool) -> None:
    """Delete one version of an LPM, which REFERENCE must name: p100@3."""
    from latkit.registry import Registry

    registry = Registry()
    entry = registry.resolve_version(reference, space)
    if not yes:
        click.confirm(f"Delete {registry.location(entry)}?", abort=True)
    registry.remove(entry)
    if as_json:
        print_json({"removed": entry.reference})
    else:
        note(f"removed {entry.reference}")
