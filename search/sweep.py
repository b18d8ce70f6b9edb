"""Several searches that differ in λ or in the target, side by side in processes of their own.

Each has a folder and is resumable by itself. The parent only watches: it passes a wish to stop
on, and children whose parent has died stop by themselves.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from latkit import __version__
from latkit.core.errors import InputError, Interrupted, LatkitError, SearchError, from_os_error
from latkit.core.files import write_json_atomically
from latkit.registry import Registry
from latkit.search.config import SearchConfig
from latkit.search.data import ImageData
from latkit.search.epochs import SearchOutcome, SearchProgress
from latkit.search.parts import make_cost
from latkit.search.session import run_search
from latkit.search.signals import stop_on_signals
from latkit.search.tensorboard import tensorboard_writer
from latkit.spaces import get_space

SWEEP = "sweep.json"
_TOLD_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Search:
    """One search of a sweep; its folder is called by its name."""

    name: str
    config: SearchConfig


@dataclass(frozen=True)
class Common:
    """What the searches of a sweep share.

    Attributes:
        reference: the full reference of the device's LPM.
        weighed: those of the LPMs that the cost is made of.
        identity: all of these, with the digests of their weights.
        registry: URL of the LPM's registry.
        data: the images.
        out: the sweep's folder.
        device: where supernets are trained.
        tensorboard: whether each writes scalars.
        threads: of each process.
    """

    reference: str
    weighed: tuple[str, ...]
    identity: str
    registry: str
    data: ImageData
    out: Path
    device: str
    tensorboard: bool
    threads: int


def plan_sweep(config: SearchConfig, parameter: str, values: Sequence[float]) -> list[Search]:
    """The searches of a sweep over ``lambda`` (in one over the cost's unit) or ``target`` (in ms).

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
        changed.check()
        # All digits that tell values apart, and no more.
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
) -> list[SearchOutcome | LatkitError]:
    """Run the searches, or what is left of them, ``jobs`` at a time.

    Args:
        searches: of :func:`plan_sweep`.
        common: what they share.
        jobs: processes at once.
        on_step: told a search's name and progress a few times a second.
        on_end: told the name of a search that has ended.
        stop: asked whether to stop; every search then writes a checkpoint and ends.

    Returns:
        Of each search what it found, or why it failed; one that fails does not stop the others.

    Raises:
        Interrupted: ``stop`` said so; the same call goes on.
    """
    spawn = multiprocessing.get_context("spawn")
    waiting = list(searches)
    running: dict[Connection, tuple[Search, BaseProcess]] = {}
    ended: dict[str, SearchOutcome | LatkitError] = {}
    told = False
    try:
        while running or (waiting and not told):
            while waiting and len(running) < jobs and not told:
                search = waiting.pop(0)
                ours, theirs = spawn.Pipe(duplex=False)
                process = spawn.Process(target=_child, args=_arguments(theirs, search, common))
                with _signals_blocked():
                    process.start()
                theirs.close()
                running[ours] = search, process
            for connection in wait(list(running), timeout=_TOLD_EVERY_SECONDS):
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
            if stop() and not told:
                told = True
                for _, child in running.values():
                    child.terminate()
    finally:
        # Only after a second interruption are any left.
        for _, child in running.values():
            child.kill()
            child.join()
    if told:
        raise Interrupted("interrupted; every search is kept", "run the same command to go on")
    return [ended[search.name] for search in searches]


def pareto_front(rows: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, gain) pairs no other pair beats in one without losing in the other."""
    return [
        not any(
            (cost <= own_cost and gain >= own_gain) and (cost, gain) != (own_cost, own_gain)
            for cost, gain in rows
        )
        for own_cost, own_gain in rows
    ]


def write_sweep(
    searches: Sequence[Search], results: Sequence[dict[str, Any] | LatkitError], out: Path
) -> dict[str, Any]:
    """Write and return ``sweep.json``: a row a search, with its place on the Pareto front.

    Args:
        searches: of :func:`plan_sweep`.
        results: of each what its ``result.json`` holds, or why there is none.
        out: the sweep's folder.

    Raises:
        LatkitError: it cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for search, result in zip(searches, results, strict=True):
        row: dict[str, Any] = {
            "name": search.name,
            "lambda_per_ms": search.config.lambda_per_ms,
            "target_ms": search.config.target_ms,
        }
        rows.append(row)
        if isinstance(result, LatkitError):
            row["error"] = str(result)
            continue
        found = ("predicted_ms", "predicted_std_ms", "measured_ms",
                 "measured_at_profile_speed_ms", "macs", "params")  # fmt: skip
        row |= {name: result["found"][name] for name in found}
        searched_for = result["searched_for"]
        row |= {
            "cost": searched_for["found"],
            "cost_name": searched_for["name"],
            "cost_unit": searched_for["unit"],
            "on_target": searched_for["on_target"],
            "moved_from_ms": result["moved_from_ms"],
        }
        row |= {
            "val_accuracy": result["epochs"][result["genotype_epoch"] - 1]["val_accuracy"],
            "genotype": result["genotype"],
            "genotype_macs": result["found_genotype"]["macs"],
            "genotype_params": result["found_genotype"]["params"],
            "genotype_epoch": result["genotype_epoch"],
            "collapsed": result["collapsed"],
            "why_not_measured": result["measured"]["why_not"],
            "seconds": result["seconds"],
        }
    whole = [row for row in rows if "error" not in row]
    front = pareto_front([(row["cost"], row["val_accuracy"]) for row in whole])
    for row, best in zip(whole, front, strict=True):
        row["pareto"] = best
    sweep = {"searches": rows, "latkit_version": __version__}
    try:
        write_json_atomically(out / SWEEP, sweep)
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
def _signals_blocked() -> Iterator[None]:
    """A child begun here is deaf to Ctrl-C, which the parent answers, and to SIGTERM for now."""
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

        def tell(now: SearchProgress) -> None:
            nonlocal last
            if time.monotonic() - last < _TOLD_EVERY_SECONDS and now.step < now.steps_per_epoch:
                return
            last = time.monotonic()
            try:
                connection.send(now)
            except OSError:  # the parent has died
                request.requested = True

        out = common.out / search.name
        registry, space = Registry(common.registry), get_space("darts")
        try:
            on_epoch = tensorboard_writer(out) if common.tensorboard else lambda row: None
            references = (common.reference, *common.weighed)
            (lpm, _), *lpms = (registry.load(registry.resolve(r, space.name)) for r in references)
            outcome = run_search(
                search.config, space, lpm, common.identity, data, out, common.device,
                tell, on_epoch, request, cost=make_cost(search.config, space, lpms),
            )  # fmt: skip
            connection.send(outcome)
        except Interrupted:
            return
        except LatkitError as error:
            connection.send((error.cause, error.fix))
