"""``latkit profile``"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import (
    SEED,
    Cores,
    Percent,
    UserPath,
    json_option,
    note,
    number,
    print_json,
    warn,
)
from latkit.cli.progress import ProgressLine
from latkit.core.errors import InputError, Interrupted
from latkit.core.quantities import LATENCY

if TYPE_CHECKING:
    from latkit.dataset import Target


@click.command(name="profile")
@click.option(
    "--backend",
    "backend_name",
    help="Runtime to measure [default: torch-cuda where a "
    "usable GPU is present, else torch-cpu]. See latkit backends list.",
)
@click.option(
    "--device",
    help="Your short name for this hardware, e.g. p100 "
    "[default: made from the hardware's own name].",
)
@click.option(
    "--n",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of architectures.",
)
@click.option(
    "--space", default="darts", show_default=True, help="Search space: darts or nasbench201."
)
@click.option(
    "--setting",
    "setting_text",
    help="Network around the cell: imagenet, cifar, paper or tiny of darts, or nasbench201, with "
    "changes, e.g. imagenet,batch=32,memory_format=nchw [default: the space's first].",
)
@click.option(
    "--protocol",
    "preset",
    type=click.Choice(["fast", "standard", "precise", "paper"]),
    default="standard",
    show_default=True,
    help="How one architecture is measured: 3, 6 or 12 runs in alternation with the anchor "
    "network, or the paper's mean of 20 runs by the wall clock.",
)
@click.option(
    "--runs-per-visit",
    type=click.IntRange(min=2),
    help="Timed runs of a candidate in one visit [default: the protocol's].",
)
@click.option(
    "--visits",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Undisturbed visits of each architecture. One in twenty is visited once more anyway.",
)
@click.option(
    "--target-error",
    type=Percent(),
    help="Visit all architectures again until the mean of each has this relative error, judged "
    "by the repeated visits so far, e.g. 1.5%.",
)
@click.option(
    "--clock",
    type=click.Choice(["auto", "wall", "cpu", "event"]),
    help="Which time counts: the device's events, the CPU time of a single thread, or wall "
    "time [default: the protocol's; auto is the backend's own].",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads of a run, at most as many as the cores this process may use; with one, the "
    "clock is the thread's CPU time.",
)
@click.option("--cores", type=Cores(), default=(), help="Keep to these CPU cores, e.g. 0,2-3.")
@click.option(
    "--energy",
    is_flag=True,
    help="Measure energy too (energy_mj); adds a second or more to each visit.",
)
@click.option(
    "--choose",
    type=click.Choice(["random", "active"]),
    default="random",
    show_default=True,
    help="random: the seed's list, which every backend measures; active: of its first 4,096 always "
    "the one that an LPM is least sure of, for a device of which few will be measured.",
)
@click.option(
    "--transfer-from",
    multiple=True,
    metavar="REF",
    help="Of --choose active: an LPM of another device that train-lpm will lean on; repeat it.",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Names the list of architectures; every backend measures the same list.",
)
@click.option(
    "--out",
    type=UserPath(),
    help="Dataset folder [default: datasets/DEVICE/BACKEND/SETTING].",
)
@json_option
def command(
    backend_name: str | None,
    device: str | None,
    n: int,
    space: str,
    setting_text: str | None,
    preset: str,
    runs_per_visit: int | None,
    visits: int,
    target_error: float | None,
    clock: str | None,
    threads: int,
    cores: tuple[int, ...],
    energy: bool,
    choose: str,
    transfer_from: tuple[str, ...],
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure the latency of sampled architectures into a dataset.

    Each architecture is timed in alternation with a fixed anchor network, so that drift of the
    machine cancels. Every finished row is kept: after Ctrl-C, a crash or a kill, the same
    command goes on where it stopped, and a larger --n extends the dataset.

    \b
    Examples:
      latkit profile --n 300 --out d
      latkit profile --backend torch-cuda --device p100 --n 100000
      latkit profile --setting cifar,batch=1 --device my-laptop --n 500
      latkit profile --protocol fast --target-error 1% --n 2000
      latkit profile --device new --n 10 --choose active --transfer-from t4
      latkit profile --space nasbench201 --n 1000

    Rows that other work on the machine disturbed are flagged, measured again where that is
    possible, and never used for training. latkit dataset check tells how good the result is.
    """
    from latkit.backends import default_backend_name, get_backend_class
    from latkit.cli.dataset import print_summary
    from latkit.core.device import check_device_name, suggest_device_name
    from latkit.dataset import LatencyDataset, Target
    from latkit.dataset.check import summarize
    from latkit.dataset.statistics import MAX_VISITS
    from latkit.profiling.loop import Progress, profile
    from latkit.profiling.protocol import PRESETS
    from latkit.spaces import default_setting, get_space, parse_setting

    get_space(space)
    setting_text = setting_text or default_setting(space)
    setting = parse_setting(setting_text)
    if device is not None:
        check_device_name(device)
    changes: dict[str, Any] = {"runs_per_visit": runs_per_visit, "clock": clock}
    changes = {name: value for name, value in changes.items() if value is not None}
    protocol = dataclasses.replace(PRESETS[preset], threads=threads, cores=cores, **changes)
    if backend_name is None:
        backend_name, why = default_backend_name()
        note(why)
    backend_class = get_backend_class(backend_name)
    formats = backend_class.memory_formats
    if setting.memory_format not in formats and "memory_format=" not in setting_text:
        setting = setting.replace(memory_format=formats[0])
    with backend_class(threads=threads) as backend:
        if device is None:
            device = suggest_device_name(backend.hardware_name())
            note(f"device name: {device} (from {backend.hardware_name()!r}; --device changes it)")
        target = Target(space, device, backend_name, setting)
        if out is None:
            out = Path("datasets", device, backend_name, setting.slug)
        progress: ProgressLine | None = None

        def show(now: Progress) -> None:
            nonlocal progress
            if progress is None:
                if now.resumed:
                    note(f"going on: {now.resumed} of {now.total} visits are in {out}")
                progress = ProgressLine("visits", now.total, now.done - 1)
            progress.total = now.total
            details = [f"last {now.latency_ms:.2f} ms"]
            if now.retest_sd is not None:
                details.append(f"retest sd {100 * now.retest_sd:.2f} %")
            if target_error is not None and now.error is not None:
                details.append(f"error {100 * now.error:.2f} %")
            if now.disturbed:
                details.append(f"{now.disturbed} disturbed")
            progress.update(now.done, ", ".join(details))

        chosen = None
        if choose == "active":
            chosen = _choose(target, n, seed, transfer_from)
        elif transfer_from:
            raise InputError("--transfer-from says what to choose", "add --choose active")
        note(
            f"measuring {n} architectures of {space} in {setting.slug} into {out}, and a panel "
            "before and after them"
        )
        try:
            profile(
                backend, target, protocol, n, seed, out, visits, target_error, energy, show, chosen
            )
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; every finished row is kept", "run the same command to go on"
            ) from None
        finally:
            if progress is not None:
                progress.close()
    dataset = LatencyDataset.open(out)
    summary = summarize(dataset)
    if as_json:
        print_json({"dataset": str(out), **summary})
    else:
        print_summary(summary)
    if summary["architectures_unusable"]:
        warn(
            f"{summary['architectures_unusable']} of {summary['architectures']} architectures have "
            "only visits that other work on this machine disturbed, and will not be used; "
            "the same command measures them again"
        )
    if target_error is not None:
        error = summary["error_percent"]
        if error is None or error > 100 * target_error:
            warn(
                f"the target error is not reached: {number(error, 2)} % after at most {MAX_VISITS} "
                "visits of each architecture"
            )
    note(f"next: latkit dataset check {out}, latkit train-lpm {out}")


def _choose(target: Target, n: int, seed: int, references: tuple[str, ...]) -> list[int]:
    """Identifiers of the architectures that say most of a new device."""
    from latkit.cli.train_lpm import load_sources
    from latkit.lpm.selection import MAX_CANDIDATES, choose_active
    from latkit.spaces import get_space

    space = get_space(target.space)
    size = min(MAX_CANDIDATES, space.size)
    if n > size:
        raise InputError(f"--choose active knows {size} candidates", f"use --n of at most {size}")
    ids = space.sample(size, seed)
    sources = load_sources(references, target, LATENCY) if references else None
    rows = choose_active(space, target.setting, space.encode(space.unrank(ids)), n, sources)
    return [int(i) for i in ids[rows]]
