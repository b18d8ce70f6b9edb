"""Changed files of each format that latkit reads, given to the commands that read them.

Each must be read, or refused by one line (a LatkitError): never another exception, never more than
a limit of time or memory, and nothing may be written outside a box. Valid files are made by
latkit's own commands, hypothesis draws the changes and makes those small that break a rule.

    nice -n 19 python benchmarks/fuzz.py json --minutes 10 --result fuzz.json

A process of its own reads, and is started again when it dies: that is a finding too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

# Without a sign of life for so long, a process hangs in native code.
HANGS_SECONDS = 300.0
EXAMPLES = 200
# How long an input that breaks a rule is made smaller.
SMALLER_SECONDS = 20.0


def formats() -> dict[str, Any]:
    from benchmarks.robustness.images_format import ImagesFormat
    from benchmarks.robustness.json_format import JsonFormat
    from benchmarks.robustness.onnx_format import OnnxFormat
    from benchmarks.robustness.parquet_format import ParquetFormat
    from benchmarks.robustness.safetensors_format import SafetensorsFormat
    from benchmarks.robustness.tree_formats import ArchivesFormat, RegistryFormat

    classes = (JsonFormat, ParquetFormat, SafetensorsFormat, OnnxFormat, ImagesFormat,
               ArchivesFormat, RegistryFormat)  # fmt: skip
    return {cls.name: cls for cls in classes}


class Over(BaseException):
    """The time of a round is over."""


class Log:
    """What a child writes and its parent reads, a file each.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.counts = folder / "counts.json"
        self.current = folder / "current.txt"
        self.findings = folder / "findings"
        self.findings.mkdir(exist_ok=True)

    def read_counts(self) -> dict[str, int]:
        try:
            return dict(json.loads(self.counts.read_text()))
        except (OSError, ValueError):
            return {"executions": 0, "read": 0, "refused": 0, "rounds": 0, "cpu_seconds": 0}

    def known(self) -> dict[str, dict[str, Any]]:
        found = (json.loads(path.read_text()) for path in self.findings.glob("*/finding.json"))
        return {finding["kind"]: finding for finding in found}

    def keep(self, kind: str, content: dict[str, Any], box: Path | None) -> None:
        name = "".join(c if c.isalnum() else "-" for c in kind)[:100]
        folder = self.findings / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if box is not None:
            shutil.copytree(box, folder / "box", symlinks=True, dirs_exist_ok=True)
        (folder / "finding.json").write_text(json.dumps({"kind": kind, **content}, indent=1))


def child(name: str, material: Path, work: Path, seed: int, until: float) -> None:
    """Rounds of examples until the time is over."""
    import hypothesis
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis import strategies as st

    from benchmarks.robustness.mutations import Mutator
    from benchmarks.robustness.sandbox import Sandbox

    log = Log(work)
    shutil.rmtree(work / "sandbox", ignore_errors=True)
    fmt = formats()[name](material)
    sandbox = Sandbox(work / "sandbox")
    sandbox.limit_memory()
    counts = log.read_counts()
    known = set(log.known())
    cpu_before = counts["cpu_seconds"]
    # Of the round: the kind that is made smaller, its smallest example, and since when.
    smallest: dict[str, Any] = {}

    def example(data: Any) -> None:
        now = time.time()
        if now > until or (smallest and now > smallest["since"] + SMALLER_SECONDS):
            raise Over
        mutator = Mutator(data, str(sandbox.outside))
        box = sandbox.clean()
        reader = fmt.draw(mutator, box)
        log.current.write_text("\n".join(mutator.notes), encoding="utf-8", errors="replace")
        outcome = sandbox.run(reader)
        counts["executions"] += 1
        if not outcome.is_finding:
            counts[outcome.kind] += 1
            return
        if outcome.kind in known or (smallest and smallest["kind"] != outcome.kind):
            return
        size = len("".join(mutator.notes))
        if not smallest or size < smallest["size"]:
            smallest.update(kind=outcome.kind, size=size)
            smallest.setdefault("since", now)
            content = {"detail": outcome.detail, "changes": mutator.notes, "seed": seed}
            log.keep(outcome.kind, content, box)
        raise AssertionError(outcome.kind)

    while time.time() < until:
        smallest.clear()
        counts["rounds"] += 1
        run = hypothesis.seed(seed * 100_000 + counts["rounds"])(
            settings(
                max_examples=EXAMPLES, deadline=None, database=None, report_multiple_bugs=False,
                phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
                print_blob=False, verbosity=hypothesis.Verbosity.quiet,
            )(hypothesis.given(st.data())(example))
        )  # fmt: skip
        with contextlib.suppress(Over, AssertionError, hypothesis.errors.HypothesisException):
            run()
        if smallest:
            known.add(smallest["kind"])
            print(f"{name}: {smallest['kind']}", file=sys.stderr, flush=True)
        counts["cpu_seconds"] = round(cpu_before + time.process_time(), 1)
        log.counts.write_text(json.dumps(counts))


