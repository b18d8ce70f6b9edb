"""Where the time of a search step goes, by operator and number of threads.

    python benchmarks/supernet_operators.py > benchmarks/results/DATE-supernet-operators.json

For each case of supernet.py, steps of our supernet on one thread and on two, in turn. Told of each
operator: calls, milliseconds a step on each number of threads, and ``lost_ms``, by which two
threads miss half the time of one. What no operator accounts for is Python and autograd's
bookkeeping (to time operators takes a microsecond or two of each call, which is why it can come out
at nothing).

Two times give a serial and a parallel part of each operator by Amdahl's law, t(n) = s + p / n with
both at least 0; ``expected_ms`` adds them up for more threads than are measured. It is an
expectation from two points: it knows nothing of memory bandwidth that more cores share, nor of
larger vectors or caches. Nothing else should run. Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from benchmarks.supernet import CASES, WARM_UP, stepper

MORE_THREADS = (4, 8, 16)
# What no operator accounts for.
REST = "(outside operators)"
SHOWN = 15


class TimeCalls(TorchDispatchMode):
    """Of each operator by name: calls, and seconds in them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.seconds[func._opname] += time.perf_counter() - started
        self.calls[func._opname] += 1
        return result


def wall_ms(step: Callable[[], None]) -> float:
    """Of one step."""
    started = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - started)


def look(case: tuple[Any, ...], steps: int) -> dict[str, Any]:
    """Medians over steps on one thread and on two, by operator."""
    torch.set_num_threads(1)
    step, _ = stepper("ours", case)
    walls: dict[int, list[float]] = {1: [], 2: []}
    taken: dict[str, dict[int, list[float]]] = defaultdict(lambda: {1: [], 2: []})
    calls: dict[str, int] = {}
    for number in range(WARM_UP + steps):
        for threads in walls:
            torch.set_num_threads(threads)
            plain = wall_ms(step)
            with TimeCalls() as timed:
                step()
            if number < WARM_UP:
                continue
            calls = timed.calls
            walls[threads].append(plain)
            for name, seconds in timed.seconds.items():
                taken[name][threads].append(1e3 * seconds)
            rest = plain - 1e3 * sum(timed.seconds.values())
            taken[REST][threads].append(max(0.0, rest))
    middle = {
        name: {threads: statistics.median(values) for threads, values in of.items()}
        for name, of in taken.items()
    }
    return {
        "wall_ms": {threads: statistics.median(of) for threads, of in walls.items()},
        "operators": [
            {
                "operator": name,
                "calls": calls.get(name),
                "ms": of,
                "lost_ms": of[2] - of[1] / 2,
            }
            for name, of in sorted(middle.items(), key=lambda item: -item[1][1])
        ],
        "expected_ms": {
            threads: sum(by_amdahl(of[1], of[2], threads) for of in middle.values())
            for threads in (1, 2, *MORE_THREADS)
        },
    }


def by_amdahl(one: float, two: float, threads: int) -> float:
    """How long it takes on so many threads what takes ``one`` on one and ``two`` on two."""
    serial = min(max(2 * two - one, 0.0), one)
    return serial + (one - serial) / threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    arguments = parser.parse_args()
    results = []
    for case in (CASES[number] for number in arguments.cases):
        method, order, channels, cells, batch = case
        found = look(case, arguments.steps)
        results.append(
            {
                "method": method, "order": order, "channels": channels, "cells": cells,
                "batch": batch, **found,
            }
        )  # fmt: skip
        wall, expected = found["wall_ms"], found["expected_ms"]
        print(
            f"{method} order {order} C{channels} L{cells} B{batch}: {wall[1]:.0f} ms on one thread,"
            f" {wall[2]:.0f} on two; expected "
            + ", ".join(f"{expected[threads]:.0f} on {threads}" for threads in MORE_THREADS),
            file=sys.stderr,
        )
        for of in found["operators"][:SHOWN]:
            print(
                f"  {of['operator']:36} {of['calls'] or '':>6} {of['ms'][1]:8.1f} "
                f"{of['ms'][2]:8.1f}  lost {of['lost_ms']:7.1f}",
                file=sys.stderr,
                flush=True,
            )
    content = {
        **conditions("supernet-operators"),
        "threads": [1, 2],
        "steps": arguments.steps,
        "cases": results,
    }
    json.dump(content, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
