"""A step of the search, α and weights: the published supernet against ours.

    python benchmarks/supernet.py > benchmarks/results/DATE-supernet.json

For each case two processes, one for each supernet, take steps in turn on random images, on one
thread and on the numbers of ``--threads``. Told are medians over steps, after a warm-up: CPU and
wall seconds a step, their ratio (the median of the ratios of neighbouring steps), how many times
faster a step is than on one thread (``scaling``), the highest resident memory, of the process and
without what it held before its first step (Python, PyTorch and its libraries; the published one
also PyTorch's compiler, 150 MB that the classes in torch.optim load and ours do without), and calls
of operators that compute something (a proxy for launches on a GPU); and what an estimate of LAT(α)
and its gradient takes.
The textbook is tests/search/textbook.py, which tests hold ours to. Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from latkit.lpm.default import DefaultLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.search.bilevel import ORDERS, OptimizerConfig
from latkit.search.objectives import PredictedObjective
from latkit.search.penalty import FixedWeight, Penalty
from latkit.search.supernet import SUPERNETS
from latkit.spaces import get_preset, get_space
from tests.search.supernets import build_supernet
from tests.search.textbook import Textbook, TextbookSearch

RESOLUTION, CLASSES = 32, 10
WARM_UP = 2
# method, order, C, cells, batch
CASES = [
    ("darts", 1, 16, 8, 64),
    ("darts", 1, 8, 5, 32),
    ("darts", 2, 8, 5, 32),
    ("pc-darts", 1, 16, 8, 64),
    ("pc-darts", 1, 8, 5, 32),
]


class CountCalls(TorchDispatchMode):
    """Counts operators other than views."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.calls += not func.is_view
        return func(*args, **(kwargs or {}))


def penalty(space: Any) -> Penalty:
    """LAT(α) with the default LPM and estimator."""
    rows = space.unrank(space.sample(50, 0))
    x = space.encode(rows).astype("float64")
    lpm = DefaultLPM.fit(Rows(space, get_preset("imagenet"), x, 10 + x @ x[0]), Recipe())
    return Penalty(space, PredictedObjective(lpm), FixedWeight(0.1))


def stepper(which: str, case: tuple[Any, ...]) -> tuple[Callable[[], None], Callable[[], float]]:
    """A function that takes one step, and one that estimates LAT(α) and tells its CPU seconds."""
    method, order, channels, cells, batch = case
    torch.manual_seed(0)
    space: Any = get_space("darts")
    shape = (batch, 3, RESOLUTION, RESOLUTION)
    train, val = ((torch.randn(shape), torch.randint(CLASSES, (batch,))) for _ in range(2))
    if which == "textbook":
        partial = SUPERNETS.get(method).partial
        book = TextbookSearch(
            Textbook(space, channels, cells, CLASSES, partial=partial), order == 2
        )
        return lambda: book.step(train, val), lambda: 0.0
    net = build_supernet(method, space, channels, cells, CLASSES)
    term = penalty(space)
    generator = torch.Generator().manual_seed(0)
    ours = ORDERS[order](net, OptimizerConfig(), term)

    def lat() -> float:
        started = time.process_time()
        expected = term.expected(net.alpha_normal, net.edge_strength("normal"), generator)
        torch.autograd.grad(expected, net.alpha_normal)
        return time.process_time() - started

    def last(images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last)

    train, val = (last(train[0]), train[1]), (last(val[0]), val[1])
    return lambda: (ours.step(train, val, generator), None)[1], lat


def work(which: str, case: tuple[Any, ...], connection: Connection) -> None:
    """Take steps as asked, each on so many threads."""
    torch.set_num_threads(1)
    step, lat = stepper(which, case)
    before = max_rss_mb()
    while (asked := connection.recv()) != "end":
        if asked == "count":
            with CountCalls() as counter:
                step()
            connection.send(counter.calls)
        elif asked == "memory":
            connection.send(max_rss_mb())
            connection.send(before)
        elif asked == "lat":
            connection.send(statistics.median(lat() for _ in range(9)))
        else:
            torch.set_num_threads(int(asked))
            started, wall = time.process_time(), time.perf_counter()
            step()
            connection.send((time.process_time() - started, time.perf_counter() - wall))
            torch.set_num_threads(1)


