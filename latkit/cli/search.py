"""``latkit search``"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import SEED, ProgressLine, json_option, note, number, print_json, warn
from latkit.cli.search_report import print_result, print_sweep
from latkit.errors import InputError, Interrupted, LatkitError

if TYPE_CHECKING:
    from latkit.lpm.base import LPM
    from latkit.lpm.store import LPMCard
    from latkit.registry import Entry, Registry
    from latkit.search.config import SearchConfig
    from latkit.search.data import ImageData
    from latkit.search.distributed import Processes
    from latkit.search.epochs import SearchOutcome, SearchProgress
    from latkit.search.sweep import Search
    from latkit.spaces import DartsSpace


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
@click.option("--method", default="darts", show_default=True, help="Supernet: darts or pc-darts.")
@click.option("--order", type=int, help="Of the bi-level optimisation, 1 or 2 [1].")
@click.option(
    "--lambda",
    "lambda_per_ms",
    type=float,
    help="Weight of the predicted latency in the loss, in 1/ms [paper: 0.2, cpu: 0.02].",
)
@click.option(
    "--target-ms",
    type=float,
    help="Predicted latency to arrive at, instead of a fixed --lambda.",
)
@click.option(
    "--estimator",
    help="Of the expected latency and its gradient: marginal, straight-through (the paper's) "
    "or score-function.",
)
@click.option(
    "--edge-sampling", help="Edges that an estimate's sub-networks keep: uniform or strength."
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
    out: Path | None,
    preset: str,
    method: str,
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
      latkit search --device my-cpu --data cifar10 --preset cpu --lambda 0.05
      latkit search --device my-cpu --preset cpu --sweep-lambda 0,0.01,0.02
      torchrun --nproc-per-node 2 -m latkit search --device p100 --data cifar10
    """
    from latkit.backends import get_backend_class
    from latkit.registry import Registry
    from latkit.search.config import preset as preset_of
    from latkit.search.distributed import joined, processes_here
    from latkit.search.session import check_fits
    from latkit.search.sweep import plan_sweep
    from latkit.search.tensorboard import check_tensorboard
    from latkit.spaces import get_space

    given = {name: value for name, value in changes.items() if value is not None}
    if sum(n in given for n in ("lambda_per_ms", "target_ms")) + (sweep_lambda is not None) + (
        sweep_target_ms is not None
    ) > 1:  # fmt: skip
        raise InputError(
            "--lambda, --target-ms and the sweeps exclude each other", "give one of them"
        )
    if "target_ms" in given:
        given["lambda_per_ms"] = None
    config = dataclasses.replace(preset_of(preset, method), **given)
    config.check()
    searches: list[Search] | None = None
    if sweep_lambda is not None:
        searches = plan_sweep(config, "lambda", sweep_lambda)
    elif sweep_target_ms is not None:
        searches = plan_sweep(config, "target", sweep_target_ms)
    elif jobs is not None:
        raise InputError("--jobs counts the searches of a sweep", "add --sweep-lambda")
    if tensorboard:
        check_tensorboard()
    processes = processes_here()
    with _only_main_speaks(processes):
        space, registry = get_space("darts"), Registry()
        entry = registry.resolve(device, space.name)
        lpm, card = registry.load(entry)
        # The backend's own probe: torch alone calls a GPU available that it has no code for.
        probe = get_backend_class("torch-cuda").probe()
        where = "cuda" if probe.usable else "cpu"
        task = _Task(
            space, registry, entry, lpm, card, where, out or Path("searches", entry.device)
        )
        note(f"training the supernet on {where} (torch-cuda is {probe.status}: {probe.reason})")
        if searches is not None:
            if processes.world > 1:
                raise InputError("a sweep starts its own processes", "start it without torchrun")
            data = task.load(source, config)
            check_fits(config, data)
            _sweep(task, searches, data, jobs, tensorboard, as_json)
            return
        with joined(processes, where):
            # The main process first: it may have to download.
            if not processes.is_main:
                processes.wait()
            data = task.load(source, config)
            if processes.is_main:
                processes.wait()
            outcome = _search(task, config, data, tensorboard, processes)
        if not processes.is_main:
            return
        result = task.finish(outcome, config, data, task.out)
        if as_json:
            print_json(result)
        else:
            print_result(result, task.out)


@dataclasses.dataclass(frozen=True)
class _Task:
    """What searches of one command share."""

    space: DartsSpace
    registry: Registry
    entry: Entry
    lpm: LPM
    card: LPMCard
    where: str
    out: Path

    def load(self, source: str, config: SearchConfig) -> ImageData:
        from latkit.search.data import load_data

        data = load_data(source, config.limit, config.seed)
        mape = number(self.card.metrics["mape_percent"], 2)
        note(
            f"searching with LPM {self.entry.reference} (MAPE {mape} %) on {len(data.labels)} "
            f"images of {data.name}"
        )
        if "warning" in self.card.training:
            warn(self.card.training["warning"])
        return data

    def identity(self) -> str:
        # The digest tells a retrained LPM of the same name and number from the one begun with.
        return f"{self.entry.reference} ({self.registry.weights_digest(self.entry)})"

    def finish(
        self, outcome: SearchOutcome, config: SearchConfig, data: ImageData, out: Path
    ) -> dict[str, Any]:
        from latkit.search.report import finish

        return finish(
            outcome, config, self.space, self.lpm, self.card, self.entry, self.registry,
            data.name, self.where, out,
        )  # fmt: skip


