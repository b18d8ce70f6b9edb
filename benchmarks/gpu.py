"""The proof on a GPU: what works, what does not, and how fast it is, in at most nine minutes.

    make gpu
    python benchmarks/gpu.py --out DIR [--wheels DIR] [--only PART]

Each part runs in a process of its own with its own time limit; what it has reported is on disk at
once and stays, whatever happens later. DIR gets three files: ``gpu.json`` (versions, commands, raw
numbers), ``README.md`` (a page made from it) and ``log.txt`` (what the parts printed). latkit runs
from this checkout and need not be installed; ``--wheels`` names a folder of wheels that are put on
the path first, for packages that the machine lacks and cannot download.

``--device cpu --quick`` runs the logic of every part in a minute or two, with torch-cpu in place of
torch-cuda. The exit code is 1 if a part failed, and 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results"
MINUTES = 9.0
# Of the quick form, which a test runs wherever it is.
QUICK_MINUTES, QUICK_LIMIT_S = 30.0, 600.0
# Modules that latkit and the parts import; those of a single part are told by it.
NEEDED = ("click", "filelock", "fsspec", "numpy", "onnx", "PIL", "platformdirs", "pyarrow", "rich",
          "safetensors", "scipy", "sklearn", "torch", "torchvision", "pytest")  # fmt: skip
PROBE = """
import dataclasses, json, sys
from latkit.backends import BACKENDS
from latkit.core.device import suggest_device_name
backend = BACKENDS.get(sys.argv[1])
probe = backend.probe()
name = suggest_device_name(backend().hardware_name()) if probe.usable else ""
print(json.dumps({**dataclasses.asdict(probe), "device": name}))
"""
JSON, PAGE, LOG = "gpu.json", "README.md", "log.txt"


def put_wheels_on_path(folder: Path, work: Path) -> None:
    """Unpack wheels and put them first on the path, of this process and of those it starts."""
    site = work / "wheels"
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    sys.path.insert(0, str(site))
    path = filter(None, (str(site), os.environ.get("PYTHONPATH")))
    os.environ["PYTHONPATH"] = os.pathsep.join(path)


def check_packages() -> None:
    """Refuse a Python that lacks what every part needs.

    Raises:
        SystemExit: names what is missing.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"gpu.py: {sys.executable} lacks {', '.join(missing)}. Fix: install them, or give a "
              "folder of their wheels by --wheels", file=sys.stderr)  # fmt: skip
        raise SystemExit(2)


def known_parts(device: str, quick: bool) -> list[Any]:
    """The parts in their order: what matters most comes before what may take long."""
    import dataclasses

    from benchmarks.gpu_parts.part import Part

    here = "benchmarks.gpu_parts"
    suites = ["torch-cuda", "torch-cuda-graph", "torch-cuda-compile", "onnxruntime-cuda",
              "onnxruntime-tensorrt", "tensorrt", "tensorrt-graph"]  # fmt: skip
    parts = [
        Part("doctor", "doctor, fingerprint, NVML", f"{here}.machine:doctor", 45),
        Part("gpu-tests", "tests/gpu", f"{here}.suites:gpu_tests", 120, together=True),
        *(
            Part(f"suite.{name}", "conformance", f"{here}.suites:conformance", 120, (name,), True)
            for name in (suites if device == "cuda" else suites[:1])
        ),
        Part("cuda-packages", "pycuda and cuda-python, beside PyTorch",
             f"{here}.interfaces:cuda_packages", 40),
        Part("profile.batch-1", "cells at batch 1, eager and graph", f"{here}.profiles:profile",
             120, ("1",)),
        Part("captured", "search steps as CUDA graphs against plain ones",
             f"{here}.captured:captured", 60),
        Part("step.darts", "the search step of DARTS", f"{here}.steps:step", 75, ("darts",)),
        Part("profile.batch-32", "cells at batch 32, eager and graph", f"{here}.profiles:profile",
             100, ("32",)),
        Part("lpm", "LPMs of what was profiled, against MACs", f"{here}.lpms:train", 75),
        Part("search", "a search with SIGTERM and resumption", f"{here}.searches:search", 75),
        Part("networks", "the paper's networks at batch 32", f"{here}.searches:networks", 60),
        Part("protocols", "retest error of the protocols", f"{here}.profiles:protocols", 60),
        Part("nccl", "a mean over one process", f"{here}.searches:nccl", 30),
        Part("bf16", "an epoch in bf16 autocast", f"{here}.searches:bf16", 40),
        Part("energy", "energy of a run by the GPU's meter", f"{here}.profiles:energy", 40),
        Part("plug-ins", "plug-in execution providers", f"{here}.interfaces:plug_ins", 45),
        Part("step.pc-darts", "the search step of PC-DARTS", f"{here}.steps:step", 60,
             ("pc-darts",)),
        Part("step.second-order", "the second-order step of DARTS", f"{here}.steps:step", 90,
             ("second-order",)),
    ]  # fmt: skip
    if not quick:
        return parts
    # Nothing is measured, so all run side by side that need no other part's results, and a busy
    # machine may take its time.
    needs_others = ("lpm", "search")
    return [
        dataclasses.replace(part, together=part.name not in needs_others, limit_s=QUICK_LIMIT_S)
        for part in parts
    ]


