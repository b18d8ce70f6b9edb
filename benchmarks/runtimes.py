"""The same cells on every CPU runtime that is here: what one says of another, and what each costs.

    python benchmarks/runtimes.py --out work > benchmarks/results/DATE-runtimes.json

Each backend profiles the same list of architectures by ``latkit profile``, whose answers are kept
in ``--out``: an interrupted run goes on. Told of each: its latencies; the standard deviation of one
measurement, from two of each; the CPU time of getting a network ready and releasing
it; and the error of an LPM of 20 of the measurements on the others. Told of each pair: the Spearman
correlation, and the ratio of the latencies and how far from it they are, beside what the measuring
error alone would give. Nothing else should run meanwhile. Prints JSON, progress to stderr.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.commands import Commands
from benchmarks.conditions import conditions
from latkit.backends import BACKENDS, probe_backend
from latkit.spaces import Setting, get_space, parse_setting

RUNTIMES = ("torch-cpu", "onnxruntime-cpu", "openvino-cpu", "litert-cpu",
            "executorch-xnnpack", "ncnn-cpu")  # fmt: skip
TRAINED_ON = 20
# A machine that others disturb leaves some architectures for the next time.
PROFILES = 3


def profiled(commands: Commands, backend: str, setting: str, n: int, seed: int) -> Any:
    """A dataset of the backend: what ``profile`` and ``train-lpm`` say of it."""
    folder = commands.folder / backend
    kept = folder.with_suffix(".json")
    if not kept.exists():
        for _ in range(PROFILES):
            dataset = commands.latkit(
                "profile", "--backend", backend, "--setting", setting, "--device", "here",
                "--n", str(n), "--visits", "2", "--seed", str(seed), "--out", str(folder),
            )  # fmt: skip
        lpm = commands.latkit(
            "train-lpm", str(folder), "--n-train", str(TRAINED_ON), "--no-publish"
        )
        kept.write_text(json.dumps({"dataset": dataset, "lpm": lpm}))
    return json.loads(kept.read_text())


def ready_ms(backend: str, setting: Setting, n: int, seed: int) -> dict[str, float]:
    """CPU and wall milliseconds of building a network and releasing it: the medians."""
    space = get_space(setting.space)
    cpu, wall = [], []
    with BACKENDS.get(backend)() as opened:
        fits = {"memory_format": opened.memory_formats[0]} if opened.memory_formats else {}
        setting = setting.replace(**fits)
        for row in space.unrank(space.sample(n, seed)):
            architecture = space.architecture(row, setting.network)
            now = time.process_time(), time.perf_counter()
            opened.compile(architecture, setting).close()
            cpu.append((time.process_time() - now[0]) * 1e3)
            wall.append((time.perf_counter() - now[1]) * 1e3)
    return {"cpu": statistics.median(cpu), "wall": statistics.median(wall)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setting", default="tiny")
    parser.add_argument("--architectures", type=int, default=100)
    parser.add_argument("--ready", type=int, default=12, help="networks that are got ready")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backends", nargs="*", default=RUNTIMES)
    arguments = parser.parse_args()
    commands = Commands(arguments.out, {"OMP_NUM_THREADS": "1"})
    setting = parse_setting(arguments.setting)
    usable = [name for name in arguments.backends if probe_backend(name).usable]
    runtimes = {}
    for name in usable:
        of = profiled(commands, name, arguments.setting, arguments.architectures, arguments.seed)
        dataset = of["dataset"]
        runtimes[name] = {
            **{key: dataset[key] for key in ("architectures", "latency_ms", "retest_sd_percent")},
            "ready_ms": ready_ms(name, setting, arguments.ready, arguments.seed),
            "lpm_of_20": of["lpm"]["metrics"],
        }
    pairs = []
    for first, second in itertools.combinations(usable, 2):
        found = commands.latkit(
            "dataset", "compare", *(str(arguments.out / name) for name in (first, second))
        )
        names = (
            "architectures", "spearman", "ratio", "deviation_percent", "expected_deviation_percent",
        )  # fmt: skip
        pairs.append({"first": first, "second": second, **{name: found[name] for name in names}})
    content = {
        **conditions("runtimes"),
        "setting": arguments.setting,
        "skipped": [name for name in arguments.backends if name not in usable],
        "runtimes": runtimes,
        "pairs": pairs,
    }
    json.dump(content, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
