"""What ``latkit measure`` found, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from latkit.reports.parts import Caution, Note, Part, Table, number
from latkit.tasks.measurement import MeasureResult
from latkit.tasks.measurement_file import MeasuredRow
from latkit.tasks.paper_tables import DEVICE

# A table of layers that leaves more or less of the whole than this says so.
EXPLAINED = 0.1
MOST_LAYERS = 12


def measurement_parts(result: MeasureResult) -> Iterator[Part]:
    """The networks, the layers of each where they were requested, and what to know of them."""
    rows = result.rows
    with_pauses = any(row.pause_ms for row in rows)
    with_energy = any(row.energy_mj is not None for row in rows)
    columns = ["network", "params M", "MACs M", "batch", *(["pause ms"] if with_pauses else [])]
    columns += ["ms ± error", "p50", "p90", "p99", "max", "per s", "MiB"]
    columns += ["mJ"] if with_energy else []
    columns += [f"published ms ({DEVICE})"] if result.table else []
    cells = []
    for row in rows:
        line = [row.name + ("*" if row.flags else ""), number(row.params / 1e6, 2)]
        line += [number(None if row.macs is None else row.macs / 1e6, 1), str(row.batch)]
        line += [f"{row.pause_ms:g}"] if with_pauses else []
        line += [_latency(row), *(_digits(ms) for ms in _tail(row))]
        line += [_digits(row.throughput_per_s), number(row.peak_memory_mb, 1)]
        line += [number(row.energy_mj, 2)] if with_energy else []
        line += [number(row.published_ms, 1)] if result.table else []
        cells.append(line)
    yield Table(f"measured on {result.hardware} by {result.backend}", columns, cells)
    for row in rows:
        yield from _layers(row)
    yield Note(
        "± is the 95 % interval of the mean; p50 to max are wall times of runs in a row, without "
        "runs of the anchor between them"
    )
    for row in rows:
        if row.flags:
            yield Caution(f"* {row.name}, batch {row.batch}: {', '.join(row.flags)}")
        if row.macs is None:
            yield Note(f"the MACs of {row.name} are not known: {row.macs_reason}")
    yield Note(f"written: {result.out}")


def _layers(row: MeasuredRow) -> Iterator[Part]:
    if row.layers is None:
        return
    if row.layers_explained is None:
        yield Note(f"the runtime has no profiler for the operators of {row.name}")
        return
    shown, rest = row.layers[:MOST_LAYERS], row.layers[MOST_LAYERS:]
    cells = [
        [layer.operator, f"{layer.count:g}", number(layer.ms), f"{100 * layer.share:.1f} %"]
        for layer in shown
    ]
    if rest:
        total = sum(layer.ms for layer in rest), sum(layer.share for layer in rest)
        count = sum(layer.count for layer in rest)
        cells.append(["others", f"{count:g}", number(total[0]), f"{100 * total[1]:.1f} %"])
    title = f"{row.name}, batch {row.batch}: a profiled run of {number(row.profiled_ms)} ms"
    yield Table(title, ["operator", "count", "ms", "share"], cells)
    off = row.layers_explained - 1
    amount = f"{100 * row.layers_explained:.1f} % of a profiled run"
    if abs(off) > EXPLAINED:
        word = "leave out" if off < 0 else "exceed it by"
        amount += f": they {word} {100 * abs(off):.1f} % of it"
    yield Note(f"the operators of {row.name} add up to {amount}")


def _latency(row: MeasuredRow) -> str:
    # Not to be broken between the two.
    error = "" if row.error_ms is None else f"\u00a0±\u00a0{row.error_ms:.2g}"
    return f"{_digits(row.latency_ms)}{error}"


def _tail(row: MeasuredRow) -> tuple[float, ...]:
    return row.p50_ms, row.p90_ms, row.p99_ms, row.max_ms


def _digits(value: float) -> str:
    """A positive number with about three digits that count."""
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.1f}"
