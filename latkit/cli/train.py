"""``latkit train``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.data_options import data_options
from latkit.cli.output import SEED, UserPath, json_option, note, print_json, show
from latkit.cli.progress import Terminal

_COUNT = click.IntRange(min=1)
# Of what the preset decides: option, type, and help with the values of cifar/imagenet/cpu-small.
_VALUES: tuple[tuple[str, Any, str], ...] = (
    ("--cells", _COUNT, "Cells of the network [20/14/5; nasbench201: 15/-/3; fbnet: fixed]."),
    ("--channels", _COUNT, "Initial C [36/48/8; nasbench201: 16/-/8; fbnet: 16/16/8]."),
    ("--epochs", _COUNT, "Passes over the training images [600/250/8]."),
    ("--batch", _COUNT, "Images of a step, of all processes [128/1024/64]."),
    ("--lr", float, "Largest learning rate [0.025/0.5/0.1]."),
    ("--schedule", str, "How it falls to 0: cosine or linear [cosine/linear/cosine]."),
    ("--warmup-epochs", int, "First epochs, in which it rises instead [0/5/0]."),
    ("--momentum", float, "Of SGD [0.9]."),
    ("--weight-decay", float, "Of SGD [3e-4/3e-5/3e-4]."),
    ("--clip", float, "Largest norm of the gradient, 0 for any [5]."),
    ("--drop-path", float, "Probability in the end, rising linearly from 0 [0.2/0/0]."),
    ("--cutout", int, "Side of the blanked square in pixels, 0 for none [16/0/0]."),
    ("--auxiliary-weight", float, "Of the auxiliary head's loss, 0 for no head [0.4/0.4/0]."),
    ("--label-smoothing", float, "Share of the target spread over all classes [0/0.1/0]."),
    ("--limit", int, "Training images, drawn at random; all are tested [all/all/10000]."),
    ("--precision", str, "Of training: fp32, or bf16 by autocast; tests are fp32 [fp32]."),
)


def _values(function: Any) -> Any:
    for name, kind, text in reversed(_VALUES):
        function = click.option(name, type=kind, help=text)(function)
    return function


# fmt: off
@click.command(name="train")
@click.argument("architecture", metavar="GENOTYPE")
@data_options(default="cifar10")
@click.option("--space", default="darts", show_default=True, help="darts, nasbench201 or fbnet.")
@click.option("--preset", type=click.Choice(["cifar", "imagenet", "cpu-small"]), default="cifar",
              show_default=True,
              help="cifar, imagenet: the paper's, for GPUs. cpu-small: scaled down to minutes on "
                   "two cores. Values below are in this order.")
@click.option("--out", type=UserPath(), help="Folder of the training [trainings/GENOTYPE].")
@click.option("--seed", type=SEED, default=0, show_default=True, help="The first seed.")
@click.option("--seeds", type=_COUNT, default=1, show_default=True,
              help="Train from so many seeds; the error gets an interval.")
@_values
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Train an architecture from scratch and test it.

    GENOTYPE is a name of the zoo (darts_v2, fbnet_c, ...), a Genotype(...), a text of the space, or
    a file that has one: a search's result.json, say. Test images are test.parquet beside
    train.parquet, or the folder test beside train; of digits a fixed part is held out. The same
    command goes on after Ctrl-C, a crash or a kill, on a CPU to the same bits.

    \b
    Examples:
      latkit train darts_v2 --data cifar10 --seeds 3 --out trained
      latkit train searches/p100/result.json --data PATH --preset imagenet --precision bf16
      latkit train darts_v2 --data PATH --preset cpu-small
      latkit train gdas --data digits --preset cpu-small --epochs 2
      latkit train fbnet_c --space fbnet --data PATH --preset cpu-small
      torchrun --nproc-per-node 8 -m latkit train darts_v2 --data PATH --preset imagenet
    """
    from latkit.reports.training import export_command, training_parts
    from latkit.training.request import TrainingRequest
    from latkit.training.run import train

    result = train(TrainingRequest(**fields), listener=Terminal())
    if result is None:  # rank 0 prints
        return
    if as_json:
        print_json(result.to_dict())
    else:
        show(training_parts(result))
    note(f"next: {export_command(result)}")
# fmt: on
