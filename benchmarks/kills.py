"""Every long command killed at random instants, and on a full disk: nothing is lost or doubled.

Each command runs undisturbed once. Then it is begun in a folder of its own, killed by SIGKILL a few
times (at a random moment, or right after one of the files it writes has changed), and the same
command is run again until it is done; what is there then is compared with the undisturbed run's:
to the byte where it follows from seeds, else by the keys of its rows. With --full, it runs on a
disk (a tmpfs, which takes root) that is full at a random moment instead: it must fail by one line,
and the same command must go on when there is space.

    nice -n 19 python benchmarks/kills.py --kills 200 --full 4 --result soak.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# As in the environment of every command: sums of several threads may differ.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.robustness.forked import LOCKED, Ended, preload, run  # noqa: E402
from benchmarks.robustness.material import (  # noqa: E402
    COMMANDS,
    DEVICE,
    REGISTRY,
    environment,
    make,
    out_of,
)

# Times and what follows from them, which two runs never have in common.
_TIMED = {"created_at", "latkit_version"}
_ENDS = re.compile("seconds$|measured")
MOST_KILLS_OF_ONE = 6
# Tries to go on while processes that were started by a killed one still end.
TRIES = 40


@dataclass(frozen=True)
class Command:
    """A command under test.

    Attributes:
        arguments: with ``--out``.
        needs: what of the material it reads.
        check: what is wrong between the undisturbed folder and the other one, a line each.
        repeats: whether the finished command may be run again; else it says that its file exists.
        wrote: file or folder it writes.
    """

    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    check: Callable[[Path, Path], list[str]]
    wrote: str
    repeats: bool = True


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(value: Any) -> Any:
    """A JSON value without times and measured numbers."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in _TIMED and not _ENDS.search(k)}
        return {k: without_times(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [without_times(child) for child in value]
    return value


def same_bytes(*names: str) -> Callable[[Path, Path], list[str]]:
    return lambda a, b: [f"{n} differs" for n in names if digest(a / n) != digest(b / n)]


def same_page(name: str) -> Callable[[Path, Path], list[str]]:
    """Of a report, which has the moment of its making in it."""

    def text(path: Path) -> str:
        return re.sub(r'datetime="[^"]*"', "", path.read_text(encoding="utf-8"))

    return lambda a, b: [f"{name} differs"] if text(a / name) != text(b / name) else []


def same_tables(*names: str) -> Callable[[Path, Path], list[str]]:
    import pyarrow.parquet as pq

    def check(a: Path, b: Path) -> list[str]:
        def rows(path: Path) -> list[dict[str, Any]]:
            return [without_times(row) for row in pq.read_table(str(path)).to_pylist()]

        return [f"{n} differs" for n in names if rows(a / n) != rows(b / n)]

    return check


def same_json(*names: str) -> Callable[[Path, Path], list[str]]:
    def content(path: Path) -> Any:
        return without_times(json.loads(path.read_text()))

    return lambda a, b: [f"{n} differs" for n in names if content(a / n) != content(b / n)]


def same_keys(name: str, whole: bool) -> Callable[[Path, Path], list[str]]:
    """Of a dataset: no row twice, and the architectures of the list in its order.

    Args:
        name: of the folder.
        whole: all rows must be the same, of datasets that are made and not measured.
    """

    def check(a: Path, b: Path) -> list[str]:
        from latkit.dataset import LatencyDataset

        first, other = (LatencyDataset.open(folder / name) for folder in (a, b))
        if whole:
            return [] if first.table.equals(other.table) else [f"{name}: other rows"]
        lists = []
        for dataset in (first, other):
            columns = (dataset.table["arch_id"].to_pylist(), dataset.table["visit"].to_pylist())
            keys = list(zip(*columns, strict=True))
            if len(set(keys)) < len(keys):
                return [f"{name}: doubled rows"]
            panel = dataset.in_panel
            pairs = zip(keys, panel, strict=True)
            lists.append([key[0] for key, in_panel in pairs if not in_panel and key[1] == 0])
        return [] if lists[0] == lists[1] else [f"{name}: other architectures, or another order"]

    return check


def no_doubled_rows(name: str) -> Callable[[Path, Path], list[str]]:
    """Of candidates: what was measured first decides which are measured next."""

    def check(a: Path, b: Path) -> list[str]:
        from latkit.dataset import LatencyDataset

        table = LatencyDataset.open(b / name).table
        keys = set(zip(table["arch_id"].to_pylist(), table["visit"].to_pylist(), strict=True))
        return [] if len(keys) == table.num_rows else [f"{name}: doubled rows"]

    return check


def same_registry(name: str) -> Callable[[Path, Path], list[str]]:
    """Every version is whole, and none but those of the undisturbed run is there.

    A publisher that is killed after it has published, and before it says so, publishes again:
    those are the same but for their numbers.
    """

    def check(a: Path, b: Path) -> list[str]:
        from latkit.registry import Registry

        digests = []
        for folder in (a, b):
            registry = Registry(str(folder / name))
            entries = registry.entries()
            for entry in entries:
                registry.load(entry)
            digests.append({(e.parent, registry.weights_digest(e)) for e in entries})
        return [] if digests[0] == digests[1] else [f"{name}: other LPMs"]

    return check


def all_of(*checks: Callable[[Path, Path], list[str]]) -> Callable[[Path, Path], list[str]]:
    return lambda a, b: [line for check in checks for line in check(a, b)]


def commands() -> dict[str, Command]:
    def made(name: str, *needs: str, check: Any, repeats: bool = True) -> Command:
        out = out_of(name)
        return Command((*COMMANDS[name], "--out", out), needs, check, out, repeats)

    def search_files(folder: str) -> Callable[[Path, Path], list[str]]:
        return all_of(
            same_bytes(f"{folder}/checkpoint.safetensors", f"{folder}/cells.txt"),
            same_tables(f"{folder}/history.parquet"),
            same_json(f"{folder}/result.json"),
        )

    table = ("dataset", "import", "darts.csv", "--space", "darts", "--arch-column", "cell",
             "--latency-column", "ms", "--unit", "ms", "--device", DEVICE, "--backend",
             "torch-cpu", "--setting", "tiny,cells=3,channels=4,resolution=8",
             "--out", "new")  # fmt: skip
    return {
        "profile": made("profile", check=same_keys("profile", False)),
        "train-lpm": Command(
            ("train-lpm", "imported-darts"), ("imported-darts",), same_registry(REGISTRY), REGISTRY
        ),
        "search": made("search", REGISTRY, check=search_files("search")),
        "search --method one-shot": made(
            "one-shot",
            check=all_of(
                same_bytes("one-shot/checkpoint.safetensors", "one-shot/lpm/weights.safetensors"),
                same_tables("one-shot/history.parquet", "one-shot/subnets.parquet"),
                same_json("one-shot/result.json"),
            ),
        ),
        "search --sweep-lambda": made(
            "sweep", REGISTRY,
            check=all_of(search_files("sweep/lambda-0"), search_files("sweep/lambda-0.5"),
                         same_json("sweep/sweep.json")),
        ),
        "retarget --measure": Command(
            ("retarget", "one-shot", "--device", "here", "--front", "4", "--measure", "3",
             "--out", "retarget"),
            ("one-shot", REGISTRY),
            no_doubled_rows("retarget/measured/here/torch-cpu"), "retarget",
        ),
        "train": made(
            "train",
            check=all_of(
                same_bytes(*(f"train/seed-0/{name}.safetensors"
                             for name in ("checkpoint", "last", "best"))),
                same_tables("train/seed-0/history.parquet"),
                same_json("train/training.json"),
            ),
        ),
        "measure": made("measure", check=same_keys("measure", False)),
        "report": Command(
            ("report", "search", "one-shot", "train", "imported-darts", "--out", "page.html"),
            ("search", "one-shot", "train", "imported-darts", REGISTRY),
            same_page("page.html"), "page.html",
        ),
        "bundle": made("bundle", check=same_bytes("b.pyz"), repeats=False),
        "a bundle": Command(
            ("b.pyz", "--out", "results"), ("b.pyz",), same_results, "results"
        ),
        "dataset import": Command(
            table, ("darts.csv",), same_keys("new", True), "new", repeats=False
        ),
        "dataset merge": Command(
            ("dataset", "merge", "imported-darts", "second-darts", "--out", "new"),
            ("imported-darts", "second-darts"),
            same_keys("new", True), "new", repeats=False,
        ),
        "registry push": Command(
            ("registry", "push", "other"), (REGISTRY,), same_registry("other"), "other"
        ),
        "registry pull": Command(
            ("registry", "pull", REGISTRY, "--registry", "other"), (REGISTRY,),
            same_registry("other"), "other",
        ),
        "export": made("export", check=same_bytes("net.onnx"), repeats=False),
    }  # fmt: skip


def same_results(a: Path, b: Path) -> list[str]:
    """Of a bundle's results; the panel is measured again by each run."""

    def keys(folder: Path) -> list[tuple[int, int]]:
        lines = (folder / "results" / "journal.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [(row["arch_id"], row["visit"]) for row in rows if "panel" not in row["flags"]]

    first, other = keys(a), keys(b)
    if len(set(other)) < len(other):
        return ["results: doubled rows"]
    listed = [[key for key in found if key[1] == 0] for found in (first, other)]
    return [] if listed[0] == listed[1] else ["results: other architectures"]


def prepare(material: Path, folder: Path, command: Command) -> Path:
    """A folder of its own, with what the command needs."""
    folder.mkdir(parents=True)
    for name in command.needs:
        source = material / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(".lock"))
        else:
            shutil.copy2(source, folder / name)
    return folder


def state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What is below a path now; changes of it are what a killer waits for."""
    found = []
    for root, _, files in os.walk(path.parent):
        for name in files:
            try:
                stat = os.stat(os.path.join(root, name))
            except FileNotFoundError:
                continue
            found.append((os.path.join(root, name), stat.st_size, stat.st_ino))
    return tuple(sorted(found))


class Killer:
    """Decides when a process is killed.

    Args:
        rng: of the instants.
        path: what the command writes.
        seconds: that it takes undisturbed.
        changes: of files, that it makes undisturbed.
    """

    def __init__(self, rng: random.Random, path: Path, seconds: float, changes: int) -> None:
        self._path = path
        self.at = rng.uniform(0.02, 1.05 * seconds)
        self.after = rng.randint(1, max(1, changes)) if rng.random() < 0.6 else None
        self._before = state(path)
        self._left = self.after or 0

    def __call__(self, seconds: float) -> bool:
        if self.after is None:
            return seconds > self.at
        now = state(self._path)
        if now != self._before:
            self._before = now
            self._left -= 1
        return self._left <= 0


def undisturbed(command: Command, folder: Path) -> tuple[Ended, int]:
    """The command in one go, and how often what it writes was seen to change."""
    changes = 0
    before = state(folder / command.wrote)

    def watch(seconds: float) -> bool:
        nonlocal before, changes
        now = state(folder / command.wrote)
        changes += now != before
        before = now
        return False

    ended = run(command.arguments, folder, environment(folder), watch)
    return ended, changes


def finish(command: Command, folder: Path) -> Ended:
    """Run the same command until it is done."""
    for _ in range(TRIES):
        ended = run(command.arguments, folder, environment(folder))
        if ended.code == 0 or not any(text in ended.last_line for text in LOCKED):
            break
        time.sleep(0.5)
    if ended.code != 0 and not command.repeats and "exist" in ended.last_line:
        return Ended(0, "", ended.seconds)
    return ended


def left_behind(folder: Path) -> list[str]:
    """Temporary files after a command that was done."""
    # A version that a killed publisher has begun keeps its number, and is none.
    found = (
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if not (path.with_name(".claim").exists() and not path.with_name("lpm.json").exists())
        # An empty folder may be left of a file that was moved to its place just before.
        and not (path.is_dir() and not any(path.iterdir()))
    )
    known = (".lock", ".claim")
    # A registry's trial of whether it can be written has a name of its own each time; nothing reads
    # it, and what a killed one leaves is removed by a later one.
    return [
        f"left behind: {name}"
        for name in found
        if not name.endswith(known) and ".writable-" not in name
    ]


def soak(
    name: str, command: Command, material: Path, work: Path, kills: int, rng: random.Random
) -> dict[str, Any]:
    """One command, killed so many times."""
    whole = prepare(material, work / "whole", command)
    ended, changes = undisturbed(command, whole)
    result: dict[str, Any] = {"command": name, "seconds": round(ended.seconds, 2),
                              "changes_of_files": changes, "kills": 0, "sequences": 0,
                              "ended_before_the_kill": 0, "findings": []}  # fmt: skip
    if ended.code != 0:
        raise SystemExit(f"{name}: {ended.errors[-500:]}")
    while result["kills"] < kills:
        folder = prepare(material, work / f"pieces-{result['sequences']}", command)
        result["sequences"] += 1
        told = []
        for _ in range(min(rng.randint(1, MOST_KILLS_OF_ONE), kills - result["kills"])):
            killer = Killer(rng, folder / command.wrote, ended.seconds, changes)
            # Of a sweep either all processes die, or only the one that watches the others.
            life = run(command.arguments, folder, environment(folder), killer, rng.random() < 0.7)
            if life.code == -9:
                result["kills"] += 1
                how = f"{life.seconds:.2f} s" if killer.after is None else f"file {killer.after}"
                told.append(how)
            elif life.code == 0:
                result["ended_before_the_kill"] += 1
                break
            elif not any(text in life.last_line for text in (*LOCKED, "exist")):
                result["findings"].append({"kills": told, "error": life.errors[-600:]})
                break
        done = finish(command, folder)
        try:
            wrong = [done.errors[-600:]] if done.code else command.check(whole, folder)
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        wrong += left_behind(folder)
        if wrong:
            result["findings"].append({"kills": told, "wrong": wrong})
            print(f"{name}: {told}: {wrong}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(folder)
    return result


@contextmanager
def small_disk(folder: Path, nbytes: int) -> Iterator[None]:
    """A file system in memory of so many bytes, on a folder."""
    size = ["-o", f"size={nbytes}", "tmpfs", str(folder)]
    subprocess.run(["mount", "-t", "tmpfs", *size], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full(
    name: str, command: Command, material: Path, work: Path, times: int, rng: random.Random
) -> dict[str, Any]:
    """One command on disks that are full at random moments."""
    whole = prepare(material, work / "whole", command)
    undisturbed(command, whole)
    needs = size_of(whole) - size_of(prepare(material, work / "needs", command))
    shutil.rmtree(work / "needs")
    result: dict[str, Any] = {"command": name, "writes_bytes": needs, "disks": 0, "full": 0,
                              "findings": []}  # fmt: skip
    for number in range(times):
        disk = work / f"disk-{number}"
        disk.mkdir()
        with small_disk(disk, 2**30):
            folder = prepare(material, disk / "w", command)
            size = size_of(disk) + 4096 + rng.randint(0, max(4096, needs))
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            life = run(command.arguments, folder, environment(folder))
            result["disks"] += 1
            result["full"] += life.code != 0
            wrong = [] if life.is_one_line else [f"no line: {life.errors[-600:]}"]
            if life.code and "space" not in life.errors:  # of a sweep in a warning
                wrong.append(f"no cause: {life.last_line}")
            subprocess.run(["mount", "-o", f"remount,size={2**30}", str(disk)], check=True)
            done = finish(command, folder)
            try:
                wrong += [done.errors[-600:]] if done.code else command.check(whole, folder)
            except Exception as error:
                wrong.append(f"{type(error).__name__}: {error}")
            wrong += left_behind(folder)
        if wrong:
            result["findings"].append({"bytes": size, "wrong": wrong})
            print(f"{name} on {size} bytes: {wrong}", file=sys.stderr, flush=True)
    return result


def size_of(folder: Path) -> int:
    """Bytes on a disk, which has pages."""
    sizes = (path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return sum(-(-size // 4096) * 4096 for size in sizes)


def publish_here(material: Path) -> None:
    """An LPM of ``here``, of this machine, by formula: measured rows may all be disturbed."""
    from latkit.backends.base import fingerprint
    from latkit.backends.torch_cpu import TorchCpuBackend
    from latkit.dataset import LatencyDataset, Manifest, Target
    from latkit.dataset.writer import DatasetWriter
    from latkit.profiling.protocol import PRESETS
    from latkit.registry import Registry

    if any(entry.device == "here" for entry in Registry(str(material / REGISTRY)).entries()):
        return
    source = LatencyDataset.open(material / "imported-nasbench201")
    target = Target("nasbench201", "here", "torch-cpu", source.manifest.target.setting)
    with TorchCpuBackend() as backend:
        facts = dict(fingerprint(backend))
    protocol = PRESETS["fast"].to_dict()
    manifest = Manifest(target, facts, protocol, 0, "made", source.table.num_rows)
    with DatasetWriter(material / "here", manifest) as writer:
        for row in source.table.to_pylist():
            ms = row["latency_ms"]
            made = {"latency_std_ms": 0.0, "ratio_to_anchor": ms / 10, "samples_ms": [ms] * 2,
                    "anchor_samples_ms": [10.0, 10.0], "clock": "cpu", "wall_ms": ms,
                    "measured_at": 1_700_000_000_000_000, "flags": []}  # fmt: skip
            writer.append({**row, **made})
    done = run(("train-lpm", "here"), material, environment(material))
    if done.code:
        raise SystemExit(done.errors[-500:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="over all commands")
    parser.add_argument("--full", type=int, default=0, help="full disks of each command")
    parser.add_argument("--only", action="append", help="a command's name, several times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--material", type=Path, help="folder of valid files, kept [temporary]")
    parser.add_argument("--result", type=Path, help="JSON of the figures")
    options = parser.parse_args()
    from benchmarks.conditions import conditions

    preload()
    started = time.monotonic()
    found = commands()
    names = options.only or list(found)
    results = Results(options.result, {**conditions("kills"), "seed": options.seed})
    with tempfile.TemporaryDirectory(prefix="latkit-kills-") as temporary:
        material = (options.material or Path(temporary, "material")).resolve()
        make(material)
        publish_here(material)
        share, rest = divmod(options.kills, len(names))
        for number, name in enumerate(names):
            rng = random.Random(f"{options.seed} {name}")
            work = Path(temporary, f"{number}")
            if count := share + (number < rest):
                done = soak(name, found[name], material, work / "kills", count, rng)
                results.add("commands", done)
            if options.full:
                done = full(name, found[name], material, work / "full", options.full, rng)
                results.add("full_disks", done)
            shutil.rmtree(work, ignore_errors=True)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return 1 if results.has_findings else 0


class Results:
    """The figures, written after each command; those of other commands in the file stay.

    Args:
        path: of the file; None: they are only printed.
        head: what they have in common.
    """

    def __init__(self, path: Path | None, head: dict[str, Any]) -> None:
        self._path = path
        self._content: dict[str, Any] = {**head, "kills": 0, "commands": [], "full_disks": []}
        if path is not None and path.exists():
            earlier = json.loads(path.read_text())
            self._content |= {name: earlier[name] for name in ("commands", "full_disks")}
        self.has_findings = False

    def add(self, kind: str, result: dict[str, Any]) -> None:
        """Add those of one command."""
        print(json.dumps(result), file=sys.stderr, flush=True)
        self.has_findings |= bool(result["findings"])
        others = [r for r in self._content[kind] if r["command"] != result["command"]]
        self._content[kind] = [*others, result]
        self._content["kills"] = sum(r["kills"] for r in self._content["commands"])
        if self._path is not None:
            self._path.write_text(json.dumps(self._content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
