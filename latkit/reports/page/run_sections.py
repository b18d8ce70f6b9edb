"""Sections on trainings, measurements and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latkit.reports.figures.charts import Spot, Trace
from latkit.reports.page.blocks import (
    Block,
    Cell,
    Column,
    Evidence,
    IntervalsFigure,
    LinesFigure,
    Remark,
    Section,
    SpotsFigure,
    Table,
    with_evidence,
)
from latkit.reports.page.content import Content
from latkit.reports.page.runs import MeasuredRow, Search, Training, short_names

MOST_ROWS = 200
MOST_INTERVALS = 24


def training_section(
    trainings: Sequence[Training],
    searches: Sequence[Search],
    measurements: Sequence[tuple[Content, tuple[MeasuredRow, ...]]],
) -> Section | None:
    """Test errors, beside latencies where the networks were measured, and how they came down."""
    if not trainings:
        return None
    names = short_names(searches)
    scaled = next((t.scaled for t in trainings if t.scaled), None)
    evidence = with_evidence("measured", scaled)
    rows = tuple(
        (t.name, names.get(t.genotype), t.data, t.mean, t.low, t.high, float(len(t.seeds)),
         t.params / 1e6, t.macs / 1e6, t.trained_on, "yes" if t.scaled else "no")
        for t in trainings
    )  # fmt: skip
    columns = (
        Column("training"), Column("cell"), Column("data"), Column("test error, %", evidence, 2),
        Column("from, %", evidence, 2), Column("to, %", evidence, 2), Column("seeds", (), 0),
        Column("params, M", ("counted",), 2), Column("MACs, M", ("counted",), 1),
        Column("trained on"), Column("scaled down"),
    )  # fmt: skip
    blocks: list[Block] = [
        Table(
            "Test errors",
            columns,
            rows,
            note="of the last epoch; from and to: the 95 % interval of the mean over seeds, where "
            "there are several",
        )
    ]
    for content, measured in measurements:
        blocks += _error_against_latency(trainings, names, content, measured)
    for training in trainings:
        traces = []
        for seed in training.seeds:
            history = seed.objects("history")
            points = [
                (row.number("epoch"), error)
                for row in history
                if (error := row.optional_number("test_error_percent")) is not None
            ]
            if points:
                x, y = zip(*points, strict=True)
                traces.append(Trace(f"seed {seed.get('seed')}", x, y, points=len(points) < 20))
        if traces:
            ends = ", ".join(f"{trace.y[-1]:.2f} %" for trace in traces)
            blocks.append(
                LinesFigure(
                    title=f"Training of {training.name}",
                    description=f"Test error on {training.data} after each epoch, a line a seed; "
                    f"in the end {ends}.",
                    evidence=with_evidence("measured", training.scaled),
                    x_label="epoch",
                    y_label="test error, %",
                    traces=tuple(traces),
                )
            )
    return Section("trainings", "Trained networks", tuple(blocks))


def _error_against_latency(
    trainings: Sequence[Training],
    names: Mapping[str, str],
    content: Content,
    measured: Sequence[MeasuredRow],
) -> Iterator[Block]:
    """The figure of one measurement, where it has two trained networks or more."""
    spots = []
    for training in trainings:
        row = next(
            (row for row in measured if row.genotype == training.genotype and not row.pause_ms),
            None,
        )
        if row is not None:
            label = names.get(training.genotype, training.name)
            errors = [seed.number("test_error_percent") for seed in training.seeds]
            spots.append(Spot(label, row.latency_ms, training.mean, min(errors), max(errors)))
    if len(spots) < 2:
        return
    fastest = min(spots, key=lambda spot: spot.x)
    best = min(spots, key=lambda spot: spot.y)
    scaled = next((t.scaled for t in trainings if t.scaled), None)
    yield SpotsFigure(
        title=f"Test error against latency on {measured[0].device}, {content.source}",
        description=f"{len(spots)} trained networks. The fastest, {fastest.name}, takes "
        f"{fastest.x:.2f} ms and errs on {fastest.y:.2f} %; the most accurate, {best.name}, takes "
        f"{best.x:.2f} ms and errs on {best.y:.2f} %. Bars: from the best seed to the worst.",
        evidence=with_evidence("measured", scaled),
        x_label="latency, ms",
        y_label="test error, %",
        spots=tuple(spots),
        named=len(spots) <= 12,
    )


def measurement_section(
    measurements: Sequence[tuple[Content, tuple[MeasuredRow, ...]]],
) -> Section | None:
    """What was measured network by network, beside what was published."""
    blocks: list[Block] = []
    for content, rows in measurements:
        if rows:
            blocks += _measurement(content, rows)
    return Section("measurements", "Measured networks", tuple(blocks)) if blocks else None


def _measurement(content: Content, rows: Sequence[MeasuredRow]) -> Iterator[Block]:
    device = rows[0].device
    # Of one batch and without pauses; the table has the others as well.
    batch = min(row.batch for row in rows)
    alike = [row for row in rows if row.batch == batch and not row.pause_ms] or rows
    shown = sorted(alike, key=lambda row: row.latency_ms)[:MOST_INTERVALS]
    fastest = shown[0]
    yield IntervalsFigure(
        title=f"Latencies on {device}, from {content.source}",
        description=f"{len(shown)} networks by rising latency, each with the 95 % interval of its "
        f"mean; the fastest is {fastest.label} with {fastest.latency_ms:.3g} ms.",
        evidence=("measured",),
        x_label="latency, ms",
        rows=tuple((row.label, (_spot(row),)) for row in shown),
    )
    wanted: tuple[tuple[str, str, tuple[Evidence, ...], int | None, float], ...] = (
        ("params", "params, M", ("counted",), 2, 1e-6),
        ("macs", "MACs, M", ("counted",), 1, 1e-6),
        ("batch", "batch", (), 0, 1),
        ("latency_ms", "latency, ms", ("measured",), 3, 1),
        ("error_ms", "± ms", ("measured",), 3, 1),
        ("published_ms", "published, ms", ("published",), 1, 1),
        ("p50_ms", "p50, ms", ("measured",), 3, 1),
        ("p90_ms", "p90, ms", ("measured",), 3, 1),
        ("p99_ms", "p99, ms", ("measured",), 3, 1),
        ("max_ms", "max, ms", ("measured",), 3, 1),
        ("runs", "runs", (), 0, 1),
        ("throughput_per_s", "samples a second", ("measured",), 1, 1),
        ("pause_ms", "after a pause, ms", (), 0, 1),
        ("peak_memory_mb", "peak memory, MiB", ("measured",), 1, 1),
        ("energy_mj", "energy, mJ", ("measured",), 1, 1),
        ("published_error_percent", "published error, %", ("published",), 2, 1),
    )
    # Columns that no row has, a pause that nobody made: left out.
    present = [w for w in wanted if any(row.content.optional_number(w[0]) for row in rows)]
    columns = (
        Column("network"),
        *(Column(name, evidence, digits) for _, name, evidence, digits, _ in present),
        Column("flags"),
    )
    table: list[tuple[Cell, ...]] = []
    for row in rows:
        numbers = [
            None if (value := row.content.optional_number(key)) is None else value * scale
            for key, _, _, _, scale in present
        ]
        table.append((row.name, *numbers, ", ".join(row.content.texts("flags"))))
    published = dict.fromkeys(
        text for row in rows if (text := row.content.optional_text("published_device"))
    )
    yield Table(
        f"Networks on {device}, from {content.source}", columns, tuple(table),
        note="± is the 95 % interval of the mean"
        + (f"; published: on {', '.join(published)}, as printed" if published else ""),
    )  # fmt: skip
    yield from _throughput(device, rows)
    for row in rows:
        layers = row.content.objects("layers")
        if layers:
            yield _layers(device, row, layers)


def _spot(row: MeasuredRow) -> Spot:
    error = row.error_ms
    low, high = (None, None) if error is None else (row.latency_ms - error, row.latency_ms + error)
    return Spot("measured", row.latency_ms, 0.0, low, high)


def _throughput(device: str, rows: Sequence[MeasuredRow]) -> Iterator[Block]:
    """Lines over the batch, of networks measured at several ones."""
    by_name: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        rate = row.content.optional_number("throughput_per_s")
        if rate is not None and not row.pause_ms:
            by_name.setdefault(row.name, []).append((row.batch, rate))
    traces = []
    for name, points in by_name.items():
        if len({batch for batch, _ in points}) > 1:
            x, y = zip(*sorted(points), strict=True)
            traces.append(Trace(name, x, y, points=True))
    if traces:
        yield LinesFigure(
            title=f"Throughput by batch on {device}",
            description="Samples a second at each batch: "
            + "; ".join(f"{t.name} {max(t.y):.3g} at most" for t in traces[:6]) + ".",
            evidence=("measured",), x_label="batch", y_label="samples a second",
            traces=tuple(traces[:6]), zero=True, log=True,
        )  # fmt: skip


def _layers(device: str, row: MeasuredRow, layers: Sequence[Content]) -> Table:
    columns = (
        Column("operator"), Column("count", (), 0), Column("ms", ("measured",), 3),
        Column("share, %", ("measured",), 1),
    )  # fmt: skip
    explained = row.content.optional_number("layers_explained")
    return Table(
        f"{row.label} by operator on {device}",
        columns,
        tuple(
            (layer.text("operator"), layer.optional_number("count"), layer.number("ms"),
             100 * layer.number("share"))
            for layer in layers
        ),
        folded=True,
        note="" if explained is None else f"together {100 * explained:.0f} % of the whole latency",
    )  # fmt: skip


def benchmark_section(benchmarks: Sequence[Content]) -> Section | None:
    """The numbers of benchmark results as they are."""
    blocks: list[Block] = []
    for content in benchmarks:
        facts = {
            name: value
            for name, value in content.value.items()
            if not isinstance(value, (Mapping, list))
        }
        about = ", ".join(f"{name} {value}" for name, value in facts.items())
        numbers = {k: v for k, v in content.value.items() if k not in facts}
        leaves = list(_leaves(content, numbers, ""))
        evidence = _evidence(content.value)
        if about:
            blocks.append(Remark(f"{content.source}: {about}.", evidence))
        if leaves:
            left = len(leaves) - MOST_ROWS
            blocks.append(
                Table(
                    f"Numbers of {content.source}",
                    (Column("what"), Column("value", evidence, 4)),
                    tuple(leaves[:MOST_ROWS]),
                    folded=True,
                    note=f"{left} further numbers are in the file" if left > 0 else "",
                )
            )
    return Section("benchmarks", "Benchmarks", tuple(blocks)) if blocks else None


def _leaves(content: Content, value: Any, path: str) -> Iterator[tuple[str, float]]:
    """The numbers within a value, each with the path to it; of lists the first ones.

    Raises:
        InputError: no float holds a number.
    """
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(content, part, f"{path} › {name}" if path else str(name))
    elif isinstance(value, list):
        for number, part in enumerate(value[:10], start=1):
            yield from _leaves(content, part, f"{path} › {number}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            raise content.lacks("finite number", path) from None
        yield path, found


def _evidence(value: Mapping[str, Any]) -> tuple[Evidence, ...]:
    """What a benchmark says its numbers are; what says nothing was measured."""
    text = " ".join(_texts(value)).lower()
    base: Evidence = "simulated" if "simulat" in text else "measured"
    return with_evidence(base, "scaled down" if "scaled down" in text else None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
