"""``latkit train-lpm``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latkit.cli.output import (
    SEED,
    ProgressLine,
    json_option,
    note,
    number,
    print_json,
    print_table,
    warn,
)
from latkit.errors import DatasetError

METRIC_ROWS = (
    ("absolute error (MAE), ms", "mae_ms", 3),
    ("relative error (MAPE), %", "mape_percent", 2),
    ("within 5 %, % of networks", "within_5_percent", 1),
    ("within 10 %, % of networks", "within_10_percent", 1),
    ("Spearman", "spearman", 3),
    ("Kendall tau", "kendall_tau", 3),
)


@click.command(name="train-lpm")
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option(
    "--standardize/--raw-targets",
    default=True,
    show_default=True,
    help="Train on standardised latencies, or on raw milliseconds as the paper does "
    "(which collapses to a constant at hundreds of milliseconds).",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Passes over the data [default: the paper's 1000, and more on a small dataset "
    "so that training makes at least 10,000 updates].",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Of the 80/20 split, the initial weights and the order of batches.",
)
@json_option
def command(
    dataset: Path | None, standardize: bool, epochs: int | None, seed: int, as_json: bool
) -> None:
    """Train a latency prediction module (LPM) on a dataset and publish it.

    DATASET is a folder made by latkit profile; without it, the only one below ./datasets is
    taken. Four fifths of the architectures train the paper's network, the rest judge it, beside
    a straight line in MACs. The LPM is published to the registry ($LATKIT_REGISTRY) as the next
    version for its device.

    \b
    Examples:
      latkit train-lpm d
      latkit train-lpm d --raw-targets --epochs 1000     (the paper's recipe to the letter)
    """
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import check_dataset
    from latkit.lpm.paper import PaperRecipe
    from latkit.lpm.training import train_lpm, warnings_of
    from latkit.registry import Registry

    opened = LatencyDataset.open(dataset or _only_dataset())
    for finding in check_dataset(opened)["findings"]:
        if finding["level"] == "unfit":
            warn(f"{opened.path} is unfit for training: {finding['text']}")
    registry = Registry()
    usable = opened.usable().num_rows
    note(
        f"training on {usable} of {opened.architectures} architectures of {opened.path} "
        f"({int((opened.flagged & ~opened.in_panel).sum())} disturbed visits left out)"
    )
    recipe = PaperRecipe(epochs=epochs, standardize=standardize)
    progress = ProgressLine("epochs", recipe.epochs_for(4 * usable // 5))
    try:
        trained = train_lpm(
            opened,
            recipe,
            seed,
            lambda epoch, loss: progress.update(epoch, f"loss {loss:.4g}"),
        )
    finally:
        progress.close()
    entry = registry.publish(trained.lpm, trained.card)
    card = trained.card
    if as_json:
        print_json(
            {"reference": entry.reference, "location": registry.location(entry), **card.to_dict()}
        )
    else:
        print_table(
            f"LPM {entry.device}@{entry.version} on {card.metrics['n_test']} held-out networks "
            f"(trained on {card.metrics['n_train']})",
            ["", "LPM", "straight line in MACs"],
            metric_rows(card.metrics, card.baselines["macs_only"]),
        )
        retest = card.dataset["retest_sd_percent"]
        if retest is not None:
            note(f"one measurement of the dataset repeats to {number(retest, 2)} % (retest sd)")
        note(f"published: {registry.location(entry)}")
    for line in warnings_of(card):
        warn(line)
    note(f"next: latkit search --device {entry.device} --data digits --preset cpu --out found")


def metric_rows(ours: dict[str, Any], baseline: dict[str, Any]) -> list[list[str]]:
    """The metrics of an LPM and its baseline as table rows."""
    return [
        [label, number(ours[key], digits), number(baseline[key], digits)]
        for label, key, digits in METRIC_ROWS
    ]


def _only_dataset() -> Path:
    found = sorted(path.parent for path in Path("datasets").glob("**/dataset.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DatasetError(
            "no DATASET was named and ./datasets holds none",
            "make one with latkit profile, or name its folder: latkit train-lpm DATASET",
        )
    listed = ", ".join(str(path) for path in found)
    raise DatasetError(f"./datasets holds {len(found)} datasets", f"name one of: {listed}")
