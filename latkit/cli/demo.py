"""``latkit demo``"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import click

from latkit.cli.output import note, print_table
from latkit.errors import InputError, from_os_error

DEVICE = "demo"
MARKER = ".latkit-demo"


@click.command(name="demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("latkit-demo"),
    show_default=True,
    help="Folder for everything the demo makes; made anew each time.",
)
def command(out: Path) -> None:
    """Run the whole path live on this machine in under two minutes.

    Profile, train-lpm and search run as they always do, at a small setting: every number is
    measured here and now. The LPM goes to a registry of its own below --out.
    """
    from latkit.cli import profile, search, train_lpm
    from latkit.registry import VARIABLE

    started = time.perf_counter()
    _make_empty(out)
    dataset, registry, found = out / "dataset", out / "registry", out / "search"
    steps = [
        (
            profile.command,
            [
                "--backend",
                "torch-cpu",
                "--device",
                DEVICE,
                "--setting",
                "tiny",
                "--n",
                "300",
                "--out",
                str(dataset),
            ],
        ),
        (train_lpm.command, [str(dataset)]),
        (
            search.command,
            [
                "--device",
                DEVICE,
                "--data",
                "digits",
                "--preset",
                "cpu",
                "--cells",
                "3",
                "--epochs",
                "3",
                "--limit",
                "1024",
                "--out",
                str(found),
            ],
        ),
    ]
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(registry.resolve())
    try:
        for number, (step, arguments) in enumerate(steps, start=1):
            click.secho(
                f"\n[{number}/{len(steps)}] latkit {step.name} {' '.join(arguments)}",
                err=True,
                bold=True,
            )
            step.main(args=arguments, standalone_mode=False, prog_name=f"latkit {step.name}")
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    print_table(
        f"demo: done in {time.perf_counter() - started:.0f} s",
        ["what", "where"],
        [
            ["measurements", str(dataset)],
            ["LPM registry", f"{registry}  (LATKIT_REGISTRY={registry} makes it yours)"],
            ["search", f"{found}  (result.json, history.parquet, checkpoint.safetensors)"],
        ],
    )
    note(
        "A scaled-down run: tiny networks and a few search steps show the path, not a good "
        "architecture.\nnext: latkit doctor, then latkit profile --n 300 --out d"
    )


def _make_empty(out: Path) -> None:
    """Make the demo's folder anew, but never delete a folder the demo did not make."""
    if out.exists() and not (out / MARKER).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and was not made by the demo", "choose another --out")
    try:
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        (out / MARKER).touch()
    except OSError as error:
        raise from_os_error(error, f"make the demo's folder {out}", "nothing is lost") from None
