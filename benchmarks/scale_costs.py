"""What steps of latkit take as data grows, each measured in a process of its own, for ``scale.py``.

    python benchmarks/scale_costs.py driver 3000 work

prints a JSON object: seconds of CPU, peak memory, bytes. Datasets are **simulated**: rows that no
device has made, of latencies by a formula, in the format and through the code of real ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.lpm import simulated_ms
from benchmarks.scale_fleet import SimulatedKind, SimulatedPool
from latkit.core.events import Listener, Progress
from latkit.dataset import LatencyDataset, Manifest, Target
from latkit.dataset.check import check_dataset
from latkit.dataset.merge import merge_datasets
from latkit.dataset.writer import write_dataset
from latkit.lpm.recipe import Recipe
from latkit.lpm.store import lpm_files
from latkit.lpm.training import train_lpm
from latkit.profiling.fleet.driver import Fleet, FleetPlan
from latkit.profiling.fleet.merging import merge_workers
from latkit.profiling.protocol import PRESETS
from latkit.registry import Registry, TrainRequest, train_and_publish
from latkit.spaces import get_preset, get_space
from latkit.spaces.architecture import architecture_costs

WORKERS, MANY_WORKERS = 16, 256
# Of the other devices whose LPMs help that of a new one.
SOURCES = 10
PER_DEVICE = 50
Result = dict[str, Any]
KIND = SimulatedKind(WORKERS, (0.15, 0.2, 0.25), start_seconds=5.0, disturbed=0.05)


def simulated_latencies(ids: Any, seed: int = 0) -> Any:
    """Latencies of a device by a formula, in ms; each seed is a device of other speeds."""
    space = get_space("darts")
    matrix = space.unrank(ids)
    one, other = simulated_ms(space, matrix, True), simulated_ms(space, matrix, False)
    share, scale = np.random.default_rng(seed).uniform((0, 0.3), (1, 3))
    return scale * (share * one + (1 - share) * other)


@contextmanager
def counted(result: Result, name: str) -> Iterator[None]:
    """Add CPU seconds of a block, and the peak memory of the process by its end.

    Not wall seconds, which on a shared machine are others' too.
    """
    cpu = time.process_time()
    yield
    result[f"{name}_cpu_seconds"] = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result["peak_mb"] = max(peak, result.get("peak_mb", 0.0))


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def target(device: str) -> Target:
    return Target("darts", device, "torch-cpu", get_preset("imagenet"))


class Watch(Listener):
    """Records the process's memory at the last measurement, and once the rows of the journals."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.resident_mb = 0.0
        self.journal: list[int] = []

    def progress(self, now: Progress) -> None:
        if now.done == 500:
            paths = self._folder.glob("*/journal.jsonl")
            self.journal = [len(line) + 1 for p in paths for line in p.read_bytes().splitlines()]

    def end_progress(self) -> None:
        self.resident_mb = resident_mb()


def driver(n: int, work: Path, workers: int = WORKERS) -> Result:
    """latkit's driver of a fleet, whose workers are simulated: all that it does but Ray."""
    latencies: dict[int, float] = {}

    def latency_ms(arch_id: int) -> float:
        if arch_id not in latencies:
            ids = np.array([arch_id])
            latencies[arch_id] = float(simulated_latencies(ids)[0])
        return latencies[arch_id]

    # By a table, so that what is counted is the driver's.
    ids = get_space("darts").sample(n, 0)
    latencies.update(zip(ids.tolist(), simulated_latencies(ids).tolist(), strict=True))
    pool = SimulatedPool(dataclasses.replace(KIND, workers=workers), 0, latency_ms)
    out = work / (f"fleet-{n}" if workers == WORKERS else f"wide-{n}")
    plan = FleetPlan(target("simulated"), PRESETS["fast"], n, 0, out)
    watch = Watch(plan.folder)
    before_mb, before = resident_mb(), time.process_time()
    Fleet(plan, pool, workers, watch).run()
    both_seconds = time.process_time() - before
    result: Result = {"rows": pool.measured, "simulated_seconds": pool.now}
    result["memory_mb"] = watch.resident_mb - before_mb
    result["before_mb"] = before_mb
    with counted(result, "merge"):
        merge_workers(plan.folder, out)
    result["measuring_cpu_seconds"] = both_seconds - result["merge_cpu_seconds"]
    dataset = LatencyDataset.open(out)
    assert dataset.table.num_rows == pool.measured
    result["bytes"], result["workers_bytes"] = bytes_of(out), bytes_of(plan.folder)
    result["journal_bytes_a_row"] = sum(watch.journal) / len(watch.journal)
    pool.give("worker", int(ids[0]))
    result["message_bytes"] = len(pickle.dumps(pool.next()))
    return result


