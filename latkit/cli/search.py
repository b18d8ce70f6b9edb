"""``latkit search``"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import SEED, UserPath, json_option, note, print_json
from latkit.core.errors import InputError, Interrupted, LatkitError
from latkit.core.quantities import LATENCY

if TYPE_CHECKING:
    from latkit.search.config import SearchConfig
    from latkit.search.distributed import Processes
    from latkit.search.sweep import Search

# How long a process keeps to itself what another one may have to say: the main one the same error,
# any one why it has gone. When one has spoken and ended, torchrun ends all of them.
PATIENCE_SECONDS = 5.0


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


@click.command(name="search")
@click.option(
    "--device",
    required=True,
    help="LPM to search with: device[/backend[/setting]][@version]. See latkit lpms list.",
)
@click.option(
    "--also-device",
    "also",
    multiple=True,
    help="LPM of a further device to be fast on; repeatable. See --cost.",
)
@click.option(
    "--data",
    "source",
    default="digits",
    show_default=True,
    help="digits (8x8, needs no network), cifar10 (downloads), a folder with "
    "train*.parquet in the Hugging Face layout, a Parquet file, or a folder with one folder a "
    "class.",
)
@click.option("--image-column", help="Of Parquet files: encoded images [img or image].")
@click.option("--label-column", help="Of Parquet files [label, labels or fine_label].")
@click.option(
    "--resolution",
    type=int,
    help="Scale images to this many pixels a side, a multiple of 4 [32; digits: 8].",
)
@click.option(
    "--no-flip",
    is_flag=True,
    help="Do not mirror half of the images at random: for digits, letters and the like.",
)
@click.option(
    "--out",
    type=UserPath(),
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
@click.option("--method", default="darts", show_default=True, help="Supernet: darts or pc-darts.")
@click.option("--order", type=int, help="Of the bi-level optimisation, 1 or 2 [1].")
@click.option(
    "--lambda",
    "lambda_per_ms",
    type=float,
    help="Weight of the predicted latency in the loss, per ms [paper: 0.2, cpu: 0.02]; of a --cost "
    "in another unit, per that unit, and then there is no default.",
)
@click.option(
    "--target-ms",
    type=float,
    help="Predicted latency to arrive at, instead of a fixed --lambda.",
)
@click.option(
    "--cost",
    help="What --lambda weighs: predicted (latency), energy (by the device's LPM of energy_mj), "
    "macs (in millions, Table 4's control), or of several devices weighted-sum (the mean) or "
    "worst-case (the largest share of DARTS_V2's) [predicted].",
)
@click.option(
    "--estimator",
    help="Of the expected latency and its gradient: marginal, straight-through (the paper's) "
    "or score-function [marginal].",
)
@click.option(
    "--edge-sampling",
    help="Edges that an estimate's sub-networks keep: uniform or strength [uniform].",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Sub-networks per estimate of the expected latency [paper and cpu: 20].",
)
@click.option("--lpm-noise", type=float, help="Noise added to predictions (Table 3) [0].")
@click.option("--epochs", type=click.IntRange(min=1), help="[paper: 50, cpu: 4]")
@click.option(
    "--warmup-epochs",
    type=click.IntRange(min=0),
    help="First epochs that train weights only [darts: 0; pc-darts: paper 15, cpu 1].",
)
@click.option(
    "--cells", type=click.IntRange(min=1), help="Cells of the supernet [paper: 8, cpu: 5]."
)
@click.option(
    "--channels", type=click.IntRange(min=2), help="Initial channels C [paper: 16, cpu: 8]."
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Of all processes [64; pc-darts of paper: 256].",
)
@click.option("--weight-lr", type=float, help="Learning rate of the weights' SGD [the preset's].")
@click.option("--arch-lr", type=float, help="Learning rate of alpha's Adam [the preset's].")
@click.option(
    "--scale-lr",
    is_flag=True,
    help="Scale the preset's learning rates with --batch: the weights' linearly, alpha's by the "
    "square root.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=4),
    help="Use this many images, drawn at random [paper: all, cpu: 2048].",
)
@click.option("--precision", help="Of the supernet: fp32, or bf16 by autocast [fp32].")
@click.option(
    "--stop-on-collapse",
    is_flag=True,
    help="End with the last good cell once the normal cell has more than two skip connections.",
)
@click.option(
    "--max-skips",
    type=click.IntRange(min=0),
    help="Largest number of skip connections in the derived normal cell [any].",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--tensorboard", is_flag=True, help="Write scalars to OUT/tensorboard too.")
@click.option(
    "--sweep-lambda",
    type=Numbers(),
    help="Search once for each of these lambdas, in OUT/lambda-0.1 and so on, e.g. 0,0.1,0.2.",
)
@click.option("--sweep-target-ms", type=Numbers(), help="The same over --target-ms.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Searches of a sweep at once [default: the cores; on a GPU 1].",
)
@json_option
def command(
    device: str,
    source: str,
    image_column: str | None,
    label_column: str | None,
    resolution: int | None,
    no_flip: bool,
    out: Path | None,
    preset: str,
    method: str,
    also: tuple[str, ...],
    tensorboard: bool,
    sweep_lambda: tuple[float, ...] | None,
    sweep_target_ms: tuple[float, ...] | None,
    jobs: int | None,
    as_json: bool,
    **changes: Any,
) -> None:
    """Search an architecture for a device whose LPM is published (LA-DARTS).

    The loss of the architecture parameters is the validation loss plus lambda times the
    expected latency that the LPM predicts. Each epoch is checkpointed, and so is the step at which
    Ctrl-C or SIGTERM ends the search: the same command goes on. At the end the found network is
    drawn, predicted by every LPM of the registry, and measured, if the LPM's backend and hardware
    are here.

    \b
    Examples:
      latkit search --device my-cpu --data digits --preset cpu --out found
      latkit search --device p100 --data cifar10
      latkit search --device p100 --data cifar10 --method pc-darts --order 2
      latkit search --device my-cpu --preset cpu --target-ms 20
      latkit search --device my-cpu --also-device my-gpu --cost worst-case --lambda 3
      latkit search --device my-gpu --cost energy --lambda 0.01
      latkit search --device my-cpu --data cifar10 --preset cpu --lambda 0.05
      latkit search --device my-cpu --preset cpu --sweep-lambda 0,0.01,0.02
      torchrun --nproc-per-node 2 -m latkit search --device p100 --data cifar10
    """
    from latkit.backends import BACKENDS
    from latkit.cli.search_report import print_result
    from latkit.cli.search_run import Task, run_one, run_several
    from latkit.registry import Registry
    from latkit.search.data import DataOptions
    from latkit.search.distributed import joined, processes_here
    from latkit.search.parts import check_reach, check_weight_is_given, weighed_by
    from latkit.search.session import check_fits
    from latkit.search.tensorboard import check_tensorboard
    from latkit.spaces import get_space

    options = DataOptions(resolution, not no_flip, image_column, label_column)
    processes = processes_here()
    # The backend's own probe: torch alone calls a GPU available that it has no code for.
    probe = BACKENDS.get("torch-cuda").probe()
    where = "cuda" if probe.usable else "cpu"
    with joined(processes, where), _one_voice(processes):
        given = {name: value for name, value in changes.items() if value is not None}
        config, searches = _plan(preset, method, also, sweep_lambda, sweep_target_ms, jobs, given)
        if tensorboard:
            check_tensorboard()
        space, registry = get_space("darts"), Registry()
        entry = registry.resolve(device, space.name, LATENCY)
        lpm, card = registry.load(entry)
        others = [registry.resolve(reference, space.name, LATENCY) for reference in also]
        weighed = weighed_by(config, [entry, *others], registry)
        task = Task(
            space, registry, entry, lpm, card, where, out or Path("searches", entry.device),
            tuple((each, *registry.load(each)) for each in weighed),
        )  # fmt: skip
        cost = task.cost(config)
        if searches is None and not {"lambda_per_ms", "target_ms"} & set(given):
            check_weight_is_given(config, space, cost)
        note(f"training the supernet on {where} (torch-cuda is {probe.status}: {probe.reason})")
        if searches is not None:
            if processes.world > 1:
                raise InputError("a sweep starts its own processes", "start it without torchrun")
            # All of them, before any is begun.
            targets = [search.config.target_ms for search in searches]
            check_reach(targets, space, cost, config.max_skips)
            data = task.load(source, config, options)
            check_fits(config, data)
            run_several(task, searches, data, jobs, tensorboard, as_json)
            return
        # The main process first: it may have to download.
        if not processes.is_main:
            processes.wait()
        data = task.load(source, config, options)
        if processes.is_main:
            processes.wait()
        outcome = run_one(task, config, data, tensorboard, processes)
    if not processes.is_main:
        return
    result = task.finish(outcome, config, data, task.out)
    if as_json:
        print_json(result)
    else:
        print_result(result, task.out)


def _plan(
    preset: str,
    method: str,
    also: tuple[str, ...],
    sweep_lambda: tuple[float, ...] | None,
    sweep_target_ms: tuple[float, ...] | None,
    jobs: int | None,
    given: Mapping[str, Any],
) -> tuple[SearchConfig, list[Search] | None]:
    """The configuration that the options ask for, and the searches of a sweep.

    Raises:
        InputError: options exclude each other, or a value cannot work.
    """
    from latkit.search.config import preset as preset_of
    from latkit.search.config import with_rates
    from latkit.search.sweep import plan_sweep

    if sum(n in given for n in ("lambda_per_ms", "target_ms")) + (sweep_lambda is not None) + (
        sweep_target_ms is not None
    ) > 1:  # fmt: skip
        raise InputError(
            "--lambda, --target-ms and the sweeps exclude each other", "give one of them"
        )
    values = dict(given)
    weight_lr, arch_lr = values.pop("weight_lr", None), values.pop("arch_lr", None)
    scale_lr = values.pop("scale_lr", False)
    if "target_ms" in given:
        values["lambda_per_ms"] = None
    if also:
        values = {"cost": "weighted-sum", **values, "also": also}
    usual = preset_of(preset, method)
    config = dataclasses.replace(usual, **values)
    config = with_rates(config, weight_lr, arch_lr, usual.batch if scale_lr else config.batch)
    config.check()
    if sweep_lambda is not None:
        return config, plan_sweep(config, "lambda", sweep_lambda)
    if sweep_target_ms is not None:
        return config, plan_sweep(config, "target", sweep_target_ms)
    if jobs is not None:
        raise InputError("--jobs counts the searches of a sweep", "add --sweep-lambda")
    return config, None


@contextlib.contextmanager
def _one_voice(processes: Processes) -> Iterator[None]:
    """Silence all processes but the main one, but for errors that it does not have.

    Raises:
        SearchError: another process has ended.
    """
    from latkit.search.distributed import connection_lost

    with contextlib.ExitStack() as stack:
        if not processes.is_main:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            yield
        except Interrupted as error:
            # All processes end after the same step.
            if processes.is_main:
                raise
            raise SystemExit(error.exit_code) from None
        except (LatkitError, RuntimeError) as error:
            own = isinstance(error, LatkitError)
            told = error if isinstance(error, LatkitError) else connection_lost(error)
            if told is None:
                raise
            if not (own and processes.is_main):
                time.sleep(PATIENCE_SECONDS)
            if processes.is_main:
                raise told from None
            who = f"process {processes.rank} of {processes.world}"
            raise type(told)(f"{who}: {told.cause}", told.fix) from None