def max_rss_mb() -> float:
    """Highest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(case: tuple[Any, ...], steps: int, threads: Sequence[int]) -> dict[str, Any]:
    """Both supernets in turn, on one thread and on others."""
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    processes = []
    for which in ("textbook", "ours"):
        here, there = context.Pipe()
        process = context.Process(target=work, args=(which, case, there), daemon=True)
        process.start()
        processes.append(process)
        workers[which] = here

    def ask(which: str, what: str) -> Any:
        workers[which].send(what)
        return workers[which].recv()

    taken: dict[int, dict[str, list[tuple[float, float]]]] = {
        count: {which: [] for which in workers} for count in threads
    }
    for number in range(WARM_UP + steps):
        for count, which in itertools.product(threads, workers):
            seconds = ask(which, str(count))
            if number >= WARM_UP:
                taken[count][which].append(seconds)
    # Before operators are counted: for that PyTorch loads its compiler.
    memory = {which: ask(which, "memory") for which in workers}
    before = {which: float(connection.recv()) for which, connection in workers.items()}
    calls = {which: ask(which, "count") for which in workers}
    lat = ask("ours", "lat")
    added = {which: memory[which] - before[which] for which in workers}
    for connection, process in zip(workers.values(), processes, strict=True):
        connection.send("end")
        process.join()
    by_threads = [{"threads": count, **ratios_of(taken[count])} for count in threads]
    one = by_threads[0]
    for of in by_threads:
        of["scaling"] = {w: one["wall_seconds"][w] / of["wall_seconds"][w] for w in workers}
    return {
        "by_threads": by_threads,
        "max_rss_mb": memory,
        "rss_ratio": memory["ours"] / memory["textbook"],
        "rss_added_by_steps_mb": added,
        "rss_added_by_steps_ratio": added["ours"] / added["textbook"],
        "operator_calls": calls,
        "lat_cpu_seconds": lat,
        "lat_share_percent": 100 * lat / one["cpu_seconds"]["ours"],
    }


def ratios_of(taken: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Of one number of threads: CPU and wall seconds of both, and how many times faster ours is."""
    result: dict[str, Any] = {}
    for place, clock in enumerate(("cpu", "wall")):
        seconds = {which: [of[place] for of in values] for which, values in taken.items()}
        pairs = zip(seconds["textbook"], seconds["ours"], strict=True)
        ratios = [book / ours for book, ours in pairs]
        result |= {
            f"{clock}_seconds": {w: statistics.median(values) for w, values in seconds.items()},
            f"{clock}_times_faster": statistics.median(ratios),
            f"{clock}_times_faster_range": [min(ratios), max(ratios)],
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="*", default=[2], help="beside one")
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    arguments = parser.parse_args()
    results = []
    threads = sorted({1, *arguments.threads})
    for case in (CASES[number] for number in arguments.cases):
        method, order, channels, cells, batch = case
        found = compare(case, arguments.steps, threads)
        results.append(
            {
                "method": method, "order": order, "channels": channels, "cells": cells,
                "batch": batch, "resolution": RESOLUTION, **found,
            }
        )  # fmt: skip
        print(
            f"{method} order {order} C{channels} L{cells} B{batch}: "
            + ", ".join(
                f"{of['wall_times_faster']:.2f} times faster on {of['threads']}"
                f" (scaling {of['scaling']['ours']:.2f})"
                for of in found["by_threads"]
            )
            + f", RSS {found['rss_ratio']:.2f} "
            f"(of steps alone {found['rss_added_by_steps_ratio']:.2f}), "
            f"LAT {found['lat_share_percent']:.2f} %",
            file=sys.stderr,
            flush=True,
        )
    content = {
        **conditions("supernet"),
        "threads": threads,
        "steps": arguments.steps,
        "cases": results,
    }
    json.dump(content, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
