"""What retargeting gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latkit.core.quantities import LATENCY, get_quantity
from latkit.reports.parts import Caution, Line, Note, Part, Table, number
from latkit.tasks.retarget_result import RetargetPoint, RetargetResult, point_name


def retarget_parts(result: RetargetResult) -> Iterator[Part]:
    """The architectures with what is predicted and measured of them, and what to know."""
    names = [
        point_name(n) if result.is_front else "chosen" for n in range(1, 1 + len(result.points))
    ]
    devices = ", ".join(dict.fromkeys(device.target.device for device in result.devices))
    wanted = f", {', '.join(result.wanted)}" if result.wanted else ""
    yield _table(f"{result.space} for {devices}{wanted}", names, result.points)
    if result.others:
        title = "measured too: what the corrected LPMs leave out, or rank behind"
        yield _table(title, [f"m{n}" for n in range(1, 1 + len(result.others))], result.others)
    for name, point in zip(names, result.points, strict=True):
        yield Line(f"{name}: {point.arch}")
    looked = f"{result.evaluated:,} architectures"
    how = f"all {looked} of the space" if result.exhaustive else f"{looked} by local search"
    yield Note(
        f"accuracies are those of sub-networks of {result.accuracy}, to rank by; ± holds two "
        f"thirds of measurements; looked at: {how}"
    )
    for device in result.devices:
        low, high = device.known_ms
        count = device.measured
        done = f"; {count} architecture{'s' * (count > 1)} measured" if count else ""
        yield Note(f"{device.lpm}: relied on from {low:.4g} to {high:.4g} ms{done}")
        if device.skip_reason is not None:
            yield Note(f"not measured on {device.target.device}: {device.skip_reason}")
    if any(point.is_measured for point in (*result.points, *result.others)):
        yield Note(
            "corrected: by the LPM and what was measured; measured: at the machine's speed when "
            "the LPM's dataset was profiled, ± the 95 % interval of the mean"
        )
    for warning in result.warnings:
        yield Caution(warning)
    file = result.out / "result.json"
    first = f"{file}:{point_name(1)}" if result.is_front else str(file)
    yield Note(f"result: {file}\nnext: latkit train {first} --space {result.space}")


def _table(title: str, names: Sequence[str], points: Sequence[RetargetPoint]) -> Table:
    columns = ["", "accuracy %"]
    for place, cost in enumerate(points[0].costs):
        quantity = get_quantity(cost.quantity)
        noun = "" if cost.quantity == LATENCY else f"{quantity.noun} "
        device = cost.lpm.partition("/")[0]
        columns.append(f"{device}: {noun}predicted {quantity.unit}")
        if any(point.costs[place].corrected is not None for point in points):
            columns += ["corrected", "measured"]
    rows = []
    for name, point in zip(names, points, strict=True):
        row = [name, _with(point.accuracy_percent, point.accuracy_std_percent)]
        for cost in point.costs:
            row.append(_with(cost.predicted, cost.predicted_std, 3))
            if cost.corrected is not None:
                row.append(_with(cost.corrected, cost.corrected_std, 3))
                row.append(_with(cost.measured, cost.measured_error, 3))
        sizes = number(point.macs / 1e6, 1), number(point.params / 1e6, 3)
        rows.append([*row, *sizes])
    return Table(title, [*columns, "MACs M", "params M"], rows)


def _with(value: float | None, error: float | None, digits: int = 2) -> str:
    # Not to be broken between the two.
    spread = "" if error is None else f"\u00a0±\u00a0{number(error, digits)}"
    return f"{number(value, digits)}{spread}"
