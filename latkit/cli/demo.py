"""``latkit demo``"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from latkit.cli.output import UserPath, heading, json_option, note, print_json, print_table
from latkit.core.errors import InputError, LatkitError, from_os_error
from latkit.core.locks import sole_writer

DEVICE = "demo"
MARKER = ".latkit-demo"


@click.command(name="demo")
@click.option(
    "--out",
    type=UserPath(),
    default=Path("latkit-demo"),
    show_default=True,
    help="Folder for everything the demo makes; made anew each time.",
)
@json_option
def command(out: Path, as_json: bool) -> None:
    """Run the whole path live on this machine in under two minutes.

    Profile, train-lpm and search run as they always do, at a small setting: every number is
    measured here and now. The LPM goes to a registry of its own below --out.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_made(error, out) from None
    with sole_writer(out):
        _make_empty(out)
        _run(out, as_json)


def _run(out: Path, as_json: bool) -> None:
    """All steps, in a folder that is this process's own."""
    from latkit.cli import profile, search, train_lpm
    from latkit.registry import VARIABLE

    started = time.perf_counter()
    dataset, registry, found = out / "dataset", out / "registry", out / "search"
    steps = {
        profile.command: f"--backend torch-cpu --device {DEVICE} --setting tiny --n 300 --out",
        train_lpm.command: "",
        search.command: (
            f"--device {DEVICE} --data digits --preset cpu --cells 3 --epochs 3 --limit 1024 --out"
        ),
    }
    places = (dataset, dataset, found)
    results: dict[str, Any] = {}
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(registry.resolve())
    try:
        for number, ((step, options), place) in enumerate(
            zip(steps.items(), places, strict=True), start=1
        ):
            arguments = [*options.split(), str(place)]
            title = f"latkit {step.name} {' '.join(arguments)}"
            heading(f"\n[{number}/{len(steps)}] {title}")
            if as_json:
                arguments.append("--json")
            # With --json, what the step prints becomes a part of the one object.
            with contextlib.redirect_stdout(io.StringIO() if as_json else sys.stdout) as printed:
                step.main(args=arguments, standalone_mode=False, prog_name=f"latkit {step.name}")
            if isinstance(printed, io.StringIO):
                results[str(step.name)] = json.loads(printed.getvalue())
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**results, "seconds": seconds})
        return
    print_table(
        f"demo: done in {seconds:.0f} s",
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
        raise _not_made(error, out) from None


def _not_made(error: OSError, out: Path) -> LatkitError:
    return from_os_error(error, f"make the demo's folder {out}", "nothing is lost")
