"""Searches that end, are interrupted and go on; named networks; one process of NCCL; bf16."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.part import Context
from latkit.core.errors import Interrupted

VISITS = 5


def search(context: Context) -> None:
    """A search on digits: SIGTERM in the middle, the same command again, and its result."""
    out = context.work / "search"
    options = (
        "--data", "digits", "--preset", "cpu", "--epochs", context.size(3, 2),
        "--limit", context.size(1024, 96),
    )  # fmt: skip
    if context.quick:
        options += ("--cells", 3, "--channels", 4, "--batch", 16)
    device = _lpm(context)
    arguments = ("search", "--device", device, *options, "--out", out, "--json")
    interrupted = _interrupt(context, arguments, out)
    context.record(lpm=device, interrupted=interrupted)
    context.check(
        "SIGTERM ends it with what was done kept",
        interrupted["code"] == Interrupted.exit_code and interrupted["checkpoint"],
        interrupted["last_line"],
    )
    started = time.monotonic()
    done = subprocess.run(context.command(*arguments), capture_output=True, text=True, check=False)
    context.check("the same command ends it", done.returncode == 0, done.stderr[-300:])
    context.check("it went on", "going on after" in done.stderr)
    if done.returncode:
        return
    result = json.loads(done.stdout)
    context.record(result=brief(result), seconds_after_resumption=time.monotonic() - started)
    context.check("all its epochs are there", len(result["epochs"]) == context.size(3, 2))
    context.check("it ran where it should", result["searched_on"] == context.device)
    found = result["found"]
    measured = found["measured_at_profile_speed_ms"]
    shown = "not measured" if measured is None else f"measured {measured:.2f} ms"
    context.figure(f"predicted {found['predicted_ms']:.2f} ms, {shown}")


def bf16(context: Context) -> None:
    """An epoch in bf16 autocast."""
    options = ("--cells", 3, "--channels", 4, "--batch", 16) if context.quick else ()
    result = context.latkit(
        "search", "--device", "p100", "--data", "digits", "--preset", "cpu", "--epochs", 1,
        "--limit", context.size(256, 64), "--precision", "bf16", *options,
        "--out", context.work / "bf16",
    )  # fmt: skip
    (epoch,) = result["epochs"]
    context.record(result=brief(result))
    context.check("its losses are finite", 0 < epoch["train_loss"] < 1e3, str(epoch["train_loss"]))
    context.figure(f"train loss {epoch['train_loss']:.3f} in {epoch['seconds']:.1f} s")


def nccl(context: Context) -> None:
    """The mean of a supernet's gradients over a group of one process, by NCCL (gloo on a CPU)."""
    import torch
    import torch.distributed as dist

    from latkit.spaces import get_space
    from tests.search.supernets import build_supernet

    kind = "nccl" if context.cuda else "gloo"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    space: Any = get_space("darts")
    net = build_supernet("darts", space, 16 if not context.quick else 4, 8, 10).to(context.device)
    if context.cuda:
        torch.cuda.set_device(0)
    dist.init_process_group(kind, rank=0, world_size=1)
    try:
        flat = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
        before = flat.clone()
        times = []
        for _ in range(10):
            started = time.perf_counter()
            dist.all_reduce(flat)
            if context.cuda:
                torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - started))
        context.check("the sum over one process is its own", bool(torch.equal(flat, before)))
    finally:
        dist.destroy_process_group()
    context.record(backend=kind, numbers=flat.numel(), all_reduce_ms=times)
    context.figure(f"{kind}: {flat.numel()} numbers in {min(times):.2f} ms")


def networks(context: Context) -> None:
    """The networks of the paper's Table 5 on this device, beside its latencies on a Tesla P100."""
    from itertools import groupby

    from latkit.lpm.builtin import PUBLISHED
    from latkit.profiling.protocol import PRESETS
    from latkit.profiling.session import measure
    from latkit.spaces import Setting
    from latkit.spaces.darts.zoo import get_genotype

    published = [entry for entry in PUBLISHED if entry.source.endswith("Table 5")]
    rows: list[dict[str, Any]] = []
    for setting, group in groupby(published, key=lambda entry: entry.setting):
        entries = list(group)
        used: Setting = setting
        if context.quick:  # of other networks, hence beside nothing
            used = setting.replace(cells=3, channels=4, resolution=32, batch=2)
        cells = [get_genotype(entry.cell) for entry in entries]
        with context.backend_class()() as backend:
            found = measure(backend, cells, used, PRESETS["standard"], context.size(VISITS, 2))
        for entry, measurement in zip(entries, found, strict=True):
            rows.append(
                {
                    "cell": entry.cell,
                    "setting": used.to_dict(),
                    "measured_here_ms": measurement.latency_ms,
                    "relative_sd": measurement.relative_std,
                    "published_p100_ms": None if context.quick else entry.latency_ms,
                    "source": entry.source,
                }
            )
        context.record(networks=rows)
    fastest, slowest = (pick(row["measured_here_ms"] for row in rows) for pick in (min, max))
    context.figure(f"{len(rows)} networks, {fastest:.2f} to {slowest:.2f} ms")


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """What of a search's result is worth keeping."""
    kept = ("genotype", "found", "darts_v2", "searched_on", "seconds", "measured", "lpm")
    return {key: result[key] for key in kept if key in result} | {
        "epochs": [
            {key: epoch[key] for key in ("train_loss", "val_loss", "seconds")}
            for epoch in result["epochs"]
        ]
    }


def _lpm(context: Context) -> str:
    """The LPM trained on what was profiled here, if it was; else the built-in one."""
    names = [row["reference"] for row in context.latkit("lpms", "list")["lpms"]]
    start = f"gpu-proof/{context.backend_name()}/"
    ours = [name for name in names if name.startswith(start) and "-b1-" in name]
    return ours[0] if ours else "p100"


def _interrupt(context: Context, arguments: tuple[Any, ...], out: Path) -> dict[str, Any]:
    """Start a search, send SIGTERM after its first epoch, and wait."""
    log = context.work / "interrupted.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            context.command(*arguments), stdout=subprocess.DEVNULL, stderr=stderr
        )
        while process.poll() is None and not (out / "checkpoint.safetensors").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    lines = log.read_text().strip().splitlines() or [""]
    return {
        "code": code,
        "checkpoint": (out / "checkpoint.safetensors").exists(),
        "last_line": lines[-1][-300:],
    }
