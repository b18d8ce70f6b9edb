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
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# As in the environment of every command: sums of several threads may differ.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.robustness.forked import LOCKED, Ended, preload, run  # noqa: E402
from benchmarks.robustness.kill_results import Results  # noqa: E402
from benchmarks.robustness.killed_commands import Command, commands, publish_here  # noqa: E402
from benchmarks.robustness.material import environment, make  # noqa: E402

MOST_KILLS_OF_ONE = 6
# Tries to go on while processes that were started by a killed one still end.
TRIES = 40


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


if __name__ == "__main__":
    sys.exit(main())
