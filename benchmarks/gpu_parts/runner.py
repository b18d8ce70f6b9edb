"""Runs parts in processes of their own, and keeps what they report, whatever becomes of them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.part import ROOT, Part
from latkit.core.device import usable_cores

# With less left of the whole time, a part is not begun.
LEAST_S = 5.0
ENDED = ("ok", "skipped")


class Runner:
    """Runs parts; ``on_report`` is called after each report, when ``entries`` holds it.

    Args:
        device, quick, work: see ``Context``.
        log: a file that gets what the parts print.
        deadline: of ``time.monotonic``; parts are cut short there.
        on_report: called with the lock held; must not raise.
    """

    def __init__(
        self,
        device: str,
        quick: bool,
        work: Path,
        log: Path,
        deadline: float,
        on_report: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self._task: dict[str, Any] = {"device": device, "quick": quick, "work": str(work)}
        self._log, self._deadline, self._on_report = log, deadline, on_report
        self.entries: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, parts: Sequence[Part]) -> None:
        """Run all parts in their order; neighbours that may run together do.

        An interruption kills those that run, and leaves what was reported until then.
        """
        self.entries = [_entry(part) for part in parts]
        for together, group in groupby(
            zip(parts, self.entries, strict=True), key=lambda pair: pair[0].together
        ):
            pairs = list(group)
            cores = usable_cores()
            width = min(len(pairs), cores) if together else 1
            # Alone, a part has the machine; in the quick form it may share it with anything.
            threads = cores // width if together else 1 if self._task["quick"] else None
            with ThreadPoolExecutor(width) as pool:
                try:
                    list(pool.map(functools.partial(self._run, threads), pairs))
                except BaseException:
                    # The threads end when their processes do, and begin no further ones.
                    self._deadline = 0.0
                    for process in list(self._running):
                        _kill_group(process)
                    raise

    def _run(self, threads: int | None, pair: tuple[Part, dict[str, Any]]) -> None:
        part, entry = pair
        limit_s = min(part.limit_s, self._deadline - time.monotonic())
        if limit_s < LEAST_S:
            self._report(entry, {"verdict": "not run", "reason": "no time was left"})
            return
        self._report(entry, {"verdict": "running", "limit_s": round(limit_s, 1)})
        print(f"{part.name}: {part.title} (at most {limit_s:.0f} s)", file=sys.stderr, flush=True)
        started = time.monotonic()
        end = self._process(part, entry, limit_s, threads)
        self._report(entry, {**end, "seconds": round(time.monotonic() - started, 1)})
        shown = " ".join(filter(None, (end["verdict"], end["reason"], entry["figure"])))
        print(f"{part.name}: {shown}", file=sys.stderr, flush=True)

    def _process(
        self, part: Part, entry: dict[str, Any], limit_s: float, threads: int | None
    ) -> dict[str, str]:
        """Run a part's process to its end, or kill it; how it ended."""
        work = Path(self._task["work"])
        reader, writer = os.pipe()
        task = self._task | {
            "function": part.function, "arguments": part.arguments, "limit_s": limit_s
        }  # fmt: skip
        printed = work / f"{part.name}.log"
        with printed.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu_parts.child", str(writer), json.dumps(task)],
                pass_fds=(writer,), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                cwd=ROOT, env=_environment(work, threads),
            )  # fmt: skip
        os.close(writer)
        self._running.add(process)
        ends: list[dict[str, str]] = []
        finished = self._listen(reader, entry, ends, time.monotonic() + limit_s)
        if finished:
            # It has closed its end of the pipe: it is ending, or has left a process that holds on.
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                finished = bool(ends)
        _kill_group(process)
        code = process.wait()
        self._running.discard(process)
        with self._lock, self._log.open("ab") as log:
            log.write(f"\n===== {part.name}\n".encode() + printed.read_bytes())
        if ends:
            return ends[-1]
        if not finished:
            return {"verdict": "timed out", "reason": f"killed after {limit_s:.0f} s; see the log"}
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (what a system that ran out of memory sends)" if name == "SIGKILL" else ""
            return {"verdict": "killed", "reason": f"by {name}{hint}"}
        return {"verdict": "failed", "reason": f"its process ended with {code}; see the log"}

    def _listen(
        self, reader: int, entry: dict[str, Any], ends: list[dict[str, str]], until: float
    ) -> bool:
        """Take reports until the pipe is closed or the time is over; whether it was closed."""
        with os.fdopen(reader, "rb", buffering=0) as pipe, selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            rest = b""
            while (left := until - time.monotonic()) > 0:
                if not selector.select(left):
                    continue
                chunk = pipe.read(1 << 16)
                if not chunk:
                    return True
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    report = json.loads(line)
                    if "end" in report:
                        ends.append(report["end"])
                        return True
                    self._report(entry, report)
        return False

    def _report(self, entry: dict[str, Any], report: dict[str, Any]) -> None:
        with self._lock:
            merge(entry, report)
            self._on_report(self.entries)


def merge(entry: dict[str, Any], report: dict[str, Any]) -> None:
    """Add one report to a part's entry."""
    for name, value in report.items():
        if name == "results":
            entry["results"] |= value
        elif name in ("check", "command"):
            entry[f"{name}s"].append(value)
        else:
            entry[name] = value


def _entry(part: Part) -> dict[str, Any]:
    return {
        "name": part.name, "title": part.title, "verdict": "not run", "reason": "", "figure": "",
        "seconds": 0.0, "limit_s": part.limit_s, "commands": [], "checks": [], "results": {},
    }  # fmt: skip


def _environment(work: Path, threads: int | None) -> dict[str, str]:
    """That of a part: this checkout first on the path, a registry of the run's own."""
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {
        **os.environ,
        **limits,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "LATKIT_REGISTRY": str(work / "registry"),
    }


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a part and whatever it started: it made itself the leader of a group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
