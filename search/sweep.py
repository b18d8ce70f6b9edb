"""Several searches that differ in λ or in the target, side by side in processes of their own.

Each has a folder and is resumable by itself. The parent only watches: it passes a request to stop
on, and children whose parent has died stop by themselves.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from latkit.core.errors import InputError, Interrupted, LatkitError, SearchError, from_os_error
from latkit.core.files import write_json_atomically
from latkit.registry import Registry
from latkit.search.config import SearchConfig
from latkit.search.epochs import SearchOutcome, SearchProgress
from latkit.search.image_source import ImageData
from latkit.search.parts import objective_of
from latkit.search.result import SearchResult, SweepResult, SweepRow, pareto_front
from latkit.search.session import run_search
from latkit.search.signals import stop_on_signals
from latkit.search.tensorboard import tensorboard_writer
from latkit.spaces import get_space

SWEEP = "sweep.json"
_REPORT_EVERY_SECONDS = 0.2
# A process that has PyTorch's threads cannot be forked.
_CONTEXT: SpawnContext | ForkServerContext = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Search:
    """One search of a sweep; its folder is called by its name."""

    name: str
    config: SearchConfig


@dataclass(frozen=True)
class Common:
    """What the searches of a sweep share.

    Attributes:
        space: name of the space.
        reference: the full reference of the device's LPM.
        weighed: those of the LPMs that the objective is made of.
        identity: all of these, with the digests of their weights.
        registry: URL of the LPM's registry.
        data: the images.
        out: the sweep's folder.
        device: where supernets are trained.
        tensorboard: whether each writes scalars.
        threads: of each process.
    """

    space: str
    reference: str
    weighed: tuple[str, ...]
    identity: str
    registry: str
    data: ImageData
    out: Path
    device: str
    tensorboard: bool
    threads: int


def plan_sweep(
    config: SearchConfig, parameter: str, values: Sequence[float], space: str = "darts"
) -> list[Search]:
    """The searches of a sweep over ``lambda`` (of the unit 1/cost) or ``target`` (in ms).

    Raises:
        InputError: a value cannot work, or is there twice.
    """
    if len(set(values)) < len(values):
        raise InputError("a value of the sweep is there twice", "leave one out")
    searches = []
    for value in values:
        if parameter == "lambda":
            changed = dataclasses.replace(config, lambda_per_ms=value, target_ms=None)
        else:
            changed = dataclasses.replace(config, lambda_per_ms=None, target_ms=value)
        changed.check(space)
        # All digits that distinguish values, and no more.
        name = repr(float(value) + 0.0).removesuffix(".0")
        searches.append(Search(f"{parameter}-{name}", changed))
    return searches


def run_sweep(
    searches: Sequence[Search],
    common: Common,
    jobs: int,
    on_step: Callable[[str, SearchProgress], None],
    on_end: Callable[[str], None],
    stop: Callable[[], bool],
    warn: Callable[[str], None] = lambda line: None,
) -> list[SearchOutcome | LatkitError]:
    """Run the searches, or what is left of them, ``jobs`` at a time.

    Args:
        searches: of :func:`plan_sweep`.
        common: what they share.
        jobs: processes at once.
        on_step: called with a search's name and progress a few times a second.
        on_end: called with the name of a search that has ended.
        stop: whether to stop; every search then writes a checkpoint and ends.
        warn: receives the searches' warnings, each with its search's name.

    Returns:
        Of each search what it found, or why it failed; one that fails does not stop the others.

    Raises:
        Interrupted: ``stop`` returned true; the same call goes on.
    """
    waiting = list(searches)
    running: dict[Connection, tuple[Search, BaseProcess]] = {}
    ended: dict[str, SearchOutcome | LatkitError] = {}
    stopping = False
    try:
        while running or (waiting and not stopping):
            while waiting and len(running) < jobs and not stopping:
                search = waiting.pop(0)
                ours, theirs = _CONTEXT.Pipe(duplex=False)
                process = _CONTEXT.Process(target=_child, args=_arguments(theirs, search, common))
                with _signals_blocked(), _without_main():
                    process.start()
                theirs.close()
                running[ours] = search, process
            for connection in wait(list(running), timeout=_REPORT_EVERY_SECONDS):
                assert isinstance(connection, Connection)
                search, child = running[connection]
                try:
                    message = connection.recv()
                except EOFError:
                    child.join()
                    del running[connection]
                    if search.name not in ended:
                        ended[search.name] = _died(search, child)
                        on_end(search.name)
                    continue
                if isinstance(message, SearchProgress):
                    on_step(search.name, message)
                else:
                    ended[search.name] = message if isinstance(message, SearchOutcome) else (
                        SearchError(f"{search.name}: {message[0]}", message[1])
                    )  # fmt: skip
                    on_end(search.name)
            if stop() and not stopping:
                stopping = True
                for _, child in running.values():
                    child.terminate()
    finally:
        # Only after a second interruption are any left.
        for _, child in running.values():
            child.kill()
            child.join()
    if stopping:
        raise Interrupted("interrupted; every search is kept", "run the same command to go on")
    return [ended[search.name] for search in searches]


def write_sweep(
    searches: Sequence[Search], results: Sequence[SearchResult | LatkitError], out: Path
) -> SweepResult:
    """Write ``sweep.json``: a row a search, with its place on the Pareto front.

    Args:
        searches: of :func:`plan_sweep`.
        results: of each what it has found, or why it failed.
        out: the sweep's folder.

    Raises:
        LatkitError: it cannot be written.
    """
    rows = [
        SweepRow(search.name, search.config, result, None)
        for search, result in zip(searches, results, strict=True)
    ]
    points = [
        (row.result.searched_for.found, row.val_accuracy)
        for row in rows
        if isinstance(row.result, SearchResult)
    ]
    front = iter(pareto_front(points))
    sweep = SweepResult(
        tuple(
            dataclasses.replace(row, pareto=next(front))
            if isinstance(row.result, SearchResult)
            else row
            for row in rows
        ),
        out,
    )
    try:
        write_json_atomically(out / SWEEP, sweep.to_dict())
    except OSError as error:
        raise from_os_error(error, f"write {out / SWEEP}", "every search is kept") from None
    return sweep


def _died(search: Search, process: BaseProcess) -> SearchError:
    return SearchError(
        f"the process of {search.name} died (exit code {process.exitcode})",
        "run the same command to go on after its last checkpoint; fewer --jobs need less memory",
    )


def _arguments(connection: Connection, search: Search, common: Common) -> tuple[Any, ...]:
    # As arrays: tensors would travel through shared memory, which containers keep small.
    data = common.data
    small = dataclasses.replace(
        common, data=dataclasses.replace(data, images=torch.empty(0), labels=torch.empty(0))
    )
    return connection, search, small, data.images.numpy(), data.labels.numpy()


@contextmanager
def _without_main() -> Iterator[None]:
    """Start a process that does not run the user's script, which the new one would import."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A child begun here ignores Ctrl-C, which the parent handles, and SIGTERM for now."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started with the first child otherwise, it would unblock them.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(
    connection: Connection,
    search: Search,
    common: Common,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
) -> None:
    """One search in a process of its own; progress and outcome go through ``connection``."""
    torch.set_num_threads(common.threads)
    last = 0.0
    data = dataclasses.replace(
        common.data, images=torch.from_numpy(images), labels=torch.from_numpy(labels)
    )
    with stop_on_signals(signal.SIGTERM) as request:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

        def report(now: SearchProgress) -> None:
            nonlocal last
            if time.monotonic() - last < _REPORT_EVERY_SECONDS and now.step < now.steps_per_epoch:
                return
            last = time.monotonic()
            try:
                connection.send(now)
            except OSError:  # the parent has died
                request.requested = True

        out = common.out / search.name
        registry, space = Registry(common.registry), get_space(common.space)
        try:
            on_epoch = tensorboard_writer(out) if common.tensorboard else lambda row: None
            references = (common.reference, *common.weighed)
            (lpm, _), *lpms = (registry.load(registry.resolve(r, space.name)) for r in references)
            outcome = run_search(
                search.config, space, lpm, common.identity, data, out, common.device,
                report, on_epoch, request, objective=objective_of(search.config, space, lpms),
                warn=connection.send,
            )  # fmt: skip
            connection.send(outcome)
        except Interrupted:
            return
        except LatkitError as error:
            connection.send((error.cause, error.fix))
