"""``latkit profile``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli import output
from latkit.cli.output import SEED, Cores, Percent, UserPath, json_option, note, print_json, show
from latkit.cli.progress import Terminal
from latkit.core.errors import Interrupted


# fmt: off
@click.command(name="profile")
@click.option("--backend",
              help="Runtime to measure [default: torch-cuda where a usable GPU is present, else "
                   "torch-cpu]. See latkit backends list.")
@click.option("--provider-library", type=UserPath(),
              help="Of --backend onnxruntime-ep:NAME: the execution provider's shared library "
                   "[default: the installed package's].")
@click.option("--device",
              help="Your short name for this hardware, e.g. p100 [default: made from the "
                   "hardware's own name].")
@click.option("--n", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Number of architectures.")
@click.option("--space", default="darts", show_default=True,
              help="Search space: darts, nasbench201 or fbnet.")
@click.option("--setting",
              help="Network around the choices: imagenet, cifar, paper or tiny of darts, "
                   "nasbench201, fbnet or fbnet-cpu, with changes, e.g. "
                   "imagenet,batch=32,memory_format=nchw [default: the space's first].")
@click.option("--protocol", type=click.Choice(["fast", "standard", "precise", "paper"]),
              default="standard", show_default=True,
              help="How one architecture is measured: 3, 6 or 12 runs in alternation with the "
                   "anchor network, or the paper's mean of 20 runs by the wall clock.")
@click.option("--runs-per-visit", "runs", type=click.IntRange(min=2),
              help="Timed runs of a candidate in one measurement [default: the protocol's].")
@click.option("--visits", "replicates", type=click.IntRange(1, 16), default=1, show_default=True,
              help="Undisturbed measurements of each architecture. One in twenty is replicated "
                   "anyway.")
@click.option("--target-error", type=Percent(),
              help="Measure all architectures again until the mean of each has this relative "
                   "error, judged by the replicates so far, e.g. 1.5%.")
@click.option("--clock", type=click.Choice(["auto", "wall", "cpu", "event"]),
              help="Which time counts: the device's events, the CPU time of a single thread, or "
                   "wall time [default: the protocol's; auto is the backend's own].")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="CPU threads of a run, at most as many as the cores this process may use; with "
                   "one, the clock is the thread's CPU time.")
@click.option("--cores", type=Cores(), default=(), help="Keep to these CPU cores, e.g. 0,2-3.")
@click.option("--energy", is_flag=True,
              help="Measure energy too (energy_mj); adds a second or more to each measurement.")
@click.option("--choose", type=click.Choice(["random", "active"]), default="random",
              show_default=True,
              help="random: the seed's list, which every backend measures; active: of its first "
                   "4,096 always the one that an LPM is least sure of, for a device of which few "
                   "will be measured.")
@click.option("--transfer-from", multiple=True, metavar="REF",
              help="Of --choose active: an LPM of a source device, the transfer prior of "
                   "train-lpm later; repeat it.")
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="Names the list of architectures; every backend measures the same list.")
@click.option("--fleet", metavar="ADDRESS",
              help="Let several workers measure the list, each on a device of the kind --device: "
                   "auto, the cores or GPUs of this machine, or the address of a cluster of Ray "
                   "whose nodes were started with that resource.")
@click.option("--out", type=UserPath(),
              help="Dataset folder [default: datasets/DEVICE/BACKEND/SETTING].")
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Measure the latency of sampled architectures into a dataset.

    Each architecture is timed in alternation with a fixed anchor network, so that drift of the
    machine cancels. Every finished row is kept: after Ctrl-C, a crash or a kill, the same
    command goes on where it stopped, and a larger --n extends the dataset.

    \b
    Examples:
      latkit profile --n 300 --out d
      latkit profile --backend torch-cuda --device p100 --n 100000
      latkit profile --setting cifar,batch=1 --device my-laptop --n 500
      latkit profile --protocol fast --target-error 1% --n 2000
      latkit profile --device new --n 10 --choose active --transfer-from t4
      latkit profile --space nasbench201 --n 1000
      latkit profile --fleet auto --device my-server --n 5000

    Rows that other work on the machine disturbed are flagged, re-measured where that is possible,
    and never used for training. latkit dataset check judges the result.
    """
    from latkit.reports.dataset import summary_parts
    from latkit.tasks.profile import ProfileRequest, run_profile

    request = ProfileRequest(**fields)
    try:
        result = run_profile(request, Terminal())
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; every finished row is kept", "run the same command to go on"
        ) from None
    if as_json:
        print_json(result.to_dict())
    else:
        show(summary_parts(result.summary))
    for warning in result.warnings:
        output.warn(warning)
    note(f"next: latkit dataset check {result.dataset}, latkit train-lpm {result.dataset}")
# fmt: on
