"""``latkit search``"""

from __future__ import annotations

import dataclasses
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
from latkit.errors import Interrupted


@click.command(name="search")
@click.option(
    "--device",
    required=True,
    help="LPM to search with: device[/backend[/setting]][@version]. See latkit lpms list.",
)
@click.option(
    "--data",
    "source",
    default="digits",
    show_default=True,
    help="digits (8x8, needs no network), cifar10 (downloads), a folder with "
    "train*.parquet in the Hugging Face layout, or a folder with one folder a class.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the search [default: searches/DEVICE].",
)
@click.option(
    "--preset",
    type=click.Choice(["paper", "cpu"]),
    default="paper",
    show_default=True,
    help="paper: 8 cells, C=16, 50 epochs, for a GPU or patience. cpu: scaled down to "
    "minutes on two cores. The options below change single values.",
)
@click.option(
    "--lambda",
    "lambda_per_ms",
    type=float,
    help="Weight of the predicted latency in the loss, in 1/ms [paper: 0.2, cpu: 0.02].",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Sub-networks per estimate of the expected latency [paper and cpu: 20].",
)
@click.option("--epochs", type=click.IntRange(min=1), help="[paper: 50, cpu: 4]")
@click.option(
    "--cells", type=click.IntRange(min=1), help="Cells of the supernet [paper: 8, cpu: 5]."
)
@click.option(
    "--channels", type=click.IntRange(min=2), help="Initial channels C [paper: 16, cpu: 8]."
)
@click.option("--batch", type=click.IntRange(min=1), help="[paper and cpu: 64]")
@click.option(
    "--limit",
    type=click.IntRange(min=4),
    help="Use this many images, drawn at random [paper: all, cpu: 2048].",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@json_option
def command(
    device: str,
    source: str,
    out: Path | None,
    preset: str,
    seed: int,
    as_json: bool,
    **changes: Any,
) -> None:
    """Search an architecture for a device whose LPM is published (first-order LA-DARTS).

    The loss of the architecture parameters is the validation loss plus lambda times the
    expected latency that the LPM predicts. Each epoch is checkpointed: after an interruption
    the same command goes on. At the end the found network is measured, if the LPM's backend and
    hardware are here, and predicted and measured latency are printed side by side.

    \b
    Examples:
      latkit search --device my-cpu --data digits --preset cpu --out found
      latkit search --device p100 --data cifar10 --lambda 0.1
    """
    from latkit.backends import get_backend_class
    from latkit.registry import Registry
    from latkit.search.data import load_data
    from latkit.search.report import finish
    from latkit.search.session import PRESETS, SearchProgress, run_search
    from latkit.spaces import get_space

    space = get_space("darts")
    given = {name: value for name, value in changes.items() if value is not None}
    config = dataclasses.replace(PRESETS[preset], seed=seed, **given)
    config.check()
    registry = Registry()
    entry = registry.resolve(device, space.name)
    lpm, card = registry.load(entry)
    out = out or Path("searches", entry.device)
    data = load_data(source, config.limit, seed)
    # The backend's own probe: torch alone calls a GPU available that it has no code for.
    probe = get_backend_class("torch-cuda").probe()
    where = "cuda" if probe.usable else "cpu"
    note(f"training the supernet on {where} (torch-cuda is {probe.status}: {probe.reason})")
    note(
        f"searching with LPM {entry.reference} (MAPE {number(card.metrics['mape_percent'], 2)} %) "
        f"on {len(data.labels)} images of {data.name}; lambda {config.lambda_per_ms} per ms"
    )
    if "warning" in card.training:
        warn(card.training["warning"])
    progress: ProgressLine | None = None

    def show(now: SearchProgress) -> None:
        nonlocal progress
        before = now.done_before * now.steps_per_epoch
        if progress is None:
            if before:
                note(f"going on after epoch {now.done_before} of {now.epochs}")
            progress = ProgressLine("steps", now.epochs * now.steps_per_epoch, before)
        done = (now.epoch - 1) * now.steps_per_epoch + now.step
        progress.update(done, f"val loss {now.val_loss:.3f}, LAT {now.lat_ms:.2f} ms (predicted)")

    try:
        # The digest tells a retrained LPM of the same name and number from the one begun with.
        identity = f"{entry.reference} ({registry.weights_digest(entry)})"
        outcome = run_search(config, space, lpm, identity, data, out, where, show)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; the last whole epoch is kept", "run the same command to go on"
        ) from None
    finally:
        if progress is not None:
            progress.close()
    result = finish(outcome, config, space, lpm, card, entry.reference, data.name, where, out)
    if as_json:
        print_json(result)
        return
    measured = result["measured"]
    print_table(
        f"found on {data.name} for {entry.device}",
        ["network", "predicted ms", "measured ms", "measured now ms", "MACs M", "params M"],
        [
            [
                name,
                number(row["predicted_ms"], 2),
                number(row["measured_at_profile_speed_ms"], 2),
                number(row["measured_ms"], 2),
                number(row["macs"] / 1e6, 1),
                number(row["params"] / 1e6, 3),
            ]
            for name, row in (("found", result["found"]), ("darts_v2", result["darts_v2"]))
        ],
    )
    if measured["why_not"] is not None:
        note(f"not measured: {measured['why_not']}")
    else:
        note(
            f"measured on this machine with {measured['backend']} in the LPM's setting, "
            f"{measured['visits']} visits ({measured['visits_disturbed']} disturbed), "
            f"clock {measured['clock']}. The first measured column is at the machine's speed when "
            f"it was profiled (the anchor took "
            f"{number(measured['anchor_median_when_profiled_ms'], 2)} ms then, "
            f"{measured['anchor_median_ms']:.2f} ms now), as the predictions are."
        )
    click.echo(result["genotype"])
    note(f"result: {out / 'result.json'}; history: {out / 'history.parquet'}")