@contextlib.contextmanager
def _only_main_speaks(processes: Processes) -> Iterator[None]:
    """Silence all processes but the main one, and what it says too when they fail."""
    if processes.is_main:
        yield
        return
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except (InputError, Interrupted) as error:
        raise SystemExit(error.exit_code) from None


def _search(
    task: _Task, config: SearchConfig, data: ImageData, tensorboard: bool, processes: Processes
) -> SearchOutcome:
    from latkit.search.collapse import signs_of_collapse
    from latkit.search.session import run_search
    from latkit.search.signals import stop_on_signals
    from latkit.search.tensorboard import tensorboard_writer
    from latkit.spaces import parse_genotype

    goal = (
        f"target {config.target_ms} ms"
        if config.target_ms is not None
        else f"lambda {config.lambda_per_ms} per ms"
    )
    note(f"{config.method}, order {config.order}, {goal}")
    progress: ProgressLine | None = None
    warned: str | None = None
    log: Callable[[dict[str, Any]], None] | None = None
    if tensorboard and processes.is_main:
        log = tensorboard_writer(task.out)

    def show(now: SearchProgress) -> None:
        nonlocal progress
        if progress is None:
            if now.done_before:
                note(
                    f"going on after epoch {now.done_before // now.steps_per_epoch}, "
                    f"step {now.done_before % now.steps_per_epoch}, of {now.epochs} epochs"
                )
            progress = ProgressLine("steps", now.epochs * now.steps_per_epoch, now.done_before)
        done = (now.epoch - 1) * now.steps_per_epoch + now.step
        progress.update(done, describe_step(now))

    def judge(row: dict[str, Any]) -> None:
        nonlocal warned
        if log is not None:
            log(row)
        # The α of a warm-up is the initial one, and means nothing.
        if row["epoch"] <= config.warmup_epochs:
            return
        signs = signs_of_collapse(parse_genotype(row["genotype"]).normal)
        if signs is not None and signs != warned:
            if progress is not None:
                progress.close()
            warn(
                f"epoch {row['epoch']}: the normal cell has {signs}. If that stays so, search with "
                "a smaller lambda or fewer epochs, or with --stop-on-collapse"
            )
        warned = signs

    try:
        with stop_on_signals() as stop:
            outcome = run_search(
                config, task.space, task.lpm, task.identity(), data, task.out, task.where,
                show, judge, stop, processes,
            )  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; the last checkpoint is kept", "run the same command to go on"
        ) from None
    finally:
        if progress is not None:
            progress.close()
    if outcome.collapsed:
        warn(
            f"stopped: the normal cell of epoch {len(outcome.history)} has more than two skip "
            f"connections; this is the cell of epoch {outcome.epoch}"
        )
    return outcome


def describe_step(now: SearchProgress) -> str:
    """A step's losses for a progress line."""
    if now.val_loss is None or now.lat_ms is None:
        return f"train loss {now.train_loss:.3f}, alpha frozen"
    return f"val loss {now.val_loss:.3f}, LAT {now.lat_ms:.2f} ms (predicted)"


def _sweep(
    task: _Task,
    searches: list[Search],
    data: ImageData,
    jobs: int | None,
    tensorboard: bool,
    as_json: bool,
) -> None:
    from latkit.device import usable_cores
    from latkit.errors import SearchError
    from latkit.search.signals import stop_on_signals
    from latkit.search.sweep import Common, run_sweep, write_sweep

    cores = usable_cores()
    jobs = min(jobs or (1 if task.where == "cuda" else cores), len(searches))
    common = Common(
        task.entry.reference, task.identity(), task.registry.url, data, task.out, task.where,
        tensorboard, max(1, cores // jobs),
    )  # fmt: skip
    names = ", ".join(search.name for search in searches)
    note(f"{len(searches)} searches ({names}), {jobs} at a time, in {task.out}")
    done: dict[str, int] = {}
    progress: ProgressLine | None = None

    def show(name: str, now: SearchProgress) -> None:
        nonlocal progress
        done[name] = (now.epoch - 1) * now.steps_per_epoch + now.step
        if progress is None:
            total = len(searches) * now.epochs * now.steps_per_epoch
            progress = ProgressLine("steps", total, now.done_before)
        progress.update(sum(done.values()), f"{name}: {describe_step(now)}")

    try:
        with stop_on_signals() as stop:
            outcomes = run_sweep(searches, common, jobs, show, stop)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; the last checkpoints are kept", "run the same command to go on"
        ) from None
    finally:
        if progress is not None:
            progress.close()
    # One after the other, and only now: nothing may disturb what is measured.
    results: list[dict[str, Any] | LatkitError] = []
    for search, outcome in zip(searches, outcomes, strict=True):
        if isinstance(outcome, LatkitError):
            warn(str(outcome))
            results.append(outcome)
            continue
        note(f"predicting and measuring what {search.name} found")
        results.append(task.finish(outcome, search.config, data, task.out / search.name))
    sweep = write_sweep(searches, results, task.out)
    if as_json:
        print_json(sweep)
    else:
        print_sweep(sweep, task.out)
    failed = [search.name for search, result in zip(searches, results, strict=True)
              if isinstance(result, LatkitError)]  # fmt: skip
    if failed:
        raise SearchError(
            f"{len(failed)} of {len(searches)} searches failed ({', '.join(failed)})",
            "see the warnings above; the same command goes on with what can go on",
        )
