"""What ``latkit search`` does: one search, or a sweep of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.cli.output import note, number, print_json, warn
from latkit.cli.progress import ProgressLine, SharedProgress
from latkit.cli.search_report import on_target_line, print_sweep
from latkit.core.device import usable_cores
from latkit.core.errors import Interrupted, LatkitError, SearchError, from_os_error
from latkit.lpm.base import LPM
from latkit.lpm.store import LPMCard
from latkit.registry import Entry, Registry
from latkit.search.collapse import signs_of_collapse
from latkit.search.config import SearchConfig
from latkit.search.costs import Cost, LPMCost
from latkit.search.data import DataOptions, ImageData, load_data
from latkit.search.distributed import Processes
from latkit.search.epochs import SearchOutcome, SearchProgress
from latkit.search.parts import make_cost
from latkit.search.report import finish
from latkit.search.session import run_search, what_is_kept
from latkit.search.signals import stop_on_signals
from latkit.search.sweep import Common, Search, run_sweep, write_sweep
from latkit.search.tensorboard import tensorboard_writer
from latkit.spaces.darts.genotype import parse_genotype
from latkit.spaces.darts.space import DartsSpace


@dataclass(frozen=True)
class Task:
    """What searches of one command share.

    Attributes:
        entry, lpm, card: the latency's LPM of the device searched for.
        weighed: the LPMs that the cost is made of.
    """

    space: DartsSpace
    registry: Registry
    entry: Entry
    lpm: LPM
    card: LPMCard
    where: str
    out: Path
    weighed: tuple[tuple[Entry, LPM, LPMCard], ...]

    def load(self, source: str, config: SearchConfig, options: DataOptions) -> ImageData:
        """The images, with progress, what they are, and warnings about what was left out."""
        note(f"reading images of {source}")
        progress: ProgressLine | None = None

        def show(done: int, total: int) -> None:
            nonlocal progress
            progress = progress or ProgressLine("images", total)
            # Of the last one the line below tells.
            if done < total:
                progress.update(done)

        try:
            data = load_data(source, config.limit, config.seed, options, show)
        finally:
            if progress is not None:
                progress.close()
        for remark in data.remarks:
            warn(remark)
        cards = {self.entry: self.card} | {entry: card for entry, _, card in self.weighed}
        told = ", ".join(
            f"{entry.reference} (MAPE {number(card.metrics['mape_percent'], 2)} %)"
            for entry, card in cards.items()
        )
        height, width = data.images.shape[2:]
        note(
            f"searching with LPM {told} on {len(data.labels)} images of {data.classes} classes, "
            f"{width}x{height} pixels, of {data.name}"
        )
        for card in cards.values():
            if "warning" in card.training:
                warn(card.training["warning"])
        return data

    def identity(self) -> str:
        # The digest tells a retrained LPM of the same name and number from the one begun with.
        others = [entry for entry, _, _ in self.weighed if entry != self.entry]
        entries = [self.entry, *others]
        return ", ".join(f"{e.reference} ({self.registry.weights_digest(e)})" for e in entries)

    def cost(self, config: SearchConfig) -> Cost:
        return make_cost(config, self.space, [(lpm, card) for _, lpm, card in self.weighed])

    def finish(
        self, outcome: SearchOutcome, config: SearchConfig, data: ImageData, out: Path
    ) -> dict[str, Any]:
        return finish(
            outcome, config, self.space, self.lpm, self.card, self.entry, self.registry,
            data.name, self.where, out, self.cost(config),
            [(entry.reference, LPMCost(lpm, card.cost)) for entry, lpm, card in self.weighed],
        )  # fmt: skip


def run_one(
    task: Task, config: SearchConfig, data: ImageData, tensorboard: bool, processes: Processes
) -> SearchOutcome:
    """One search with progress and warnings, in this process or in several of torchrun's.

    Raises:
        Interrupted: by a signal; the same command goes on.
        LatkitError: as ``run_search``.
    """
    cost = task.cost(config)
    goal = (
        f"target {config.target_ms} ms"
        if config.target_ms is not None
        else f"lambda {config.lambda_per_ms} per {cost.unit}"
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
        guard = "" if config.max_skips is not None else ", or with --stop-on-collapse"
        if signs is not None and signs != warned:
            if progress is not None:
                progress.close()
            warn(
                f"epoch {row['epoch']}: the normal cell has {signs}. If that stays so, search with "
                f"a smaller lambda or fewer epochs{guard}"
            )
        warned = signs

    try:
        with stop_on_signals() as stop:
            outcome = run_search(
                config, task.space, task.lpm, task.identity(), data, task.out, task.where,
                show, judge, stop, processes, cost,
            )  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; {what_is_kept(task.out)}", "run the same command to go on"
        ) from None
    finally:
        if progress is not None:
            progress.close()
    for warning in warnings_of(outcome, config):
        warn(warning)
    return outcome


def warnings_of(outcome: SearchOutcome, config: SearchConfig) -> list[str]:
    """What nobody should miss of how a search ended."""
    warnings = []
    if outcome.collapsed:
        warnings.append(
            f"stopped: the normal cell of epoch {len(outcome.history)} has more than two skip "
            f"connections; this is the cell of epoch {outcome.epoch}"
        )
    if outcome.on_target is False:
        assert config.target_ms is not None
        side = "larger" if outcome.cost > config.target_ms else "smaller"
        fix = f"choose a {side} target, or leave out --stop-on-collapse"
        if not outcome.collapsed:
            fix = "choose another one, or more --epochs"
        told = on_target_line(config.target_ms, outcome.cost, False, None)
        warnings.append(f"{told}: {fix}")
    # Of each epoch's cell it was told before; this one α alone would not have been derived to.
    signs = signs_of_collapse(outcome.genotype.normal)
    if outcome.moved_from_ms is not None and signs is not None:
        warnings.append(f"the normal cell that meets the target has {signs}")
    return warnings


def describe_step(now: SearchProgress) -> str:
    """A step's losses for a progress line."""
    if now.val_loss is None or now.expected_cost is None:
        return f"train loss {now.train_loss:.3f}, alpha frozen"
    return f"val loss {now.val_loss:.3f}, LAT {now.expected_cost:.2f} {now.unit}"


