"""``latkit lpms``"""

from __future__ import annotations

import click

from latkit.cli.output import json_option, note, number, print_json, print_table, warn
from latkit.cli.train_lpm import metric_rows


@click.group(name="lpms")
def command() -> None:
    """List and show the LPMs in the registry ($LATKIT_REGISTRY)."""


@command.command(name="list")
@json_option
def list_lpms(as_json: bool) -> None:
    """Every published LPM with its error on held-out networks."""
    from latkit.errors import LatkitError
    from latkit.registry import Registry

    registry = Registry()
    rows, objects = [], []
    for entry in registry.entries():
        try:
            card = registry.card(entry)
        except LatkitError as error:
            warn(str(error))
            continue
        metrics = card.metrics
        objects.append({"reference": entry.reference, "space": entry.space, "metrics": metrics})
        rows.append(
            [
                entry.space,
                entry.device,
                entry.backend,
                entry.setting,
                str(entry.version),
                number(metrics["mape_percent"], 2),
                number(metrics["spearman"], 3),
                str(metrics["n_train"]),
            ]
        )
    if as_json:
        print_json({"registry": registry.url, "lpms": objects})
        return
    print_table(
        f"LPMs in {registry.url}",
        ["space", "device", "backend", "setting", "version", "MAPE %", "Spearman", "trained on"],
        rows,
    )
    note(
        "next: latkit search --device DEVICE" if rows else "next: latkit profile, latkit train-lpm"
    )


@command.command(name="show")
@click.argument("reference")
@click.option("--space", default="darts", show_default=True)
@json_option
def show_lpm(reference: str, space: str, as_json: bool) -> None:
    """The card of one LPM, e.g. p100 or p100/torch-cuda@3."""
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
        metric_rows(card.metrics, card.baselines["macs_only"]),
    )
    facts = {
        **card.fingerprint,
        **{f"dataset {name}": value for name, value in card.dataset.items()},
        **{f"training {name}": value for name, value in card.training.items()},
    }
    print_table("made of", ["fact", "value"], [[name, str(v)] for name, v in facts.items()])
