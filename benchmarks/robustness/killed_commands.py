"""The commands that are killed, and what they read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.robustness.checks import (
    Check,
    all_of,
    no_doubled_rows,
    same_bytes,
    same_json,
    same_keys,
    same_page,
    same_registry,
    same_results,
    same_tables,
)
from benchmarks.robustness.forked import run
from benchmarks.robustness.material import COMMANDS, DEVICE, REGISTRY, environment, out_of


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
    check: Check
    wrote: str
    repeats: bool = True


def commands() -> dict[str, Command]:
    def made(name: str, *needs: str, check: Any, repeats: bool = True) -> Command:
        out = out_of(name)
        return Command((*COMMANDS[name], "--out", out), needs, check, out, repeats)

    def search_files(folder: str) -> Check:
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
            ("train-lpm", "imported-darts"), ("imported-darts",),
            same_registry(REGISTRY, may_double=True), REGISTRY,
        ),
        "train-lpm of several": Command(
            ("train-lpm", "imported-darts", "second-darts"), ("imported-darts", "second-darts"),
            same_registry(REGISTRY), REGISTRY,
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