def run_several(
    task: Task,
    searches: list[Search],
    data: ImageData,
    jobs: int | None,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """A sweep: train side by side, then measure one after the other, then print.

    Raises:
        Interrupted: by a signal; the same command goes on.
        SearchError: some searches failed; the others were reported.
        LatkitError: a result cannot be written.
    """
    cores = usable_cores()
    jobs = min(jobs or (1 if task.where == "cuda" else cores), len(searches))
    common = Common(
        task.entry.reference, tuple(entry.reference for entry, _, _ in task.weighed),
        task.identity(), task.registry.url, data, task.out, task.where,
        tensorboard, max(1, cores // jobs),
    )  # fmt: skip
    try:
        task.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"write the sweep in {task.out}", "nothing was begun") from None
    names = ", ".join(search.name for search in searches)
    note(f"{len(searches)} searches ({names}), {jobs} at a time, in {task.out}")
    first = searches[0].config
    steps = first.epochs * (len(data.labels) // 2 // first.batch)
    progress = SharedProgress("steps", [search.name for search in searches], steps)

    def show(name: str, now: SearchProgress) -> None:
        done = (now.epoch - 1) * now.steps_per_epoch + now.step
        progress.update(name, done, now.done_before, f"{name}: {describe_step(now)}")

    try:
        with stop_on_signals() as stop:
            outcomes = run_sweep(searches, common, jobs, show, progress.end, stop)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; the last checkpoints are kept", "run the same command to go on"
        ) from None
    finally:
        progress.close()
    # One after the other, and only now: nothing may disturb what is measured.
    results: list[dict[str, Any] | LatkitError] = []
    for search, outcome in zip(searches, outcomes, strict=True):
        if isinstance(outcome, LatkitError):
            warn(str(outcome))
            results.append(outcome)
            continue
        for warning in warnings_of(outcome, search.config):
            warn(f"{search.name}: {warning}")
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