def wide(n: int, work: Path) -> Result:
    """:func:`driver` with many workers."""
    return driver(n, work, MANY_WORKERS)


def check(n: int, work: Path) -> Result:
    """``latkit dataset check``."""
    result: Result = {}
    with counted(result, "check"):
        checked = check_dataset(LatencyDataset.open(work / f"fleet-{n}"))
    return {**result, "rows": checked.summary.rows, "verdict": checked.verdict}


def train(n: int, work: Path) -> Result:
    """The fit of ``latkit train-lpm``, with its metrics."""
    result: Result = {}
    dataset = LatencyDataset.open(work / f"fleet-{n}")
    with counted(result, "train"):
        trained = train_lpm(dataset, Recipe())
    metrics = trained.card.metrics
    files = lpm_files(trained.lpm, trained.card)
    return {
        **result,
        "rows": metrics["n_train"],
        "mape_percent": metrics["mape_percent"],
        "bytes": sum(map(len, files.values())),
    }


def simulated_dataset(folder: Path, device: str, seed: int, n: int = PER_DEVICE) -> None:
    """A dataset of a device as a table: cells of the list, with 2 % of noise."""
    space = get_space("darts")
    ids = space.sample(n, 0)
    matrix = space.unrank(ids)
    noise = np.random.default_rng(seed).normal(0, 0.02, n)
    costs = architecture_costs(space, matrix, get_preset("imagenet"))
    facts, origin = {"cpu": "none: simulated"}, {"simulated": device}
    manifest = Manifest(target(device), facts, {}, 0, None, n, origin=origin)
    columns = {
        "arch_id": ids,
        "arch": [space.format(row) for row in matrix],
        "latency_ms": simulated_latencies(ids, seed) * np.exp(noise),
        "visit": np.zeros(n, np.int32),
        "flags": [[] for _ in range(n)],
        "macs": [cost.macs for cost in costs],
        "params": [cost.params for cost in costs],
    }
    table = pa.Table.from_pydict(columns, schema=manifest.schema)
    write_dataset(folder, manifest, table)


def many(n: int, work: Path) -> Result:
    """``latkit dataset merge`` of many small datasets of one target."""
    folders = []
    for seed in range(n):
        folders.append(work / f"small-{seed}")
        if not folders[-1].exists():
            simulated_dataset(folders[-1], "simulated", seed)
    result: Result = {}
    with counted(result, "open"):
        datasets = [LatencyDataset.open(folder) for folder in folders]
    with counted(result, "merge"):
        merged = merge_datasets(datasets, work / f"merged-{n}")
    return {**result, "datasets": n, "rows": merged.table.num_rows}


def devices(n: int, work: Path) -> Result:
    """A registry of many devices, and what one more costs there.

    The first ``SOURCES`` devices have LPMs of their own; the others are copies of one of these
    under other names.
    """
    registry = Registry(str(work / f"registry-{n}"))
    for seed in range(SOURCES):
        folder = work / f"device-{seed}"
        if not folder.exists():
            simulated_dataset(folder, folder.name, seed)
        trained = train_and_publish(TrainRequest(folder, registry=registry.url))
    for number in range(SOURCES, n - 1):
        card = dataclasses.replace(trained.card, target=target(f"device-{number}"))
        registry.publish(trained.lpm, card)
    result: Result = {"devices": n, "alone_bytes": bytes_of(Path(str(trained.location)))}
    simulated_dataset(work / f"new-{n}", "device-new", n)
    sources = [f"device-{seed}" for seed in range(SOURCES)]
    request = TrainRequest(work / f"new-{n}", from_devices=sources, registry=registry.url)
    with counted(result, "train"):
        made = train_and_publish(request)
    assert made.entry is not None
    result["transfer_bytes"] = bytes_of(Path(str(made.location)))
    result["mape_percent"] = made.card.metrics["mape_percent"]
    with counted(result, "find"):
        registry.resolve("device-0", "darts")
    with counted(result, "list"):
        cards = [registry.card(entry) for entry in registry.entries()]
    assert len(cards) == n
    return result