def is_stopped(pid: int) -> bool:
    """Whether somebody has sent SIGSTOP to a process."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "tT"


def parent(name: str, material: Path, work: Path, seed: int, minutes: float) -> dict[str, Any]:
    """Start processes that read, one after the other, until the time is over."""
    log = Log(work)
    started = time.time()
    until = started + 60 * minutes
    deaths = 0
    while time.time() < until:
        command = [sys.executable, __file__, name, "--child", str(material), str(work),
                   str(seed + deaths), str(until)]  # fmt: skip
        process = subprocess.Popen(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        log.current.write_text("it had not begun")
        silent, written = 0, 0.0
        while process.poll() is None:
            time.sleep(1)
            # Not by the clock: on a shared machine both processes may be stopped for minutes.
            if log.current.stat().st_mtime != written:
                silent, written = 0, log.current.stat().st_mtime
            elif not is_stopped(process.pid):
                silent += 1
            if silent > HANGS_SECONDS:
                process.send_signal(signal.SIGKILL)
                process.wait()
        if process.returncode == 0:
            break
        deaths += 1
        changes = log.current.read_text().splitlines()
        kind = f"process ended with {process.returncode}: {changes[:1]}"
        log.keep(kind, {"changes": changes, "seed": seed}, work / "sandbox" / "box")
        print(f"{name}: {kind}", file=sys.stderr, flush=True)
    counts = log.read_counts()
    return {
        "format": name,
        "minutes": round((time.time() - started) / 60, 2),
        "seed": seed,
        **counts,
        "processes_that_died": deaths,
        "findings": [
            {"kind": finding["kind"], "changes": finding["changes"]}
            for finding in log.known().values()
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("format", help="json, parquet, safetensors, onnx, images, archives, "
                                       "registry, or all")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10, help="of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--material", type=Path, help="folder of valid files, kept [temporary]")
    parser.add_argument("--keep", type=Path, help="folder of findings [temporary]")
    parser.add_argument("--result", type=Path, help="JSON to add the figures to")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        material, work, seed, until = options.child
        child(options.format, Path(material), Path(work), int(seed), float(until))
        return 0
    from benchmarks.conditions import conditions
    from benchmarks.robustness.material import make

    names = list(formats()) if options.format == "all" else [options.format]
    results = []
    with tempfile.TemporaryDirectory(prefix="latkit-fuzz-") as temporary:
        material = (options.material or Path(temporary, "material")).resolve()
        make(material)
        for name in names:
            work = (options.keep or Path(temporary)).resolve() / name
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            results.append(parent(name, material, work, options.seed, options.minutes))
            print(json.dumps(results[-1], indent=1))
    if options.result:
        kept = {"formats": []}
        if options.result.exists():
            kept = json.loads(options.result.read_text())
        others = [r for r in kept["formats"] if r["format"] not in names]
        content = {**conditions("fuzz"), "hypothesis_examples_a_round": EXAMPLES,
                   "formats": [*others, *results]}  # fmt: skip
        content["command"] = "python benchmarks/fuzz.py FORMAT --minutes M, one after the other"
        options.result.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if any(result["findings"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
