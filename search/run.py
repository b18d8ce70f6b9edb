"""A whole search: from a request to what was found, trained, predicted and measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latkit.backends import BACKENDS
from latkit.core.device import usable_cores
from latkit.core.errors import InputError, Interrupted, LatkitError, from_os_error
from latkit.core.events import SILENT, Listener, Progress
from latkit.core.locks import sole_user
from latkit.core.quantities import LATENCY
from latkit.registry import Registry
from latkit.search.collapse import signs_of_collapse
from latkit.search.config import SearchConfig
from latkit.search.data import load_noted
from latkit.search.distributed import Processes, joined, processes_here, rank_zero_output
from latkit.search.earlier import EarlierSearch
from latkit.search.epochs import SearchOutcome, SearchProgress
from latkit.search.image_source import DataOptions, ImageData
from latkit.search.objectives import Objective, PredictedObjective
from latkit.search.oneshot import ONE_SHOT
from latkit.search.oneshot.result import OneShotResult
from latkit.search.oneshot.run import one_shot
from latkit.search.parts import check_reach, check_weight_is_given, objective_of, weighed_by
from latkit.search.report import SearchLPM, finish
from latkit.search.request import SearchRequest
from latkit.search.result import SearchResult, SweepResult
from latkit.search.session import check_fits, run_search, what_is_kept
from latkit.search.signals import stop_on_signals
from latkit.search.supernet import Supernet, get_supernet
from latkit.search.sweep import Common, Search, run_sweep, write_sweep
from latkit.search.tensorboard import check_tensorboard, tensorboard_writer
from latkit.spaces import SearchSpace, get_space
from latkit.spaces.reader import parse_row


def search(
    request: SearchRequest, *, listener: Listener = SILENT
) -> SearchResult | SweepResult | OneShotResult | None:
    """Search an architecture for a device whose LPM is published (LA-DARTS), or a sweep of them; or
    train all architectures in one network, for no device (``latkit.search.oneshot``). A search may
    begin with the weights and α of another one.

    Each epoch is checkpointed, and so is the step at which SIGINT or SIGTERM ends the search: the
    same request goes on. At the end what was found is predicted by every LPM of the registry, and
    measured if the LPM's backend and hardware are here. Under torchrun the processes train one
    supernet together, and rank 0 alone reports.

    Args:
        request: what is searched, with what, and where.
        listener: receives notes, warnings and progress.

    Returns:
        The result of a search, which is also in ``result.json``; of a sweep that of all searches,
        of which some may have failed (``SweepResult.check``); None on other ranks than 0.

    Raises:
        InputError: a value of the request cannot work, or does not fit the others, the data, or
            what architectures cost.
        SearchError: the folder holds another search or is corrupt, another process of this search
            has ended, or a loss is no longer finite.
        Interrupted: by a signal; the same request goes on.
        LatkitError: a file cannot be read or written.
        SystemExit: an interruption on other ranks than 0, which report nothing.
    """
    processes = processes_here()
    # The backend's own probe: torch alone calls a GPU available that it has no code for.
    probe = BACKENDS.get("torch-cuda").probe()
    where = "cuda" if probe.usable else "cpu"
    with joined(processes, where), rank_zero_output(processes):
        if not processes.is_main:
            listener = SILENT
        trained_on = (
            f"training the supernet on {where} (torch-cuda is {probe.status}: {probe.reason})"
        )
        if request.method == ONE_SHOT:
            return one_shot(request, where, trained_on, processes, listener)
        config, searches = request.plan()
        if request.tensorboard:
            check_tensorboard()
        task = _Task.of(request, config, where, listener)
        objective = task.objective(config)
        if not request.has_weight:
            check_weight_is_given(config, task.space, objective)
        listener.note(trained_on)
        if searches is not None:
            if processes.world > 1:
                raise InputError("a sweep starts its own processes", "start it without torchrun")
            # All of them, before any is begun.
            targets = [search.config.target_ms for search in searches]
            check_reach(targets, task.space, objective, config.max_skips)
            data = task.load(request.data, config, request.data_options)
            check_fits(config.batch, data)
            with task.sweeps_folder():
                return task.run_several(searches, data, request.jobs, request.tensorboard)
        with processes.main_first():
            data = task.load(request.data, config, request.data_options)
        outcome = task.run_one(config, data, request.tensorboard, processes)
    if not processes.is_main:
        return None
    with sole_user(task.out):  # the search's own lock ended with the training
        return task.finish(outcome, config, data, task.out)


def describe_target(
    target_ms: float, cost_ms: float, on_target: bool, unconstrained_cost: float | None
) -> str:
    """What became of a target, in a line."""
    met = "within 5 %" if on_target else "which is not within 5 %"
    line = f"target {target_ms:g} ms: the found cell is predicted at {cost_ms:.2f} ms, {met}"
    if unconstrained_cost is not None:
        line += f" (alpha's strongest cell, at {unconstrained_cost:.2f} ms, was moved away from)"
    return line


@dataclass(frozen=True)
class _Task:
    """What the searches of one request share.

    Attributes:
        space: what is searched.
        supernet: of the method.
        registry: of the LPMs.
        latency: the latency's LPM of the device that is searched for.
        weighed: the LPMs that the objective is made of.
        where: ``cpu`` or ``cuda``.
        out: folder of the search, or of the sweep.
        listener: receives notes, warnings and progress.
    """

    space: SearchSpace
    supernet: type[Supernet]
    registry: Registry
    latency: SearchLPM
    weighed: tuple[SearchLPM, ...]
    where: str
    out: Path
    listener: Listener

    @classmethod
    def of(
        cls, request: SearchRequest, config: SearchConfig, where: str, listener: Listener
    ) -> _Task:
        space, registry = get_space(request.space), Registry(request.registry)
        assert request.device is not None  # as the request's plan makes sure
        entry = registry.resolve(request.device, space.name, LATENCY)
        latency = SearchLPM(entry, *registry.load(entry))
        others = [registry.resolve(also, space.name, LATENCY) for also in request.also]
        weighed = weighed_by(config, [entry, *others], registry)
        return cls(
            space,
            get_supernet(config.method, space.name),
            registry,
            latency,
            tuple(SearchLPM(entry, *registry.load(entry)) for entry in weighed),
            where,
            request.out or Path("searches", entry.device),
            listener,
        )

    def load(self, source: str, config: SearchConfig, options: DataOptions) -> ImageData:
        """The images, with notes of what they are and what they are searched with."""
        listener = self.listener
        data = load_noted(source, config.limit, config.seed, options, listener)
        if config.start is not None:
            earlier = EarlierSearch.read(config.start.folder)
            earlier.check_data(data)
            listener.note(
                f"beginning with weights and alpha of {earlier.folder}, which was searched with "
                f"{earlier.lpm}; weights are {'frozen' if config.frozen else 'trained'}"
            )
        cards = {lpm.entry: lpm.card for lpm in (self.latency, *self.weighed)}
        lpms = ", ".join(
            f"{entry.reference} (MAPE {_percent(card.metrics['mape_percent'])})"
            for entry, card in cards.items()
        )
        height, width = data.images.shape[2:]
        listener.note(
            f"searching with LPM {lpms} on {len(data.labels)} images of {data.classes} classes, "
            f"{width}x{height} pixels, of {data.name}"
        )
        for card in cards.values():
            if "warning" in card.training:
                listener.warn(card.training["warning"])
        return data

    def identity(self) -> str:
        # The digest distinguishes a retrained LPM of the same name and number.
        entries = dict.fromkeys(lpm.entry for lpm in (self.latency, *self.weighed))
        return ", ".join(f"{e.reference} ({self.registry.weights_digest(e)})" for e in entries)

    def objective(self, config: SearchConfig) -> Objective:
        return objective_of(config, self.space, [(lpm.lpm, lpm.card) for lpm in self.weighed])

    def finish(
        self, outcome: SearchOutcome, config: SearchConfig, data: ImageData, out: Path
    ) -> SearchResult:
        devices = [
            (lpm.entry.reference, PredictedObjective(lpm.lpm, lpm.card.cost))
            for lpm in self.weighed
        ]
        return finish(
            outcome, config, self.space, self.latency, self.registry, data.name, self.where, out,
            self.objective(config), devices,
        )  # fmt: skip

    def run_one(
        self, config: SearchConfig, data: ImageData, tensorboard: bool, processes: Processes
    ) -> SearchOutcome:
        """One search, in this process or in several of torchrun's."""
        objective, listener = self.objective(config), self.listener
        goal = (
            f"target {config.target_ms} ms"
            if config.target_ms is not None
            else f"lambda {config.lambda_per_ms} per {objective.unit}"
        )
        listener.note(f"{config.method}, order {config.order}, {goal}")
        begun = False
        warned: str | None = None
        log: Callable[[dict[str, Any]], None] | None = None
        if tensorboard and processes.is_main:
            log = tensorboard_writer(self.out)

        def on_step(now: SearchProgress) -> None:
            nonlocal begun
            if not begun and now.done_before:
                listener.note(
                    f"going on after epoch {now.done_before // now.steps_per_epoch}, "
                    f"step {now.done_before % now.steps_per_epoch}, of {now.epochs} epochs"
                )
            begun = True
            total = now.epochs * now.steps_per_epoch
            progress = Progress("steps", _done(now), total, now.done_before, _describe_step(now))
            listener.progress(progress)

        def on_epoch(row: dict[str, Any]) -> None:
            nonlocal warned
            if log is not None:
                log(row)
            # The α of a warm-up is the initial one, and means nothing.
            if row["epoch"] <= config.warmup_epochs:
                return
            signs = self.signs_of_collapse(row["genotype"])
            guard = "" if config.max_skips is not None else ", or with --stop-on-collapse"
            if signs is not None and signs != warned:
                listener.warn(
                    f"epoch {row['epoch']}: {self.supernet.derived_name} has {signs}. If that "
                    f"stays so, search with a smaller lambda or fewer epochs{guard}"
                )
            warned = signs

        try:
            with stop_on_signals() as stop:
                outcome = run_search(
                    config, self.space, self.latency.lpm, self.identity(), data, self.out,
                    self.where, on_step, on_epoch, stop, processes, objective, listener.warn,
                )  # fmt: skip
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {what_is_kept(self.out)}", "run the same command to go on"
            ) from None
        finally:
            listener.end_progress()
        for warning in self.warnings_of(outcome, config):
            listener.warn(warning)
        return outcome

    @contextlib.contextmanager
    def sweeps_folder(self) -> Iterator[None]:
        """The folder of a sweep, which is this process's own; each search locks its own in it.

        Raises:
            InputError: another process runs a sweep in it.
            LatkitError: it cannot be made.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            doing = f"write the sweep in {self.out}"
            raise from_os_error(error, doing, "nothing was begun") from None
        with sole_user(self.out):
            yield

    def run_several(
        self, searches: list[Search], data: ImageData, jobs: int | None, tensorboard: bool
    ) -> SweepResult:
        """A sweep: train side by side, then measure one after the other."""
        listener, cores = self.listener, usable_cores()
        jobs = min(jobs or (1 if self.where == "cuda" else cores), len(searches))
        common = Common(
            self.space.name, self.latency.entry.reference,
            tuple(lpm.entry.reference for lpm in self.weighed), self.identity(),
            self.registry.url, data, self.out, self.where, tensorboard,
            min(torch.get_num_threads(), max(1, cores // jobs)),  # fewer where the user wants so
        )  # fmt: skip
        names = ", ".join(search.name for search in searches)
        listener.note(f"{len(searches)} searches ({names}), {jobs} at a time, in {self.out}")
        first = searches[0].config
        steps = first.epochs * (len(data.labels) // 2 // first.batch)
        progress = SweepProgress(listener, len(searches), steps)
        try:
            with stop_on_signals() as stop:
                outcomes = run_sweep(
                    searches, common, jobs, progress.update, progress.end, stop, listener.warn
                )
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; the last checkpoints are kept", "run the same command to go on"
            ) from None
        finally:
            listener.end_progress()
        # One after the other, and only now: nothing may disturb what is measured.
        results: list[SearchResult | LatkitError] = []
        for search, outcome in zip(searches, outcomes, strict=True):
            if isinstance(outcome, LatkitError):
                listener.warn(str(outcome))
                results.append(outcome)
                continue
            for warning in self.warnings_of(outcome, search.config):
                listener.warn(f"{search.name}: {warning}")
            signs = self.signs_of_collapse(str(outcome.architecture))
            if signs is not None and outcome.unconstrained_cost is None:
                listener.warn(f"{search.name}: {self.supernet.derived_name} has {signs}")
            listener.note(f"predicting and measuring what {search.name} found")
            results.append(self.finish(outcome, search.config, data, self.out / search.name))
        return write_sweep(searches, results, self.out)

    def signs_of_collapse(self, text: str) -> str | None:
        """Signs of collapse in the text of an architecture."""
        operations = self.space.operations_of(parse_row(text, self.space))
        return signs_of_collapse(self.space, operations, self.supernet.most_skips)

    def warnings_of(self, outcome: SearchOutcome, config: SearchConfig) -> list[str]:
        """What nobody should miss of how a search ended."""
        cell, warnings = self.supernet.derived_name, []
        if outcome.collapsed:
            warnings.append(
                f"stopped: {cell} of epoch {len(outcome.history)} has more than "
                f"{self.supernet.most_skips} skip connections; this is the cell of epoch "
                f"{outcome.epoch}"
            )
        if outcome.on_target is False:
            assert config.target_ms is not None
            side = "larger" if outcome.cost > config.target_ms else "smaller"
            fix = f"choose a {side} target, or leave out --stop-on-collapse"
            if not outcome.collapsed:
                fix = "choose another one, or more --epochs"
            line = describe_target(config.target_ms, outcome.cost, False, None)
            warnings.append(f"{line}: {fix}")
        # Each epoch's cell had its warning; α alone would not have been derived to this one.
        signs = self.signs_of_collapse(str(outcome.architecture))
        if outcome.unconstrained_cost is not None and signs is not None:
            warnings.append(f"{cell} that meets the target has {signs}")
        return warnings


class SweepProgress:
    """Progress of several searches of the same size, of which parts may have been done before."""

    def __init__(self, listener: Listener, searches: int, steps: int) -> None:
        self._listener, self._steps, self._total = listener, steps, searches * steps
        self._done: dict[str, int] = {}
        self._before = 0

    def update(self, name: str, now: SearchProgress) -> None:
        if name not in self._done:
            self._before += now.done_before
        self._done[name] = _done(now)
        self._listener.progress(
            Progress(
                "steps", sum(self._done.values()), self._total, self._before,
                f"{name}: {_describe_step(now)}",
            )
        )  # fmt: skip

    def end(self, name: str) -> None:
        """A search is over; the steps that it has not reported are none of this run."""
        self._before += self._steps - self._done.get(name, 0)
        self._done[name] = self._steps


def _done(now: SearchProgress) -> int:
    return (now.epoch - 1) * now.steps_per_epoch + now.step


def _describe_step(now: SearchProgress) -> str:
    if now.val_loss is None or now.expected_cost is None:
        assert now.train_loss is not None  # something is trained
        return f"train loss {now.train_loss:.3f}, alpha frozen"
    return f"val loss {now.val_loss:.3f}, LAT {now.expected_cost:.2f} {now.unit}"


def _percent(value: float | None) -> str:
    return "– %" if value is None else f"{value:.2f} %"