def choose(parts: list[Any], only: list[str]) -> list[Any]:
    """The parts that are asked for by name or by group.

    Raises:
        SystemExit: a name is none.
    """
    names = [part.name for part in parts]
    for name in only:
        if not any(part == name or part.startswith(f"{name}.") for part in names):
            raise SystemExit(f"gpu.py: there is no part {name}; --list names them")
    return [
        part for part in parts
        if not only or part.name in only or part.name.partition(".")[0] in only
    ]  # fmt: skip


def prove(
    parts: list[Any], device: str, quick: bool, out: Path, work: Path, minutes: float
) -> dict[str, Any]:
    """Run the parts; the run as it is in ``gpu.json``, which is written after every report."""
    from benchmarks.gpu_parts.page import page
    from benchmarks.gpu_parts.runner import Runner
    from latkit import __version__
    from latkit.core.files import write_atomically, write_json_atomically

    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    run: dict[str, Any] = {
        "benchmark": "gpu",
        "format": 1,
        "command": shlex.join(["python", *sys.argv]),
        "started_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "latkit_version": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "device": device,
        "quick": quick,
        "seconds": 0.0,
        "parts": [],
    }

    def keep(entries: list[dict[str, Any]]) -> None:
        run["parts"] = entries
        run["seconds"] = round(time.monotonic() - started, 1)
        write_json_atomically(out / JSON, run)
        write_atomically(out / PAGE, lambda path: path.write_text(page(run), encoding="utf-8"))

    (out / LOG).write_bytes(b"")
    runner = Runner(device, quick, work, out / LOG, started + 60 * minutes, keep)
    runner.run(parts)
    return run


def _commit() -> str:
    """The checkout's commit, marked where files differ from it; a copy without git has none."""
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}, changed" if changed else head


def probe(name: str) -> dict[str, str]:
    """Whether a backend works here, why, the fix, and its hardware's short name.

    Asked in a process that ends: a context of this one's on the GPU would count as another's.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROBE, name], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/DATE-gpu-NAME")
    parser.add_argument("--wheels", type=Path, help="wheels to put on the path first")
    parser.add_argument("--work", type=Path, help="keep datasets, LPMs and searches there")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--quick", action="store_true", help="scaled down; its numbers mean nothing"
    )
    most = f"of all parts, at most [{MINUTES:.0f}; quick: {QUICK_MINUTES:.0f}]"
    parser.add_argument("--minutes", type=float, help=most)
    parser.add_argument("--only", action="append", default=[], metavar="PART",
                        help="a part, or a group such as suite; repeatable")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the parts and their limits")
    options = parser.parse_args()
    if options.wheels is not None and not any(options.wheels.glob("*.whl")):
        raise SystemExit(f"gpu.py: {options.wheels} holds no wheels")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="latkit-gpu-") as temporary:
        if options.wheels is not None:
            put_wheels_on_path(options.wheels, Path(temporary))
        check_packages()
        parts = choose(known_parts(options.device, options.quick), options.only)
        if options.list:
            for part in parts:
                print(f"{part.name:24} {part.limit_s:4.0f} s  {part.title}")
            return
        here = probe("torch-cuda" if options.device == "cuda" else "torch-cpu")
        if here["status"] != "ok":
            told = f"torch-cuda is {here['status']}: {here['reason']}. Fix: {here['fix']}"
            print(f"gpu.py: {told}, or --device cpu for the logic alone", file=sys.stderr)
            raise SystemExit(2)
        work = (options.work or Path(temporary, "work")).resolve()
        work.mkdir(parents=True, exist_ok=True)
        kind = "gpu" if options.device == "cuda" else "gpu-parts-on-cpu"
        default = RESULTS / f"{datetime.now():%Y-%m-%d}-{kind}-{here['device']}"
        out = (options.out or default).resolve()
        try:
            minutes = options.minutes or (QUICK_MINUTES if options.quick else MINUTES)
            run = prove(parts, options.device, options.quick, out, work, minutes)
        except KeyboardInterrupt:
            raise SystemExit(f"gpu.py: interrupted; what was reported is in {out / JSON}") from None
    from benchmarks.gpu_parts.page import table
    from benchmarks.gpu_parts.runner import ENDED

    print("\n".join(table(run["parts"])))
    print(json.dumps({"out": str(out), "seconds": run["seconds"]}))
    if any(part["verdict"] not in ENDED for part in run["parts"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
