"""Profiling: how fast, how repeatable, host-bound or not, and energy."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.part import Context

# Above this share of its time an eager network waits for the host.
HOST_BOUND_SHARE = 0.2


def setting_text(context: Context, batch: int) -> str:
    """The paper's ImageNet network, or a small one in the quick form."""
    if context.quick:
        return f"tiny,cells=3,channels=4,resolution=16,batch={batch}"
    return f"imagenet,batch={batch}"


def dataset_folder(context: Context, backend: str, batch: int) -> Path:
    return context.work / f"{backend}-batch-{batch}"


def profile(context: Context) -> None:
    """``latkit profile`` of the same architectures, eager and as a CUDA graph."""
    batch = int(context.arguments[0])
    n = context.size(200 if batch == 1 else 100, 24 if batch == 1 else 8)
    # On a busy machine every anchored measurement may be flagged, and nothing be left to train on.
    protocol = ("--protocol", "paper") if context.quick else ()
    medians: dict[str, dict[str, float]] = {}
    for name in ("torch-cuda", "torch-cuda-graph") if context.cuda else ("torch-cpu",):
        folder = dataset_folder(context, name, batch)
        started = time.monotonic()
        context.latkit(
            "profile", "--backend", name, "--device", "gpu-proof", "--n", n,
            "--setting", setting_text(context, batch), "--out", folder, *protocol,
        )  # fmt: skip
        summary = summarise(folder, time.monotonic() - started)
        medians[name] = summary["medians_ms"]
        context.record(**{name: summary})
        context.record_gpu_state(f"after {name}")
        context.figure(
            f"{name}: median {summary['medians_ms']['latency']:.2f} ms, "
            f"{summary['architectures_per_minute']:.0f} architectures a minute, "
            f"retest sd {percent(summary['retest_sd_percent'])}"
        )
    if context.cuda:
        verdict = judge_host_bound(*medians.values())
        context.record(host_bound=verdict)
        context.figure(
            f"eager {medians['torch-cuda']['latency']:.2f} ms, graph "
            f"{medians['torch-cuda-graph']['latency']:.2f} ms: "
            f"{'host-bound' if verdict['host_bound'] else 'not host-bound'}"
        )


def percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} %"


def summarise(folder: Path, seconds: float) -> dict[str, Any]:
    """What a dataset shows, with its raw times."""
    from latkit.dataset import LatencyDataset
    from latkit.dataset.flags import is_gpu_flag

    dataset = LatencyDataset.open(folder)
    rows = dataset.table.to_pylist()
    listed = [row for row, panel in zip(rows, dataset.in_panel.tolist(), strict=True) if not panel]
    sd = dataset.retest("latency_ms").sd
    return {
        "setting": dataset.manifest.target.setting.to_dict(),
        "protocol": dataset.manifest.protocol,
        "measurements": len(rows),
        "architectures": len({row["arch_id"] for row in listed}),
        "disturbed": sum("disturbed" in row["flags"] for row in rows),
        "gpu_states": dict(Counter(f for row in rows for f in row["flags"] if is_gpu_flag(f))),
        "seconds": seconds,
        "architectures_per_minute": 60 * len({row["arch_id"] for row in listed}) / seconds,
        "retest_sd_percent": None if sd is None else 100 * sd,
        "anchor_median_ms": dataset.anchor_median_ms,
        "medians_ms": {
            "latency": statistics.median(row["latency_ms"] for row in listed),
            "clock": statistics.median(t for row in listed for t in row["samples_ms"]),
            "wall": statistics.median(row["wall_ms"] for row in listed),
        },
        "rows": [
            {
                key: row[key]
                for key in ("arch_id", "latency_ms", "samples_ms", "anchor_samples_ms", "wall_ms",
                            "clock", "flags", "macs", "peak_memory_mb")
                if key in row
            }
            for row in rows
        ],
    }  # fmt: skip


def judge_host_bound(eager: dict[str, float], graph: dict[str, float]) -> dict[str, Any]:
    """Whether the host, rather than the GPU, decides how long an eager network takes.

    A CUDA graph launches the same kernels without the host's work, so what the eager run takes
    longer is time in which the GPU waits.

    Args:
        eager, graph: medians in ms: ``clock`` (device events) and ``wall``.
    """
    share = 1 - graph["clock"] / eager["clock"]
    return {
        "host_bound": share > HOST_BOUND_SHARE,
        "share_of_eager_time_waiting": share,
        "eager_event_over_wall": eager["clock"] / eager["wall"],
        "graph_event_over_wall": graph["clock"] / graph["wall"],
    }


def protocols(context: Context) -> None:
    """Retest error and cost of each protocol, interleaved (``benchmarks/profiling.py``)."""
    from benchmarks.profiling import run_backend, summarize
    from latkit.spaces import parse_setting

    n = context.size(12, 2)
    name = context.backend_name()
    rows, _ = run_backend(name, parse_setting(setting_text(context, 1)), n, seed=1)
    table = [
        # JSON has no NaN: a protocol of which too little was undisturbed has no retest error.
        {key: None if value != value else value for key, value in row.items()}
        for row in summarize(rows, n)
    ]
    context.record(architectures=n, protocols=table)
    context.figure(
        ", ".join(f"{row['protocol']} {percent(row['retest_sd_percent'])}" for row in table)
    )


def energy(context: Context) -> None:
    """Energy of a run by the GPU's counter, twice for each of a few architectures."""
    from latkit.core.errors import BackendError
    from latkit.profiling.protocol import PRESETS
    from latkit.profiling.session import Session
    from latkit.spaces import get_space, parse_setting

    setting = parse_setting(setting_text(context, context.size(32, 1)))
    space = get_space("darts")
    rows: list[dict[str, Any]] = []
    with context.backend_class()() as backend:
        try:
            meter = backend.open_meter()
        except BackendError as error:
            context.skip(error.cause)
        context.record(meter=meter.name, setting=setting.to_dict())
        with Session(backend, setting, PRESETS["fast"], meter) as session:
            for arch_id in space.sample(context.size(4, 2), 2).tolist() * 2:
                row = space.unrank(arch_id)[0]
                done = session.measure(space.architecture(row, setting.network))
                rows.append(
                    {
                        "arch_id": arch_id, "energy_mj": done.metrics["energy_mj"],
                        "wall_ms": statistics.fmean(done.wall_samples_ms),
                    }
                )  # fmt: skip
                context.record(rows=rows)
    watts = [row["energy_mj"] / row["wall_ms"] for row in rows]
    half = len(rows) // 2
    change = [b["energy_mj"] / a["energy_mj"] - 1 for a, b in zip(rows, rows[half:], strict=False)]
    context.record(watts=watts, change_of_second_percent=[100 * c for c in change])
    context.check("between 5 W and 2 kW", all(5 < w < 2000 for w in watts), f"{watts}")
    context.figure(
        f"{meter.name}: {statistics.median(watts):.0f} W, second reading within "
        f"{100 * max(map(abs, change)):.1f} %"
    )
