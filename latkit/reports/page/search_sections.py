"""Sections on searches: what was found, the history, Pareto fronts, cells, and other devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from latkit.core.errors import LatkitError
from latkit.lpm.prediction import PublishedLPM
from latkit.reports.draw import weigh
from latkit.reports.figures.charts import Spot, Trace
from latkit.reports.page.blocks import (
    Block,
    Cell,
    CellFigure,
    Column,
    Evidence,
    Figure,
    LinesFigure,
    Remark,
    Section,
    SpotsFigure,
    Table,
    with_evidence,
)
from latkit.reports.page.content import Content
from latkit.reports.page.inputs import Inputs
from latkit.reports.page.runs import (
    MeasuredRow,
    NetworkFacts,
    Search,
    Training,
    read_measurements,
    short_names,
    short_reference,
    shown_name,
)
from latkit.spaces import get_space
from latkit.spaces.graph import graphs_of
from latkit.spaces.reader import as_row, parse_architecture

MOST_DRAWN, MOST_LINES = 8, 6


def search_section(searches: Sequence[Search], trainings: Sequence[Training]) -> Section | None:
    """What searches found, and how they got there."""
    if not searches:
        return None
    names = short_names(searches)
    errors = {training.genotype: training.mean for training in trainings}
    rows: list[tuple[Cell, ...]] = []
    for s in searches:
        accuracy = None if s.accuracy is None else 100 * s.accuracy
        about = (*_facts(s.found), accuracy, errors.get(s.genotype))
        rows.append((s.name, names[s.genotype], s.device, *about))
    for s in {(s.device, s.reference_name): s for s in reversed(searches)}.values():
        if s.reference is not None:
            about = (*_facts(s.reference), None, errors.get(s.reference.genotype))
            rows.append((s.reference_name, None, s.device, *about))
    scaled = next((s.scaled for s in searches if s.scaled), None)
    scaled_training = next((t.scaled for t in trainings if t.scaled), None)
    columns = [
        Column("search"), Column("cell"), Column("device"),
        Column("predicted, ms", ("predicted",), 2), Column("± ms", ("predicted",), 2),
        Column("measured, ms", ("measured",), 2),
        Column("MACs, M", ("counted",), 1), Column("params, M", ("counted",), 2),
        Column("supernet accuracy, %", with_evidence("measured", scaled), 1),
        Column("test error, %", with_evidence("measured", scaled_training), 2),
    ]  # fmt: skip
    if not any(row[-1] is not None for row in rows):
        rows = [row[:-1] for row in rows]
        columns.pop()
    blocks: list[Block] = [
        Table(
            "What was found",
            tuple(columns),
            tuple(rows),
            note="found cells in the network of the LPM's setting, and what they are compared "
            "with; ± holds two thirds of measurements; measured at the machine's speed when the "
            "LPM's dataset was profiled, as predictions are; the accuracy is the supernet's while "
            "it searches, not that of a trained network",
        )
    ]
    for s in searches:
        if s.skip_reason is not None:
            blocks.append(Remark(f"{s.name} was not measured: {s.skip_reason}."))
        if s.collapsed:
            blocks.append(Remark(f"{s.name} collapsed to skip connections.", (), True))
    shown = searches[:MOST_LINES]
    if len(searches) > len(shown):
        blocks.append(
            Remark(f"The figures have the first {len(shown)} of {len(searches)} searches.")
        )
    blocks += _histories(shown)
    return Section("searches", "Searches", tuple(blocks))


def _facts(network: NetworkFacts) -> tuple[Cell, ...]:
    return (
        network.predicted_ms, network.predicted_std_ms, network.measured_ms, network.macs / 1e6,
        network.params / 1e6,
    )  # fmt: skip


def _histories(searches: Sequence[Search]) -> Iterator[Block]:
    units = list(dict.fromkeys(search.unit for search in searches))
    figures: list[tuple[str, str, str, Evidence, Callable[[float], float], str | None]] = [
        ("val_accuracy", "Accuracy of the supernet", "accuracy, %", "measured",
         lambda v: 100 * v, None),
        ("derived_predicted_ms", "Predicted latency of the cell in lead", "predicted, ms",
         "predicted", float, None),
        *(("expected_cost", "Expected cost under α", f"LAT(α), {unit}", "predicted", float, unit)
          for unit in units),
    ]  # fmt: skip
    for column, title, label, evidence, scale, unit in figures:
        traces, scaled = [], None
        for search in searches:
            points = [
                (row.number("epoch"), scale(value))
                for row in search.epochs
                if (value := row.optional_number(column)) is not None
            ]
            if points and unit in (None, search.unit):
                x, y = zip(*points, strict=True)
                traces.append(Trace(search.name, x, y, points=len(points) < 30))
                scaled = scaled or search.scaled
        if traces:
            ends = "; ".join(f"{t.name} ends at {t.y[-1]:.3g}" for t in traces)
            in_unit = f" in {unit}" if unit is not None and len(units) > 1 else ""
            yield LinesFigure(
                title=f"{title}{in_unit}, epoch by epoch",
                description=f"{title} after each epoch of {len(traces)} searches: {ends}.",
                evidence=with_evidence(evidence, scaled),
                x_label="epoch",
                y_label=label,
                traces=tuple(traces),
            )


def sweep_section(sweeps: Sequence[Content]) -> Section | None:
    """The Pareto front of each sweep."""
    blocks: list[Block] = []
    for sweep in sweeps:
        rows = [row for row in sweep.objects("searches") if row.get("error") is None]
        failed = [row for row in sweep.objects("searches") if row.get("error") is not None]
        if rows:
            blocks += _sweep(sweep.source, rows)
        blocks += [
            Remark(f"{sweep.source}: {row.text('name')} failed: {row.text('error')}", (), True)
            for row in failed
        ]
    return Section("pareto", "Pareto front", tuple(blocks)) if blocks else None


def _sweep(source: str, rows: Sequence[Content]) -> Iterator[Block]:
    unit = rows[0].optional_text("cost_unit") or "ms"
    spots, front, table = [], [], []
    for row in rows:
        name, cost = shown_name(row.text("name")), row.number("cost")
        accuracy = 100 * row.number("val_accuracy")
        on_front = row.get("pareto") is True
        spots.append(Spot(name, cost, accuracy))
        if on_front:
            front.append((cost, accuracy))
        table.append(
            (name, "yes" if on_front else "no", cost, row.optional_number("predicted_ms"),
             row.optional_number("predicted_std_ms"),
             row.optional_number("measured_at_profile_speed_ms"), accuracy,
             row.number("macs") / 1e6, row.number("params") / 1e6)
        )  # fmt: skip
    front.sort()
    x, y = zip(*front, strict=True) if front else ((), ())
    best = ", ".join(f"{cost:.3g} {unit} at {gain:.1f} %" for cost, gain in front)
    yield SpotsFigure(
        title=f"Cost and accuracy in {source}",
        description=f"{len(rows)} searches; the Pareto front, where nothing else is both cheaper "
        f"and more accurate: {best or 'none'}.",
        evidence=("predicted", "measured"),
        x_label=f"predicted cost, {unit}",
        y_label="supernet accuracy, %",
        spots=tuple(spots),
        traces=(Trace("Pareto front", x, y),) if len(front) > 1 else (),
        named=len(rows) <= 12,
    )
    columns = (
        Column("search"), Column("on the front"), Column(f"cost, {unit}", ("predicted",), 2),
        Column("predicted, ms", ("predicted",), 2), Column("± ms", ("predicted",), 2),
        Column("measured, ms", ("measured",), 2),
        Column("supernet accuracy, %", ("measured",), 1), Column("MACs, M", ("counted",), 1),
        Column("params, M", ("counted",), 2),
    )  # fmt: skip
    yield Table(f"Searches in {source}", columns, tuple(table))


def cell_section(searches: Sequence[Search], inputs: Inputs) -> Section | None:
    """What was found, drawn."""
    names = short_names(searches)
    blocks: list[Block] = []
    drawn: set[str] = set()
    for search in searches:
        if search.genotype not in drawn and len(drawn) < MOST_DRAWN:
            drawn.add(search.genotype)
            blocks += _cells(names[search.genotype], search, inputs.lpms)
    if len(names) > len(drawn):
        blocks.append(Remark(f"Drawn are the first {len(drawn)} of {len(names)} different cells."))
    return Section("cells", "The cells", tuple(blocks)) if blocks else None


def _cells(name: str, search: Search, lpms: Sequence[PublishedLPM]) -> Iterator[Block]:
    try:
        space = get_space(search.space)
        cell = parse_architecture(search.genotype, space)
        graphs = graphs_of(space, cell)
    except LatkitError as error:
        yield Remark(f"Cell {name} of {search.name} is not drawn: {error}")
        return
    weighed = None
    lpm = next((lpm for lpm in lpms if lpm.space == search.space and _same(lpm, search)), None)
    if lpm is not None:
        weighed = weigh(lpm, as_row(cell, space))
    for graph in graphs:
        operations = ", ".join(
            f"{link.operation} from {graph.nodes[link.source]} to {graph.nodes[link.target]}"
            for link in graph.links
            if link.operation is not None
        )
        shares = None
        if weighed is not None and any(link.edge is not None for link in graph.links):
            shares = weighed.shares
        words = ""
        if shares is not None and lpm is not None:
            words = (
                " Percentages and widths: the share of the latency predicted by "
                f"{short_reference(lpm.reference)} that the operation takes above the cheapest one "
                "in its place."
            )
        title = f"Cell {name}, for {search.device}"
        evidence: tuple[Evidence, ...] = () if shares is None else ("predicted",)
        figure: Figure = CellFigure(
            title=f"{title}: {graph.title}",
            description=f"The {graph.title} found by {search.name}: {operations}.{words}",
            caption=f"Found by {search.name}.{words}",
            evidence=evidence,
            graph=graph,
            shares=shares,
        )
        yield figure


def _same(lpm: PublishedLPM, search: Search) -> bool:
    """Whether an LPM is the one of a search, or of its target."""
    target = search.content.get("target")
    return lpm.reference == search.lpm or lpm.target.to_dict() == target


def device_matrix_section(searches: Sequence[Search], inputs: Inputs) -> Section | None:
    """The cells found for each device on every device."""
    names = short_names(searches)
    rows = [row for _, rows in read_measurements(inputs) for row in rows]
    kinds: tuple[tuple[Evidence, dict[str, dict[str, float]]], ...] = (
        ("measured", _measured(searches, rows)),
        ("predicted", _predicted(searches)),
    )
    blocks: list[Block] = []
    for kind, by_column in kinds:
        per_search = [sum(s.name in values for values in by_column.values()) for s in searches]
        if len(by_column) < 2 or max(per_search) < 2:
            continue
        table: list[tuple[Cell, ...]] = []
        for search in searches:
            label = f"{names[search.genotype]}, found for {search.device} ({search.name})"
            table.append((label, *(values.get(search.name) for values in by_column.values())))
        columns = (Column("cell"), *(Column(f"{name}, ms", (kind,), 2) for name in by_column))
        blocks.append(
            Table(
                f"The cells on every device, {kind}",
                columns,
                tuple(table),
                shaded=True,
                note="compare within a column, which is of one setting: the stronger the shade, "
                "the slower than the fastest cell there",
            )
        )
    return Section("matrix", "Cells on other devices", tuple(blocks)) if blocks else None


def _measured(
    searches: Sequence[Search], rows: Sequence[MeasuredRow]
) -> dict[str, dict[str, float]]:
    """Of each device the latencies of the searches' cells, all of one setting.

    Where a device has several, it is the one in which most of the cells that were found for others
    were measured.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for search in searches:
        for row in rows:
            if row.genotype in (search.genotype, search.found.genotype) and not row.pause_ms:
                shape = row.content.get("input")
                setting = f"{row.content.source} {shape} {row.batch} {row.precision}"
                found.setdefault(row.device, {}).setdefault(setting, {}).setdefault(
                    search.name, row.latency_ms
                )
        if search.found.measured_ms is not None:
            setting = str(search.content.get("target.setting"))
            of_device = found.setdefault(search.device, {}).setdefault(setting, {})
            of_device[search.name] = search.found.measured_ms
    for_device = {search.name: search.device for search in searches}

    def worth(device: str, values: dict[str, float]) -> tuple[int, int]:
        return sum(for_device[name] != device for name in values), len(values)

    return {
        device: max(settings.values(), key=lambda values: worth(device, values))
        for device, settings in found.items()
    }


def _predicted(searches: Sequence[Search]) -> dict[str, dict[str, float]]:
    """By each LPM, what it predicts of the searches' cells."""
    found: dict[str, dict[str, float]] = {}
    for search in searches:
        own = search.found.predicted_ms
        predicted = [] if own is None else [(search.lpm, own)]
        for lpm, value in (*predicted, *((lpm, value) for lpm, value, _ in search.elsewhere)):
            found.setdefault(lpm, {}).setdefault(search.name, value)
    short = {lpm: _short(lpm) for lpm in found}
    unique = len(set(short.values())) == len(short)
    return {short[lpm] if unique else lpm: values for lpm, values in found.items()}


def _short(reference: str) -> str:
    device, backend, *_ = (*reference.partition("@")[0].split("/"), "")
    return f"{device} ({backend})"
