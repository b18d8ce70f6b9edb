"""The next network built on a second core while one is measured: what it saves, and what it harms.

The same cells are measured in turns of two kinds: *in turn*, as ``latkit profile`` does, and
*ahead*, where a thread on another core builds the next network meanwhile. It prints of each
the wall time of a network, the retest sd and the share that was disturbed, and how the latencies of
both compare. Nothing else should run. Prints JSON, progress to stderr.

    OMP_NUM_THREADS=1 python benchmarks/ahead.py > benchmarks/results/DATE-ahead.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.conditions import conditions
from latkit.backends import BACKENDS, Backend, Runner
from latkit.core.cores import process_cores
from latkit.dataset.statistics import RetestError
from latkit.profiling.protocol import PRESETS, Measurement
from latkit.profiling.session import Session
from latkit.spaces import Architecture, Setting, get_space
from latkit.tasks.choices import choose_setting

KINDS = ("in turn", "ahead")


def keep_to(core: int) -> None:
    """Keep this thread, and what it starts, to a core."""
    os.sched_setaffinity(0, {core})


def measure_in_turn(session: Session, architectures: Sequence[Architecture]) -> list[Measurement]:
    return [session.measure(architecture) for architecture in architectures]


def measure_ahead(
    session: Session, architectures: Sequence[Architecture], core: int
) -> list[Measurement]:
    def build(architecture: Architecture) -> Runner:
        return session.backend.compile(architecture, session.setting)

    done = []
    with ThreadPoolExecutor(1, initializer=keep_to, initargs=(core,)) as builder:
        building = builder.submit(build, architectures[0])
        for following in [*architectures[1:], None]:
            with building.result() as runner:
                if following is not None:
                    building = builder.submit(build, following)
                done.append(session.measure_runner(runner))
    return done


def compared(backend: Backend, setting: Setting, count: int, turns: int) -> dict[str, Any]:
    """Both kinds, each in every other turn."""
    space = get_space(setting.space)
    rows = space.unrank(space.sample(count, 0))
    architectures = [space.architecture(row, setting.network) for row in rows]
    done: dict[str, list[list[Measurement]]] = {kind: [] for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    own, other = sorted(process_cores())[:2]
    keep_to(own)
    with Session(backend, setting, PRESETS["fast"]) as session:
        for turn in range(turns):
            for kind in KINDS:
                started = time.perf_counter()
                if kind == "ahead":
                    done[kind].append(measure_ahead(session, architectures, other))
                else:
                    done[kind].append(measure_in_turn(session, architectures))
                seconds[kind].append(time.perf_counter() - started)
                print(f"{backend.name}, turn {turn}, {kind}", file=sys.stderr, flush=True)
    content: dict[str, Any] = {}
    for kind in KINDS:
        flat = [(place, m) for of_turn in done[kind] for place, m in enumerate(of_turn)]
        retest = RetestError((place, m.ratio_to_anchor) for place, m in flat)
        content[kind] = {
            "wall_ms_a_network": 1e3 * statistics.median(seconds[kind]) / count,
            "retest_sd_percent": None if retest.sd is None else 100 * retest.sd,
            "disturbed_percent": 100 * statistics.fmean(m.disturbed for _, m in flat),
        }
    ratios = {
        kind: [
            statistics.fmean(m.ratio_to_anchor for m in of_one)
            for of_one in zip(*done[kind], strict=True)
        ]
        for kind in KINDS
    }
    pairs = zip(ratios["in turn"], ratios["ahead"], strict=True)
    content["ahead_to_in_turn_median"] = statistics.median(b / a for a, b in pairs)
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["onnxruntime-cpu", "torch-cpu"])
    parser.add_argument("--architectures", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    content: dict[str, Any] = {
        **conditions("ahead"), "setting": "imagenet", "protocol": "fast",
        "architectures": arguments.architectures, "turns": arguments.turns, "backends": {},
    }  # fmt: skip
    for name in arguments.backends:
        backend_class = BACKENDS.get(name)
        with backend_class(threads=1) as backend:
            content["backends"][name] = compared(
                backend, choose_setting("imagenet", backend_class), arguments.architectures,
                arguments.turns,
            )  # fmt: skip
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