def commands(n: int, work: Path) -> Result:
    """The two commands that a board's measurements take where latkit is, as processes.

    Args:
        n: architectures in the table.
        work: a folder that has ``registry-N`` of :func:`devices`.
    """
    space = get_space("darts")
    ids = space.sample(n, 0)
    lines = [f"{i},{ms}" for i, ms in zip(ids.tolist(), simulated_latencies(ids, 7), strict=True)]
    (work / "table.csv").write_text("\n".join(["arch,ms", *lines]))
    (registry, *_) = sorted(work.glob("registry-*"))
    result: Result = {}
    out = work / "imported"
    result["import_cpu_seconds"] = _command_seconds(
        "dataset", "import", work / "table.csv", "--arch-column", "arch", "--latency-column", "ms",
        "--unit", "ms", "--device", "of-a-table", "--backend", "torch-cpu", "--setting", "imagenet",
        "--out", out,
    )  # fmt: skip
    sources = [word for k in range(SOURCES) for word in ("--from-device", f"device-{k}")]
    os.environ["LATKIT_REGISTRY"] = str(registry)
    result["train_cpu_seconds"] = _command_seconds("train-lpm", out, *sources)
    return result


def _command_seconds(*arguments: object) -> float:
    """CPU seconds of a command of latkit."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "latkit", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bundle(n: int, work: Path) -> Result:
    """``latkit bundle``: the file that a board gets."""
    path = work / f"bundle-{n}.pyz"
    seconds = _command_seconds("bundle", "--n", n, "--setting", "imagenet", "--out", path)
    return {"bundle_cpu_seconds": seconds, "networks": n, "bytes": path.stat().st_size}


def ray(n: int, work: Path) -> Result:
    """What Ray takes of the driver's process for a measurement, by workers that measure nothing."""
    import ray as library

    class Idle:
        def measure(self, arch_id: int) -> bytes:
            return message

    message = b"x" * 500
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    library.init(address="local", include_dashboard=False, logging_level="ERROR", num_cpus=1)
    try:
        actors = [library.remote(Idle).options(num_cpus=0).remote() for _ in range(n)]
        library.get([actor.measure.remote(0) for actor in actors])
        calls, result = 3000, {"workers": n}
        waiting = {actor.measure.remote(0): actor for actor in actors}
        with counted(result, "calls"):
            for _ in range(calls):
                (reference, *_), _ = library.wait(list(waiting), num_returns=1)
                actor = waiting.pop(reference)
                library.get(reference)
                waiting[actor.measure.remote(0)] = actor
        result["driver_cpu_ms_a_call"] = 1000 * result["calls_cpu_seconds"] / calls
        return result
    finally:
        library.shutdown()


_PARTS = (driver, wide, check, train, many, devices, commands, bundle, ray)
PARTS: dict[str, Callable[[int, Path], Result]] = {part.__name__: part for part in _PARTS}


def measure(part: str, n: int, work: Path) -> Result:
    """A part in a process of its own, on one thread; once: what is in ``work`` is not repeated."""
    kept = work / f"{part}-{n}.json"
    if not kept.exists():
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, part, str(n), str(work)]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        kept.write_text(done.splitlines()[-1], encoding="utf-8")
    result: Result = json.loads(kept.read_text(encoding="utf-8"))
    result = {name: value for name, value in result.items() if "_wall_seconds" not in name}
    print(part, n, json.dumps(result), file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))))
