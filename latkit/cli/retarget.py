"""``latkit retarget``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.output import SEED, UserPath, json_option, print_json, show
from latkit.cli.progress import Terminal

COUNT = click.IntRange(min=1)


# fmt: off
@click.command(name="retarget")
@click.argument("run", metavar="RUN")
@click.option("--device", multiple=True, required=True,
              help="LPM of the latency: device[/backend[/setting]][@version]; repeat it for "
                   "several devices, all of one setting. See latkit lpms list.")
@click.option("--target-ms", multiple=True, type=float,
              help="Latency to be near (5 %); of several devices one for all, or one each.")
@click.option("--max-ms", multiple=True, type=float, help="Latency at most, likewise.")
@click.option("--max-mj", multiple=True, type=float,
              help="Energy of a run at most, likewise, by the energy LPMs of the same targets.")
@click.option("--max-macs", "max_macs_millions", type=float, help="MACs at most, in millions.")
@click.option("--max-params", "max_params_millions", type=float,
              help="Parameters at most, in millions.")
@click.option("--front", type=COUNT,
              help="This many points of the Pareto front, instead of the one most accurate "
                   "architecture.")
@click.option("--confidence", type=float,
              help="Probability, 0.5 to below 1, with which limits of predictions are kept, by the "
                   "LPMs' intervals [the predictions themselves are within them].")
@click.option("--measure", type=click.IntRange(min=0), default=0,
              help="Measure this many candidates on the devices that are here, correct their LPMs "
                   "by that, and choose again [none].")
@click.option("--space", help="Search space [RUN's].")
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="Of the search in a space that is too large to be enumerated.")
@click.option("--out", type=UserPath(),
              help="Folder [default: retargets/DEVICE/ and what is wanted, e.g. max-ms-5].")
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Choose architectures for other devices, in seconds, without training.

    RUN is the folder of a latkit search --method one-shot that has ended (or of an accuracy LPM, or
    its reference): it predicts the accuracy of every architecture of its space, and the devices'
    LPMs predict the rest. Given nothing else, it is the most accurate architecture.

    \b
    Examples:
      latkit retarget searches/one-shot-nasbench201 --device my-gpu --max-ms 5
      latkit retarget RUN --device my-gpu --target-ms 5 --max-params 3
      latkit retarget RUN --device my-gpu --max-ms 5 --confidence 0.9 --measure 8
      latkit retarget RUN --device my-gpu --device my-cpu --max-ms 5 --max-ms 20
      latkit retarget RUN --device my-cpu --front 12 --measure 12 --out front
      latkit train retargets/my-gpu/max-ms-5/result.json --data cifar10

    Everything is predicted but for what --measure measures, in alternation with the anchor network,
    as latkit profile does. Each measurement is kept: the same command goes on after an
    interruption, and a larger --measure adds to it. OUT/result.json is read like a search's.
    """
    from latkit.reports.retarget import retarget_parts
    from latkit.tasks.retarget import retarget
    from latkit.tasks.retarget_request import RetargetRequest

    result = retarget(RetargetRequest(**fields), Terminal())
    if as_json:
        print_json(result.to_dict())
    else:
        show(retarget_parts(result))
# fmt: on
