"""``latkit lpms``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, note, print_json, show
from latkit.cli.progress import Terminal


@click.group(name="lpms")
def command() -> None:
    """List, show, compare and remove the LPMs in the registry ($LATKIT_REGISTRY)."""


@command.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """Every published LPM with its error on held-out networks; version 0 is built in."""
    from latkit.registry import Registry
    from latkit.registry.listing import list_lpms
    from latkit.reports.lpm import listing_table

    registry = Registry()
    listed = list_lpms(registry, Terminal())
    if as_json:
        print_json({"registry": registry.url, "lpms": [lpm.to_dict() for lpm in listed]})
        return
    show([listing_table(registry.url, listed)])
    note(
        "next: latkit search --device DEVICE"
        if listed
        else "next: latkit profile, latkit train-lpm"
    )


@command.command(name="show")
@click.argument("reference")
@click.option("--space", default="darts", show_default=True)
@json_option
def show_lpm(reference: str, space: str, as_json: bool) -> None:
    """The card of one LPM, e.g. p100, p100/torch-cuda@3 or p100+energy_mj."""
    from latkit.registry import Registry, load_lpm
    from latkit.reports.lpm import card_parts

    registry = Registry()
    lpm = load_lpm(reference, space, registry)
    card = lpm.card
    if as_json:
        location = registry.location(registry.resolve(lpm.reference, space))
        print_json({"location": location, **card.to_dict()})
        return
    show(card_parts(lpm))


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
    from latkit.reports.lpm import comparison_table

    compared = compare_lpms(references, space, listener=Terminal())
    if as_json:
        print_json([lpm.to_dict() for lpm in compared])
        return
    show([comparison_table(space, compared)])


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
