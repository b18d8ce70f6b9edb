"""Writes into docs/hardware.md what has been run on a GPU, from the committed results alone.

    python benchmarks/hardware.py            # rewrite the table
    python benchmarks/hardware.py --check    # exit with 1 if it is not what the results give

The results are those of ``benchmarks/gpu.py``: ``benchmarks/results/*/gpu.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_parts.page import hardware, markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "hardware.md"
BEGIN = "<!-- begin: made by benchmarks/hardware.py from benchmarks/results/*/gpu.json -->"
END = "<!-- end -->"
NOT_YET = "**not yet run on a GPU**"
# What of latkit needs a GPU, and the parts of the proof that show it.
CLAIMS = (
    ("`torch-cuda`", ("suite.torch-cuda", "gpu-tests")),
    ("`torch-cuda-graph`", ("suite.torch-cuda-graph",)),
    ("`torch-cuda-compile`", ("suite.torch-cuda-compile",)),
    ("`onnxruntime-cuda`", ("suite.onnxruntime-cuda",)),
    ("`onnxruntime-tensorrt`", ("suite.onnxruntime-tensorrt",)),
    ("`tensorrt`", ("suite.tensorrt",)),
    ("`tensorrt-graph`", ("suite.tensorrt-graph",)),
    ("profiling at batch 1 and 32", ("profile.batch-1", "profile.batch-32", "protocols")),
    ("LPMs trained on that", ("lpm",)),
    ("`--energy`", ("energy",)),
    ("the paper's networks", ("networks",)),
    ("a step of the search", ("step.darts", "step.pc-darts", "step.second-order")),
    ("a search, interrupted and resumed", ("search",)),
    ("a search in bf16", ("bf16",)),
    ("NCCL (one process)", ("nccl",)),
)


def load_runs(results: Path) -> list[dict[str, Any]]:
    """Full runs on a GPU, the oldest first, each with the folder it is in."""
    runs = []
    for path in sorted(results.glob("*/gpu.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["device"] == "cuda" and not run["quick"]:
            runs.append({**run, "folder": path.parent.name})
    return sorted(runs, key=lambda run: str(run["started_at"]))


def table(runs: Iterable[dict[str, Any]]) -> list[str]:
    """A row for each claim: on what it has been run, and how that ended."""
    runs = list(runs)
    rows = [(claim, "; ".join(told(runs, parts)) or NOT_YET) for claim, parts in CLAIMS]
    return markdown(("part", "on a GPU"), rows)


def told(runs: list[dict[str, Any]], names: tuple[str, ...]) -> list[str]:
    """Of each run in which one of these parts was begun and not skipped, where and how."""
    lines = []
    for run in runs:
        parts = [part for part in run["parts"] if part["name"] in names]
        begun = [part for part in parts if part["verdict"] not in ("skipped", "not run")]
        if not begun:
            continue
        faults = [f"{part['name']} {part['verdict']}" for part in parts if part["verdict"] != "ok"]
        link = f"[{run['started_at'][:10]}](../benchmarks/results/{run['folder']}/README.md)"
        verdict = ", ".join(faults) or "ok"
        lines.append(f"{hardware(run)}, PyTorch {torch_version(run)}, {link}: {verdict}")
    return lines


def torch_version(run: dict[str, Any]) -> str:
    for part in run["parts"]:
        if "packages" in part["results"]:
            return str(part["results"]["packages"].get("torch", "unknown"))
    return "unknown"


def rewrite(text: str, runs: Iterable[dict[str, Any]]) -> str:
    """The page with its table made anew.

    Raises:
        ValueError: the page has no place for it.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the lines {BEGIN} and {END}")
    return "\n".join([before + BEGIN, "", *table(runs), "", END]) + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    made = rewrite(text, load_runs(ROOT / "benchmarks" / "results"))
    if not options.check:
        PAGE.write_text(made, encoding="utf-8")
    elif made != text:
        raise SystemExit(f"{PAGE} is not what the results give: run python benchmarks/hardware.py")


if __name__ == "__main__":
    main()
