"""``latkit search``"""

from __future__ import annotations

import math
from typing import Any

import click

from latkit.cli.data_options import data_options
from latkit.cli.output import SEED, UserPath, json_option, print_json, show

COUNT = click.IntRange(min=1)


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """Numbers with commas between them, ``0,0.1,0.2``; its value is a tuple of them."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = (math.nan,)
        if not all(math.isfinite(item) for item in numbers):
            self.fail(f"{value!r} is not a list of numbers, e.g. 0,0.1,0.2", param, ctx)
        return numbers


# fmt: off
@click.command(name="search")
@click.option("--device",
              help="LPM to search with: device[/backend[/setting]][@version]. See latkit lpms "
                   "list. Not for --method one-shot.")
@click.option("--space", default="darts", show_default=True, help="Search space.")
@click.option("--also-device", "also", multiple=True,
              help="LPM of a further device to be fast on; repeatable. See --cost.")
@data_options(default="digits")
@click.option("--out", type=UserPath(), help="Folder of the search [default: searches/DEVICE].")
@click.option("--preset", type=click.Choice(["paper", "cpu"]), default="paper", show_default=True,
              help="paper: C=16, 50 epochs, for a GPU. cpu: scaled down to minutes on two cores. "
                   "The options below change single values.")
@click.option("--method",
              help="darts, or for the space darts pc-darts too [the space's first]. one-shot: all "
                   "architectures in one network, for no device; of the options below it has "
                   "--epochs, --cells, --channels, --batch, --weight-lr, --limit and --seed.")
@click.option("--paths", type=COUNT,
              help="Of one-shot: sub-networks whose gradients a step averages [1].")
@click.option("--subnets", type=COUNT,
              help="Of one-shot: sub-networks to evaluate on held-out images, which an LPM of the "
                   "accuracy is fitted to [paper: 1000, cpu: 200].")
@click.option("--eval-images", type=COUNT, help="Of one-shot: images for each of them [all held "
              "out].")
@click.option("--eval-batch", type=COUNT, help="Of one-shot: and of a batch of these [256].")
@click.option("--from", "start_from", type=UserPath(),
              help="Folder of a search whose weights, alpha and values are the first ones; alone "
                   "alpha moves on, in a tenth of its epochs, unless a --weight-lr is given.")
@click.option("--order", type=int, help="Of the bi-level optimisation, 1 or 2 [1].")
@click.option("--lambda", "lambda_per_ms", type=float,
              help="Weight of the predicted latency in the loss, per ms [paper: 0.2, cpu: 0.02]; "
                   "of a --cost in another unit, per that unit, and then there is no default.")
@click.option("--target-ms", type=float,
              help="Predicted latency to arrive at, instead of a fixed --lambda.")
@click.option("--cost",
              help="What --lambda weighs: predicted (latency), energy (by the device's LPM of "
                   "energy_mj), macs (in millions, Table 4's control), or of several devices "
                   "weighted-sum (the mean) or worst-case (the largest share of the space's "
                   "reference's, e.g. DARTS_V2's) [predicted].")
@click.option("--estimator",
              help="Of the expected latency and its gradient: marginal, straight-through (the "
                   "paper's) or score-function [marginal].")
@click.option("--edge-sampling",
              help="Edges that an estimate's sub-networks keep: uniform or strength [uniform].")
@click.option("--samples", type=COUNT,
              help="Sub-networks per estimate of the expected latency [paper and cpu: 20].")
@click.option("--lpm-noise", type=float, help="Noise added to predictions (Table 3) [0].")
@click.option("--epochs", type=COUNT, help="[paper: 50, cpu: 4; one-shot of paper: 250]")
@click.option("--warmup-epochs", type=click.IntRange(min=0),
              help="First epochs that train weights only [darts: 0; pc-darts: paper 15, cpu 1].")
@click.option("--cells", type=COUNT,
              help="Cells of the supernet [paper: 8, cpu: 5; nasbench201: 15 and 3; fbnet: 22, its "
                   "layers, always].")
@click.option("--channels", type=click.IntRange(min=2), help="Initial C [paper: 16, cpu: 8].")
@click.option("--batch", type=COUNT, help="Of all processes [64; pc-darts of paper: 256].")
@click.option("--weight-lr", type=float, help="Learning rate of the weights' SGD [the preset's].")
@click.option("--arch-lr", type=float, help="Learning rate of alpha's Adam [the preset's].")
@click.option("--scale-lr", is_flag=True,
              help="Scale the preset's learning rates with --batch: the weights' linearly, "
                   "alpha's by the square root.")
@click.option("--limit", type=click.IntRange(min=4),
              help="Use this many images, drawn at random [paper: all, cpu: 2048].")
@click.option("--precision", help="Of the supernet: fp32, or bf16 by autocast [fp32].")
@click.option("--stop-on-collapse", is_flag=True,
              help="End with the last good cell once the cell (of darts the normal one) has more "
                   "than two skip connections; not for fbnet.")
@click.option("--max-skips", type=click.IntRange(min=0),
              help="Largest number of skip connections in what is derived (of darts the normal "
                   "cell) [any].")
@click.option("--seed", type=SEED, help="[0]")
@click.option("--tensorboard", is_flag=True, help="Write scalars to OUT/tensorboard too.")
@click.option("--sweep-lambda", type=Numbers(),
              help="Search once for each of these lambdas, in OUT/lambda-0.1 and so on, e.g. "
                   "0,0.1,0.2.")
@click.option("--sweep-target-ms", type=Numbers(), help="The same over --target-ms.")
@click.option("--jobs", type=COUNT, help="Searches of a sweep at once [the cores; on a GPU 1].")
@click.option("--fleet", metavar="ADDRESS",
              help="Of one-shot: let several workers evaluate the sub-networks: auto, one on each "
                   "core or GPU of this machine, or the address of a cluster of Ray.")
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Search an architecture for a device whose LPM is published (LA-DARTS).

    The loss of the architecture parameters is the validation loss plus lambda times the
    expected latency that the LPM predicts. Each epoch is checkpointed, and so is the step at which
    Ctrl-C or SIGTERM ends the search: the same command goes on. At the end the found network is
    drawn, predicted by every LPM of the registry, and measured, if the LPM's backend and hardware
    are here. One-shot ends with an LPM of the accuracy instead.

    \b
    Examples:
      latkit search --device my-cpu --data digits --preset cpu --out found
      latkit search --device p100 --data cifar10
      latkit search --device p100 --data cifar10 --method pc-darts --order 2
      latkit search --space fbnet --device my-cpu --data cifar10 --preset cpu --target-ms 5
      latkit search --device my-cpu --preset cpu --target-ms 20
      latkit search --device my-cpu --also-device my-gpu --cost worst-case --lambda 3
      latkit search --device my-gpu --cost energy --lambda 0.01
      latkit search --device my-cpu --data cifar10 --preset cpu --lambda 0.05
      latkit search --device my-cpu --preset cpu --sweep-lambda 0,0.01,0.02
      latkit search --from searches/p100 --device my-cpu --data cifar10 --target-ms 20
      latkit search --method one-shot --space nasbench201 --data cifar10 --preset cpu
      latkit search --method one-shot --data cifar10 --preset cpu --fleet auto
      torchrun --nproc-per-node 2 -m latkit search --device p100 --data cifar10
    """
    from latkit.cli.progress import Terminal
    from latkit.reports.one_shot import one_shot_parts
    from latkit.reports.search import search_parts, sweep_parts
    from latkit.search.oneshot.result import OneShotResult
    from latkit.search.request import SearchRequest
    from latkit.search.result import SweepResult
    from latkit.search.run import search

    # What is no field of a request is a value of the preset's that is to be another.
    changes = {name: fields.pop(name) for name in {*fields} - {*SearchRequest.__dataclass_fields__}}
    changes = {name: value for name, value in changes.items() if value is not None}
    result = search(SearchRequest(**fields, changes=changes), listener=Terminal())
    if result is None:  # rank 0 prints
        return
    if as_json:
        print_json(result.to_dict())
    elif isinstance(result, SweepResult):
        show(sweep_parts(result))
    elif isinstance(result, OneShotResult):
        show(one_shot_parts(result))
    else:
        show(search_parts(result))
    if isinstance(result, SweepResult):
        result.check()
# fmt: on
