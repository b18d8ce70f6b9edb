"""docs/hardware.md is what the table of hardware support and the committed results give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu import known_parts
from benchmarks.hardware import CLAIMS, NOT_YET, PAGE, ROOT, load_runs, rewrite, table


def run(device: str = "cuda", quick: bool = False, **verdicts: str) -> dict[str, Any]:
    parts = [
        {"name": name.replace("_", ".", 1).replace("_", "-"), "verdict": verdict, "results": {}}
        for name, verdict in verdicts.items()
    ]
    doctor = {"name": "doctor", "verdict": "ok", "results": {
        "hardware": "NVIDIA H100", "packages": {"torch": "2.11.0+cu130"}}}  # fmt: skip
    return {
        "device": device, "quick": quick, "started_at": "2027-01-02T03:04:05+00:00",
        "parts": [doctor, *parts],
    }  # fmt: skip


def write(results: Path, name: str, content: dict[str, Any]) -> None:
    (results / name).mkdir(parents=True)
    (results / name / "gpu.json").write_text(json.dumps(content))


def test_the_page_is_what_the_table_and_the_results_give() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rewrite(text, load_runs(ROOT / "benchmarks" / "results")) == text


def test_without_results_nothing_has_been_run(tmp_path: Path) -> None:
    assert load_runs(tmp_path) == []
    assert sum(NOT_YET in line for line in table([])) == len(CLAIMS)


def test_results_of_a_cpu_or_scaled_down_prove_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a", run(device="cpu", suite_torch_cuda="ok"))
    write(tmp_path, "b", run(quick=True, suite_torch_cuda="ok"))
    assert load_runs(tmp_path) == []


def test_what_was_run_is_said_with_how_it_ended(tmp_path: Path) -> None:
    write(tmp_path, "2027-01-02-gpu-h100", run(
        suite_torch_cuda="ok", suite_torch_cuda_graph="failed", suite_tensorrt="skipped",
        step_darts="ok", step_pc_darts="timed out", step_second_order="not run",
    ))  # fmt: skip
    rows = {line.split(" | ")[0]: line for line in table(load_runs(tmp_path))}
    eager = rows["| `torch-cuda`"]
    assert "NVIDIA H100, PyTorch 2.11.0+cu130" in eager
    assert "2027-01-02-gpu-h100/README.md" in eager
    assert eager.endswith(": ok |")
    assert "suite.torch-cuda-graph failed" in rows["| `torch-cuda-graph`"]
    assert NOT_YET in rows["| `tensorrt`"]
    assert "step.pc-darts timed out, step.second-order not run" in rows["| a step of the search"]


def test_every_claim_is_shown_by_a_part_and_every_part_shows_one() -> None:
    shown = {name for _, names in CLAIMS for name in names}
    assert shown == {part.name for part in known_parts("cuda", quick=False)} - {"doctor"}
