"""Sections on one-shot searches, and on what was retargeted from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latkit.reports.figures.charts import Spot, Trace
from latkit.reports.page.blocks import (
    Block,
    Cell,
    Column,
    LinesFigure,
    Remark,
    Section,
    SpotsFigure,
    Table,
    with_evidence,
)
from latkit.reports.page.content import Content
from latkit.reports.page.runs import Training, short_reference, shown_name
from latkit.search.oneshot.config import preset


def one_shot_section(searches: Sequence[Content]) -> Section | None:
    """How one-shot networks were trained, and how well their accuracy LPMs rank."""
    if not searches:
        return None
    scaled = next((True for search in searches if _is_scaled_down(search)), False)
    evidence = with_evidence("measured", "scaled down" if scaled else None)
    rows: list[tuple[Cell, ...]] = []
    for search in searches:
        lpm = search.object("accuracy_lpm")
        rows.append(
            (
                shown_name(search.source), search.text("space"), search.optional_text("data.name"),
                search.number("history.epochs"), search.number("subnets.count"),
                search.number("subnets.images"),
                *(search.number(f"subnets.accuracy_percent.{name}")
                  for name in ("lowest", "median", "highest")),
                lpm.optional_number("cross_validated.spearman"),
                lpm.optional_number("cross_validated.kendall_tau"),
                lpm.optional_number("baselines.macs_only.spearman"),
            )
        )  # fmt: skip
    columns = (
        Column("search"), Column("space"), Column("data"), Column("epochs", (), 0),
        Column("sub-networks", (), 0), Column("images each", (), 0),
        Column("lowest, %", evidence, 2), Column("median, %", evidence, 2),
        Column("highest, %", evidence, 2), Column("Spearman", evidence, 3),
        Column("Kendall tau", evidence, 3), Column("Spearman of MACs", evidence, 3),
    )  # fmt: skip
    blocks: list[Block] = [
        Table(
            "One-shot networks and their accuracy LPMs",
            columns,
            tuple(rows),
            note="accuracies of sub-networks with shared weights on held-out images, not those of "
            "networks trained alone; Spearman and Kendall tau: of the accuracy LPM's out-of-fold "
            "predictions with them, beside a straight line in MACs",
        )
    ]
    figures = (
        ("held_out_accuracy_percent", "Held-out accuracy of sub-networks", "accuracy, %"),
        ("train_loss", "Training loss of sub-networks", "loss"),
    )
    for column, title, label in figures:
        traces = []
        for search in searches:
            points = [
                (row.number("epoch"), value)
                for row in search.objects("epochs")
                if (value := row.optional_number(column)) is not None
            ]
            if points:
                x, y = zip(*points, strict=True)
                traces.append(Trace(shown_name(search.source), x, y, points=len(points) < 30))
        if traces:
            ends = "; ".join(f"{trace.name} ends at {trace.y[-1]:.3g}" for trace in traces)
            blocks.append(
                LinesFigure(
                    title=f"{title}, epoch by epoch",
                    description=f"{title} after each epoch: {ends}.",
                    evidence=evidence,
                    x_label="epoch",
                    y_label=label,
                    traces=tuple(traces),
                )
            )
    return Section("one-shot", "One-shot searches", tuple(blocks))


def _is_scaled_down(search: Content) -> bool:
    """Whether the network or its training is smaller than the preset ``paper``'s."""
    usual = preset("paper", search.text("space")).to_dict()
    smaller = any(
        (search.optional_number(f"config.{name}") or usual[name] or 0) < (usual[name] or 0)
        for name in ("cells", "channels", "epochs")
    )
    return smaller or search.optional_number("config.limit") is not None


def retarget_section(results: Sequence[Content], trainings: Sequence[Training]) -> Section | None:
    """What was retargeted: a table and a figure each."""
    blocks = [block for result in results for block in _retargeted(result, trainings)]
    return Section("retarget", "Retargeted", tuple(blocks)) if blocks else None


def _retargeted(result: Content, trainings: Sequence[Training]) -> Iterator[Block]:
    points, others = result.objects("points"), result.objects("others")
    everything = [*_named(points, "p"), *_named(others, "m")]
    name = shown_name(result.source)
    if not points:
        raise result.lacks("list of objects", "points")
    wanted = ", ".join(result.texts("wanted")) or "the highest accuracy"
    devices = result.objects("devices")
    on = ", ".join(short_reference(device.text("lpm")) for device in devices)
    yield Table(
        f"{name}: {result.text('space')} for {on}",
        *_columns_and_rows(everything, {training.genotype: training for training in trainings}),
        note=f"wanted: {wanted}; p: chosen, m: measured besides; the accuracy is that of a "
        "sub-network with shared weights; ± holds two thirds of measurements; corrected: by the "
        "LPM and what was measured; measured: at the machine's speed when the LPM's dataset was "
        "profiled, as predictions are",
    )
    yield from _figure(name, everything, on)
    for device in devices:
        reason = device.optional_text("why_not")
        if reason is not None:
            yield Remark(f"Nothing was measured on {device.text('target.device')}: {reason}.")
    for warning in result.texts("warnings"):
        yield Remark(f"{warning}.", (), True)


