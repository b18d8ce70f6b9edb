"""Writes the tables of docs/hardware.md.

    python benchmarks/hardware.py            # rewrite the tables
    python benchmarks/hardware.py --check    # exit with 1 if the page's are others

What runs on which hardware is the table ``latkit.backends.hardware``, which probes and doctor read
too. What has been run on a GPU follows from the committed results of ``benchmarks/gpu.py`` alone:
``benchmarks/results/*/gpu.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import page_tables
from benchmarks.gpu_parts.page import hardware, markdown
from latkit.backends.hardware import (
    BACKEND_SUPPORT,
    BF16,
    ENERGY_COUNTER,
    FIRST_ONNXRUNTIME,
    GPU_GENERATIONS,
    TRITON,
    GpuGeneration,
    cuda_tag,
    dotted,
)

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "hardware.md"
SCRIPT = "benchmarks/hardware.py"
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
    ("CUDA by pycuda and by cuda-python", ("cuda-packages",)),
    ("a plug-in execution provider", ("plug-ins",)),
    ("profiling at batch 1 and 32", ("profile.batch-1", "profile.batch-32", "protocols")),
    ("LPMs trained on that", ("lpm",)),
    ("`--energy`", ("energy",)),
    ("the paper's networks", ("networks",)),
    ("a step of the search", ("step.darts", "step.pc-darts", "step.second-order")),
    ("a step of the search as CUDA graphs", ("captured",)),
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
    rows = [(claim, "; ".join(outcomes(runs, parts)) or NOT_YET) for claim, parts in CLAIMS]
    return markdown(("part", "on a GPU"), rows)


def outcomes(runs: list[dict[str, Any]], names: tuple[str, ...]) -> list[str]:
    """Of each run in which one of these parts was begun and not skipped: where, and its outcome."""
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


def backends_table() -> list[str]:
    """What each backend runs on and needs, and what has been run."""
    rows = []
    for name, support in BACKEND_SUPPORT.items():
        on_cpu = f"on CPUs, with {support.run_with}" if support.run_with else ""
        needs = ", ".join(
            filter(None, (f"`latkit[{support.extra}]`" if support.extra else "", support.needs))
        )
        where = f"{support.vendor} {support.hardware}"
        run = on_cpu or "by the results below alone"
        rows.append((f"`{name}`", where, needs or "latkit alone", run))
    return markdown(("backend", "hardware", "needs", "has been run"), rows)


def generations_table() -> list[str]:
    """The releases that have code for each generation of NVIDIA's GPUs."""
    columns = (
        "GPUs", "capability", "PyTorch", "onnxruntime-gpu", "TensorRT", "`torch.compile`", "bf16",
        "energy",
    )  # fmt: skip
    return markdown(columns, [_generation_row(generation) for generation in GPU_GENERATIONS])


def _generation_row(generation: GpuGeneration) -> tuple[str, ...]:
    capability, current = generation.capability, "current"
    torch = onnxruntime = tensorrt = current
    if generation.torch is not None and generation.cuda is not None:
        tag = cuda_tag(generation.cuda)
        torch = f"<= {dotted(generation.torch)}, built for CUDA {dotted(generation.cuda)} (`{tag}`)"
    if generation.onnxruntime is not None:
        onnxruntime = f"{dotted(FIRST_ONNXRUNTIME)} to {dotted(generation.onnxruntime)}"
    if generation.tensorrt_environment:
        tensorrt = f"an environment of its own: {generation.tensorrt_environment}"
    elif generation.tensorrt is not None:
        tensorrt = f"<= {dotted(generation.tensorrt)}"
    return (
        f"{generation.name} ({generation.examples})",
        dotted(capability),
        torch,
        onnxruntime,
        tensorrt,
        "yes" if capability >= TRITON else f"no: triton needs {dotted(TRITON)}",
        "yes" if capability >= BF16 else f"no: it begins with {dotted(BF16)}",
        "counter" if capability >= ENERGY_COUNTER else "polled power, integrated",
    )


def rewrite(text: str, runs: Iterable[dict[str, Any]]) -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: the page has no place for one.
    """
    tables = {
        "backends": backends_table(),
        "runs": table(runs),
        "generations": generations_table(),
    }
    return page_tables.rewrite(text, tables, SCRIPT)


def main() -> None:
    runs = load_runs(ROOT / "benchmarks" / "results")
    page_tables.main(__doc__.splitlines()[0], PAGE, lambda text: rewrite(text, runs), SCRIPT)


if __name__ == "__main__":
    main()
