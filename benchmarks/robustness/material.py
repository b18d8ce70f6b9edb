"""One small example of everything latkit writes, made by its own commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SETTING = "tiny,cells=3,channels=4,resolution=8"
SETTING_201 = "nasbench201,cells=3,channels=4,resolution=8"
SPACES = {"darts": SETTING, "nasbench201": SETTING_201}
DEVICE = "soak"
REGISTRY = "registry"
_CELLS = ("--cells", "3", "--channels", "2", "--batch", "16", "--epochs", "2", "--limit", "64")

# By name: the arguments of ``latkit``, but for ``--out``. Each needs those before it.
COMMANDS: dict[str, tuple[str, ...]] = {
    "profile": (
        "profile", "--backend", "torch-cpu", "--device", DEVICE, "--setting", SETTING,
        "--protocol", "fast", "--n", "120",
    ),
    "search": ("search", "--device", DEVICE, "--data", "digits", "--preset", "cpu", *_CELLS),
    "sweep": (
        "search", "--device", DEVICE, "--data", "digits", "--preset", "cpu", *_CELLS,
        "--sweep-lambda", "0,0.5", "--jobs", "1",
    ),
    "one-shot": (
        "search", "--method", "one-shot", "--space", "nasbench201", "--data", "digits",
        "--preset", "cpu", "--cells", "3", "--channels", "4", "--batch", "32", "--limit", "256",
        "--epochs", "2", "--subnets", "30", "--eval-batch", "64",
    ),
    "retarget": ("retarget", "one-shot", "--device", DEVICE, "--front", "4"),
    "train": (
        "train", "darts_v2", "--data", "digits", "--preset", "cpu-small", "--cells", "3",
        "--channels", "4", "--batch", "32", "--limit", "128", "--epochs", "2",
    ),
    "measure": (
        "measure", "darts_v2", "gdas", "--backend", "torch-cpu", "--device", DEVICE,
        "--setting", SETTING, "--protocol", "fast", "--runs", "20",
    ),
    "bundle": ("bundle", "--n", "12", "--setting", SETTING, "--protocol", "fast"),
    "export": ("export", "darts_v2", "--setting", SETTING),
}  # fmt: skip
# What --out names where it is no folder of the command's name.
FILES = {"bundle": "b.pyz", "export": "net.onnx"}


def environment(folder: Path) -> dict[str, str]:
    """Of commands that run in ``folder``: with its registry, on one thread."""
    root = str(Path(__file__).parents[2])
    return {
        **os.environ,
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": "1",
        "LATKIT_REGISTRY": str(folder / REGISTRY),
    }


def run(folder: Path, arguments: Sequence[str]) -> str:
    """Run ``latkit`` in a folder; what it prints.

    Raises:
        SystemExit: it fails.
    """
    command = [sys.executable, "-m", "latkit", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"latkit {' '.join(arguments)}: {done.stderr[-500:]}")
    return done.stdout


def out_of(name: str) -> str:
    """Where a command of :data:`COMMANDS` writes."""
    return FILES.get(name, name)


def write_table(path: Path, space_name: str, setting: str, n: int) -> None:
    """A table of latencies by formula: measured ones may all be disturbed on a busy machine."""
    from latkit.spaces import get_space, parse_setting
    from latkit.spaces.architecture import architecture_costs

    space = get_space(space_name)
    matrix = space.unrank(space.sample(n, 0))
    costs = architecture_costs(space, matrix, parse_setting(setting))
    lines = ["cell;ms"]
    lines += [
        f"{space.format(row)};{1 + c.macs / 1e6}" for row, c in zip(matrix, costs, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def make(folder: Path) -> None:
    """Make everything in a folder; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for space, setting in SPACES.items():
        name = f"imported-{space}"
        if (folder / f"lpm-of-{space}.json").exists():
            continue
        write_table(folder / f"{space}.csv", space, setting, 120)
        run(
            folder,
            ["dataset", "import", f"{space}.csv", "--space", space, "--arch-column", "cell",
             "--latency-column", "ms", "--unit", "ms", "--device", DEVICE, "--backend",
             "torch-cpu", "--setting", setting, "--out", name],
        )  # fmt: skip
        shutil.copytree(folder / name, folder / f"second-{space}")
        printed = run(folder, ["train-lpm", name, "--json"])
        (folder / f"lpm-of-{space}.json").write_text(printed)
    for name in COMMANDS:
        if not (folder / out_of(name)).exists():
            run(folder, [*COMMANDS[name], "--out", out_of(name)])
    if not (folder / "results").exists():
        bundle = [sys.executable, "b.pyz", "--out", "results"]
        subprocess.run(bundle, cwd=folder, env=environment(folder), check=True, capture_output=True)
    for table in ("table.parquet", "table.csv"):
        if not (folder / table).exists():
            run(folder, ["dataset", "export", "imported-darts", table])
