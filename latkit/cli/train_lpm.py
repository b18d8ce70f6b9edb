"""``latkit train-lpm``"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import SEED, UserPath, json_option, note, print_json, show, warn
from latkit.cli.progress import Terminal
from latkit.core.errors import Interrupted
from latkit.core.quantities import COSTS, LATENCY

if TYPE_CHECKING:
    from latkit.registry import TrainRequest


# fmt: off
@click.command(name="train-lpm")
@click.argument("datasets", metavar="[DATASET]...", type=UserPath(), nargs=-1)
@click.option("--kind", default="default", show_default=True,
              help="default: a Bayesian model of the networks' structure, good from ten "
                   "architectures on; paper: the paper's network; macs-only, op-count, "
                   "lookup-table and gradient-boosting: baselines to compare with; or a plug-in's.")
@click.option("--cost", type=click.Choice(COSTS), default=LATENCY, show_default=True,
              help="What the LPM predicts, of what the dataset has.")
@click.option("--n-train", type=click.IntRange(min=2),
              help="Architectures to train on; the rest judge [default: four fifths].")
@click.option("--choose", type=click.Choice(["random", "active"]), default="random",
              show_default=True,
              help="Which to train on: random ones, or always the one the model is least sure of.")
@click.option("--from-device", "from_devices", multiple=True, metavar="REF",
              help="An LPM of another device, of the same cost, as a transfer prior, e.g. t4 or "
                   "t4+energy_mj (its kind must be default); repeat it for several.")
@click.option("--learning-curve", is_flag=True,
              help="Also judge LPMs of smaller training sets (slow).")
@click.option("--publish/--no-publish", default=True, help="Add it to the registry [default: yes].")
@click.option("--standardize/--raw-targets", default=None,
              help="Of --kind paper: train on standardised targets [default], or on raw "
                   "milliseconds as the paper does (which collapses to a constant at hundreds of "
                   "milliseconds).")
@click.option("--epochs", type=click.IntRange(min=1),
              help="Of --kind paper: passes over the data [default: the paper's 1000, and more on "
                   "a small dataset so that training makes at least 10,000 updates].")
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="Of the choice of architectures and of all that is random in training.")
@click.option("--fleet", metavar="ADDRESS",
              help="Let several workers train, each on one dataset and a core at a time: auto, the "
                   "cores of this machine, or the address of a cluster of Ray.")
@json_option
def command(
    datasets: tuple[Path, ...], as_json: bool, cost: str, epochs: int | None,
    standardize: bool | None, fleet: str | None, **fields: Any,
) -> int:
    """Train a latency prediction module (LPM) on a dataset and publish it.

    DATASET is a folder made by latkit profile or latkit dataset import; without it, the only one
    below ./datasets is taken. A part of the architectures train the LPM, the rest judge it, beside
    a straight line in MACs. The LPM is published to the registry ($LATKIT_REGISTRY) as the next
    version for its device and cost: one of another cost than the latency is named with it, as in
    pi5+energy_mj.

    \b
    Examples:
      latkit train-lpm d
      latkit train-lpm d --cost energy_mj
      latkit train-lpm d --n-train 10 --choose active --from-device t4 --from-device jetson
      latkit train-lpm d --kind paper --raw-targets --epochs 1000     (the paper to the letter)
      latkit train-lpm d --kind lookup-table --no-publish
      latkit train-lpm datasets/*/*/* --fleet auto

    Of several datasets, or with --fleet, each has an LPM of its own. A dataset whose LPM is in the
    registry already, trained on the same measurements with the same options, is skipped: after
    Ctrl-C, a crash or a kill, the same command goes on. (One dataset without --fleet is trained on
    whenever it is named.) A dataset that cannot be trained on costs one line and the exit code, and
    leaves the others' LPMs. --json prints a list.
    """
    from latkit.registry import TrainRequest, train_and_publish
    from latkit.reports.lpm import training_parts

    options = {"epochs": epochs, "standardize": standardize}
    request = TrainRequest(quantity=cost, options=options, **fields)
    if len(datasets) > 1 or fleet is not None:
        return _train_several(datasets, request, fleet, as_json)
    request = replace(request, dataset=next(iter(datasets), None))
    result = train_and_publish(request, Terminal())
    if as_json:
        print_json(result.to_dict())
    else:
        show(training_parts(result))
    for line in result.warnings:
        warn(line)
    entry = result.entry
    if entry and entry.space == "darts" and cost == LATENCY:
        note(f"next: latkit search --device {entry.device} --data digits --preset cpu --out found")
    elif entry:
        note(
            f"next: latkit predict --space {entry.space} --device {entry.short_reference} "
            "ARCHITECTURE"
        )
    return 0
# fmt: on


def _train_several(
    datasets: tuple[Path, ...], request: TrainRequest, fleet: str | None, as_json: bool
) -> int:
    from latkit.reports.lpm import trained_datasets_table
    from latkit.tasks.train_lpms import train_lpms

    try:
        rows = train_lpms(datasets, request, fleet, Terminal())
    except KeyboardInterrupt:
        if not request.publish:
            raise Interrupted(
                "interrupted; nothing was published", "run the command again"
            ) from None
        raise Interrupted(
            "interrupted; every published LPM is kept", "run the same command to go on"
        ) from None
    if as_json:
        print_json([row.to_dict() for row in rows])
    else:
        show([trained_datasets_table(rows)])
    if any(row.entry for row in rows):
        note("next: latkit lpms list")
    return next((row.error.exit_code for row in rows if row.error), 0)
