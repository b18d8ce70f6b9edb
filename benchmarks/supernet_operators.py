"""Where the time of a search step goes, by operator and number of threads.

    python benchmarks/supernet_operators.py > benchmarks/results/DATE-supernet-operators.json

For each case, steps of our supernet (see supernet.py) are profiled on one thread and on two, in
turn. Told of each operator: calls, and milliseconds a step by itself, without the operators that
it calls. What no operator accounts for is Python, autograd's bookkeeping and the profiler (its
calls: a share of ``wall_ms`` against ``plain_wall_ms``, a step that is not profiled).

Two times give a serial and a parallel part of each operator by Amdahl's law, t(n) = s + p / n with
both at least 0; ``expected`` adds them up for more threads than there are here. It is an
expectation from two points: it knows nothing of memory bandwidth shared by more cores, nor of
regions that pay for their start later. Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.supernet import CASES, WARM_UP, stepper
from latkit.core.device import cpu_name

MORE_THREADS = (4, 8, 16)
# What no operator accounts for.
REST = "(outside operators)"


def profiled(step: Callable[[], None]) -> tuple[float, dict[str, tuple[int, float]]]:
    """Of one step: wall milliseconds; by operator its calls and milliseconds by itself."""
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        began = time.perf_counter()
        step()
        wall = 1e3 * (time.perf_counter() - began)
    assert started <= began
    found: dict[str, tuple[int, float]] = {}
    for event in profiler.key_averages():
        if event.key.startswith("aten::"):
            found[event.key.removeprefix("aten::")] = (event.count, event.self_cpu_time_total / 1e3)
    return wall, found


def look(case: tuple[Any, ...], steps: int) -> dict[str, Any]:
    """Medians over steps on one thread and on two, by operator."""
    torch.set_num_threads(1)
    step, _ = stepper("ours", case)
    plain: dict[int, list[float]] = {1: [], 2: []}
    walls: dict[int, list[float]] = {1: [], 2: []}
    taken: dict[str, dict[int, list[float]]] = defaultdict(lambda: {1: [], 2: []})
    calls: dict[str, int] = {}
    for number in range(WARM_UP + steps):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            started = time.perf_counter()
            step()
            plain_ms = 1e3 * (time.perf_counter() - started)
            wall, found = profiled(step)
            if number < WARM_UP:
                continue
            plain[threads].append(plain_ms)
            walls[threads].append(wall)
            for name, (count, ms) in found.items():
                calls[name] = count
                taken[name][threads].append(ms)
            taken[REST][threads].append(plain_ms - sum(ms for _, ms in found.values()))
    middle = {
        name: {threads: statistics.median(values or [0.0]) for threads, values in of.items()}
        for name, of in taken.items()
    }
    operators = [
        {
            "operator": name,
            "calls": calls.get(name),
            "ms": of,
            "lost_ms": of[2] - of[1] / 2,
        }
        for name, of in sorted(middle.items(), key=lambda item: -item[1][1])
    ]
    return {
        "plain_wall_ms": {threads: statistics.median(of) for threads, of in plain.items()},
        "wall_ms": {threads: statistics.median(of) for threads, of in walls.items()},
        "operators": operators,
        "expected": {
            threads: sum(by_amdahl(of[1], of[2], threads) for of in middle.values())
            for threads in (1, 2, *MORE_THREADS)
        },
    }


def by_amdahl(one: float, two: float, threads: int) -> float:
    """What takes ``one`` on one thread and ``two`` on two takes on so many."""
    serial = min(max(2 * two - one, 0.0), one)
    return serial + (one - serial) / threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)))
    arguments = parser.parse_args()
    results = []
    for case in (CASES[number] for number in arguments.cases):
        method, order, channels, cells, batch = case
        found = look(case, arguments.steps)
        results.append({"method": method, "order": order, "channels": channels, "cells": cells,
                        "batch": batch, **found})  # fmt: skip
        plain = found["plain_wall_ms"]
        print(f"{method} order {order} C{channels} L{cells} B{batch}: {plain[1]:.0f} ms on one "
              f"thread, {plain[2]:.0f} on two", file=sys.stderr, flush=True)  # fmt: skip
        for of in found["operators"][:25]:
            print(f"  {of['operator']:42} {of['calls'] or '':>6} {of['ms'][1]:8.1f} "
                  f"{of['ms'][2]:8.1f} lost {of['lost_ms']:7.1f}", file=sys.stderr)  # fmt: skip
    json.dump({"date": date.today().isoformat(), "cpu": cpu_name(), "torch": torch.__version__,
               "python": platform.python_version(), "steps": arguments.steps, "cases": results},
              sys.stdout, indent=1)  # fmt: skip
    print()


if __name__ == "__main__":
    main()