def _named(points: Sequence[Content], letter: str) -> list[tuple[str, Content]]:
    return [(f"{letter}{number}", point) for number, point in enumerate(points, start=1)]


def _cost(point: Content, place: int) -> Content:
    """What a point costs on a device.

    Raises:
        InputError: it has no such cost.
    """
    costs = point.objects("costs")
    if place >= len(costs):
        raise point.lacks("object", f"costs[{place}]")
    return costs[place]


def _columns_and_rows(
    points: Sequence[tuple[str, Content]], trainings: dict[str, Training]
) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
    columns = [
        Column("point"), Column("accuracy, %", ("predicted",), 2),
        Column("± %", ("predicted",), 2),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [name, point.number("accuracy_percent"), point.number("accuracy_std_percent")]
        for name, point in points
    ]
    for place, cost in enumerate(points[0][1].objects("costs")):
        unit, suffix = cost.text("unit"), cost.text("cost").rpartition("_")[2]
        lpm = short_reference(cost.text("lpm"))
        for key, label, kind in (
            (f"predicted_{suffix}", f"{lpm}: predicted, {unit}", "predicted"),
            (f"predicted_std_{suffix}", f"± {unit}", "predicted"),
            (f"corrected_{suffix}", f"corrected, {unit}", "predicted"),
            (f"corrected_std_{suffix}", f"± {unit}", "predicted"),
            (f"measured_{suffix}", f"measured, {unit}", "measured"),
            (f"measured_error_{suffix}", f"± {unit}", "measured"),
        ):
            values = [_cost(point, place).optional_number(key) for _, point in points]
            if any(value is not None for value in values):
                evidence = ("measured",) if kind == "measured" else ("predicted",)
                columns.append(Column(label, evidence, 3))  # type: ignore[arg-type]
                for row, value in zip(rows, values, strict=True):
                    row.append(value)
    columns += [Column("MACs, M", ("counted",), 1), Column("params, M", ("counted",), 3)]
    errors = [trainings.get(point.optional_text("genotype") or "") for _, point in points]
    for row, (_, point) in zip(rows, points, strict=True):
        row += [point.number("macs") / 1e6, point.number("params") / 1e6]
    if any(errors):
        scaled = next((one.scaled for one in errors if one is not None and one.scaled), None)
        columns.append(Column("test error, %", with_evidence("measured", scaled), 2))
        for row, training in zip(rows, errors, strict=True):
            row.append(None if training is None else training.mean)
    columns.append(Column("architecture"))
    for row, (_, point) in zip(rows, points, strict=True):
        row.append(point.optional_text("arch") or f"number {point.get('arch_id')}")
    return tuple(columns), tuple(map(tuple, rows))


def _figure(name: str, points: Sequence[tuple[str, Content]], on: str) -> Iterator[Block]:
    """Accuracy against the latency on the first device, predicted and measured."""
    if len(points) < 2:
        return
    spots, predicted, measured = [], [], []
    for label, point in points:
        cost, accuracy = _cost(point, 0), point.number("accuracy_percent")
        std = point.number("accuracy_std_percent")
        predicted.append((cost.number("predicted_ms"), accuracy))
        known = cost.optional_number("measured_ms")
        if known is not None:
            measured.append((known, accuracy))
        # The latency that is known best; the accuracy is predicted always.
        best = known if known is not None else cost.optional_number("corrected_ms")
        x = predicted[-1][0] if best is None else best
        ends = max(0.0, accuracy - std), min(100.0, accuracy + std)
        spots.append(Spot(label, x, accuracy, *ends))
    traces = []
    for kind, pairs in (("predicted", predicted), ("measured", measured)):
        if len(pairs) > 1:
            x_values, y_values = zip(*sorted(pairs), strict=True)
            dashed = kind == "predicted"
            traces.append(Trace(f"latency {kind}", x_values, y_values, dashed=dashed))
    first, last = min(spots, key=lambda s: s.x), max(spots, key=lambda s: s.x)
    yield SpotsFigure(
        title=f"Predicted accuracy against latency on {on.split(', ')[0]}, {name}",
        description=f"{len(spots)} architectures from {first.x:.3g} ms ({first.y:.1f} %) to "
        f"{last.x:.3g} ms ({last.y:.1f} %); {len(measured)} of them measured. Points: the "
        "latency as it is known best, measured, corrected or predicted; bars: the accuracy's "
        "interval.",
        evidence=("predicted", "measured") if measured else ("predicted",),
        x_label="latency, ms",
        y_label="predicted accuracy, %",
        spots=tuple(spots),
        traces=tuple(traces),
        named=len(spots) <= 16,
    )
