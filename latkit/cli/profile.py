"""``latkit profile``"""

from __future__ import annotations

from pathlib import Path

import click

from latkit.cli.output import (
    SEED,
    ProgressLine,
    json_option,
    note,
    number,
    print_json,
    print_table,
    warn,
)
from latkit.errors import Interrupted


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
@click.option("--space", default="darts", show_default=True, help="Search space.")
@click.option(
    "--setting",
    "setting_text",
    default="imagenet",
    show_default=True,
    help="Network around the cell: imagenet, cifar, paper or tiny, with changes, "
    "e.g. imagenet,batch=32,memory_format=nchw.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads of a run; with one, the clock is the thread's CPU time.",
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
    type=click.Path(path_type=Path),
    help="Dataset folder [default: datasets/DEVICE/BACKEND/SETTING].",
)
@json_option
def command(
    backend_name: str | None,
    device: str | None,
    n: int,
    space: str,
    setting_text: str,
    threads: int,
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
    """
    from latkit.backends import default_backend_name, get_backend_class
    from latkit.dataset import LatencyDataset, Target
    from latkit.device import check_device_name, suggest_device_name
    from latkit.networks.setting import parse_setting
    from latkit.profiling.loop import Progress, profile
    from latkit.profiling.protocol import Protocol
    from latkit.spaces import get_space

    get_space(space)
    setting = parse_setting(setting_text)
    if device is not None:
        check_device_name(device)
    if backend_name is None:
        backend_name, why = default_backend_name()
        note(why)
    backend_class = get_backend_class(backend_name)
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
            flagged = f", {now.flagged} disturbed" if now.flagged else ""
            progress.update(now.done, f"last {now.latency_ms:.2f} ms{flagged}")

        note(f"measuring {n} architectures of {space} in {setting.slug} into {out}")
        try:
            profile(backend, target, Protocol(threads=threads), n, seed, out, show)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; every finished row is kept", "run the same command to go on"
            ) from None
        finally:
            if progress is not None:
                progress.close()
    dataset = LatencyDataset.open(out)
    latency = dataset.table["latency_ms"].to_numpy()
    flagged = int(dataset.flagged.sum())
    retest = dataset.retest_sd()
    summary = {
        "dataset": str(out),
        "target": target.to_dict(),
        "rows": dataset.table.num_rows,
        "architectures": len(set(dataset.table["arch_id"].to_pylist())),
        "rows_disturbed": flagged,
        "latency_ms": {"min": latency.min(), "mean": latency.mean(), "max": latency.max()},
        "retest_sd_percent": None if retest is None else 100 * retest,
        "anchor_median_ms": dataset.anchor_median_ms,
        "clock": dataset.table["clock"][0].as_py(),
    }
    if as_json:
        print_json(summary)
    else:
        print_table(
            f"measured on {target.device} with {target.backend}",
            ["architectures", "rows", "disturbed", "latency min/mean/max ms", "retest sd", "clock"],
            [
                [
                    str(summary["architectures"]),
                    str(summary["rows"]),
                    str(flagged),
                    f"{latency.min():.2f} / {latency.mean():.2f} / {latency.max():.2f}",
                    f"{number(summary['retest_sd_percent'], 2)} %",
                    summary["clock"],
                ]
            ],
        )
    if flagged > 0.1 * dataset.table.num_rows:
        warn(f"{flagged} rows were disturbed by other work on this machine and will not be used")
    note(f"next: latkit train-lpm {out}")
