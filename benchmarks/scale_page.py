"""Writes the tables of docs/scale.md from the newest result of ``scale.py``.

python benchmarks/scale_page.py            # rewrite the tables
python benchmarks/scale_page.py --check    # exit with 1 if the page's are others
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import page_tables
from benchmarks.gpu_parts.page import markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
SCRIPT = "benchmarks/scale_page.py"
Json = dict[str, Any]


def newest_result() -> Json:
    """What ``scale.py`` printed last, of what is committed."""
    path = max((ROOT / "benchmarks" / "results").glob("*-scale.json"))
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return {**content, "file": path.name}


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def size(count: float) -> str:
    for unit, unit_bytes in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= unit_bytes:
            return f"{number(count / unit_bytes)} {unit}"
    return f"{number(count)} bytes"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def conditions(result: Json) -> list[str]:
    of = result["measurement"]
    low, high = result["assumed"]["slowness"]
    rows = [
        ("result", f"[{result['file']}](../benchmarks/results/{result['file']}), {result['date']}"),
        ("machine", f"{result['cpu']}, one thread, a shared virtual machine with other work"),
        (
            "a measurement",
            f"{number(of['alone_seconds'])} s alone and {number(of['in_a_fleet_seconds'])} s in a "
            "fleet, with its share of the start and of Ray "
            f"(`fast`, ImageNet setting, `torch-cpu`), spread {number(of['spread_percent'])} "
            f"%: measured, {of['measurements']} of them",
        ),
        (
            "disturbed measurements",
            f"{percent(of['disturbed_quiet'])} on a quiet machine, {percent(of['disturbed_busy'])} "
            "on a busy one: measured",
        ),
        (
            "the driver, a measurement",
            f"{number(result['driver_ms_an_event'])} ms of CPU time, Ray's part included: measured",
        ),
        (
            f"the {result['kinds']} kinds",
            f"{low:g} to {high:g} times as slow as the measured CPU: **assumed**",
        ),
        (
            "lost workers",
            f"one in {1 / result['assumed']['lost_per_hour']:.0f} hours of a worker's measuring, "
            f"back after {result['assumed']['back_seconds']:.0f} s: **assumed**",
        ),
        (
            "boards",
            f"1 to {result['assumed']['board_slowness']:g} times as slow as the measured CPU: "
            "**assumed**",
        ),
    ]  # fmt: skip
    return markdown(("what", "value and where it is from"), rows)


def validation(result: Json) -> list[str]:
    rows = []
    for name, pair in result["measurement"]["against_measured"].items():
        made, real = pair["simulated"], pair["measured"]
        fitted = " (fitted to)" if name == "one worker" else ""
        rows.append(
            (
                name,
                duration(real["wall_seconds"]) + fitted,
                duration(made["seconds"]),
                str(real["rows"]),
                str(made["measurements"]),
            )
        )
    columns = ("fleet of 400 architectures", "measured", "simulated", "rows", "simulated rows")
    return markdown(columns, rows)


def fleets(result: Json) -> list[str]:
    rows = []
    for fleet in result["large_list"]["fleets"]:
        fast, slow = fleet["kinds"][0], fleet["kinds"][-1]
        kinds, workers = result["kinds"], fleet["workers_a_kind"]
        rows.append(
            (
                f"{workers} ({kinds * workers:,})",
                duration(fast["seconds"]),
                duration(slow["seconds"]),
                f"{slow['measurements']:,}",
                f"{slow['lost']}",
                percent(slow["busy_share"]),
            )
        )
    columns = (
        "workers a kind (in all)", "fastest kind", "slowest kind: the whole", "its measurements",
        "its lost workers", "its workers measure",
    )  # fmt: skip
    return markdown(columns, rows)


def cases(result: Json) -> list[str]:
    rows = [
        (
            name,
            duration(run["seconds"]),
            f"{run['measurements']:,}",
            str(run["lost"]),
            str(run["architectures_unusable"]),
            percent(run["busy_share"]),
        )
        for name, run in result["large_list"]["cases"].items()
    ]
    columns = (
        "one kind, as slow as the measured CPU", "time", "measurements", "lost workers",
        "architectures unusable", "workers measure",
    )  # fmt: skip
    return markdown(columns, rows)


def growth(result: Json) -> list[str]:
    rows = []
    for name, of in result["latkit"]["growth"].items():
        show: Callable[[float], str] = size if name.endswith("bytes") else number
        rows.append(
            (
                name.removesuffix(", bytes"),
                *(show(value) for value in of["values"]),
                f"{of['exponent']:.2f}",
                show(of["extrapolated"]),
                show(of["measured"]),
            )
        )
    sizes = [f"{row['n']:,}" for row in result["latkit"]["raw"]["driver"]]
    columns = ("step", *sizes[:-1], "exponent", f"{sizes[-1]} by the line", "measured")
    return markdown(columns, rows)


def whole(result: Json) -> list[str]:
    of, kinds = result["latkit"]["growth"], result["kinds"]
    driver = result["latkit"]["raw"]["driver"][-1]
    rows, message = driver["rows"], driver["message_bytes"]

    def both(one: float, show: Callable[[float], str] = size) -> tuple[str, str]:
        return show(one), show(kinds * one)

    disk, workers = (
        of[f"{name} on disk, bytes"]["measured"] for name in ("dataset", "workers' datasets")
    )
    table = [
        ("measurements", *both(rows, lambda value: f"{value:,.0f}")),
        ("dataset on disk", *both(disk)),
        ("the workers' datasets on disk, which stay", *both(workers)),
        ("results sent to the driver, without Ray's own", *both(rows * message)),
        ("memory of the driver for its list", *both(1e6 * of["driver, memory MB"]["measured"])),
        ("memory of the driver in all, at most (merging)",
         *both(1e6 * of["merge, peak MB"]["measured"])),
        ("CPU time of the driver",
         *both(rows * result["driver_ms_an_event"] / 1000, duration)),
        ("merge, CPU time", *both(of["merge, CPU s"]["measured"], duration)),
        ("`dataset check`, CPU time", *both(of["check, CPU s"]["measured"], duration)),
        ("`train-lpm`, CPU time", *both(of["train-lpm, CPU s"]["measured"], duration)),
        ("`train-lpm`, memory at most", *both(1e6 * of["train-lpm, peak MB"]["measured"])),
        ("an LPM in the registry", *both(result["latkit"]["raw"]["train"][-1]["bytes"])),
    ]  # fmt: skip
    return markdown(
        (f"{result['architectures']:,} architectures", "a kind", f"{kinds} kinds"), table
    )


def boards(result: Json) -> list[str]:
    of, registry = result["many_boards"], result["registry"][-1]
    count, bundle = of["boards"], result["bundle"]
    seconds = of["seconds_a_board"]
    commands = result["commands_a_board"]
    each = commands["import_cpu_seconds"] + commands["train_cpu_seconds"]
    journal = result["latkit"]["raw"]["driver"][-1]["journal_bytes_a_row"]
    rows = [
        ("time a board", f"{duration(seconds['least'])} to {duration(seconds['most'])}, "
                         f"median {duration(seconds['median'])}"),
        (f"all {count:,} boards, one after the other", duration(3600 * of["device_hours"])),
        ("measurements", f"{of['measurements']:,}"),
        ("boards with an architecture that only disturbed measurements have",
         f"{of['boards_with_unusable_architectures']:,}"),
        ("bundle, the same file for all boards of a runtime",
         f"{size(bundle['bytes'])}; to all boards {size(count * bundle['bytes'])}"),
        ("results of all boards, as rows of text", size(journal * of["measurements"])),
        ("`dataset import` and `train-lpm` of a board, two commands",
         f"{duration(each)} of CPU time, mostly their start; all boards {duration(count * each)}"),
        (f"an LPM from {result['source_devices']} source devices",
         f"{size(registry['transfer_bytes'])}; of all boards "
         f"{size(count * registry['transfer_bytes'])}"),
        ("an LPM without source devices",
         f"{size(registry['alone_bytes'])}; of all boards {size(count * registry['alone_bytes'])}"),
    ]  # fmt: skip
    return markdown((f"{count:,} boards", "value"), rows)


def registries(result: Json) -> list[str]:
    rows = [
        (
            f"{row['devices']:,}",
            f"{1000 * row['find_cpu_seconds']:.1f} ms",
            f"{row['train_cpu_seconds']:.2f} s",
            f"{row['list_cpu_seconds']:.2f} s",
        )
        for row in result["registry"]
    ]
    train = f"train and publish one from {result['source_devices']} others"
    columns = ("devices in the registry", "find an LPM", train, "list all with their cards")
    return markdown(columns, rows)


def merges(result: Json) -> list[str]:
    rows = [
        (
            f"{row['datasets']:,} of {row['rows'] // row['datasets']} rows",
            f"{row['open_cpu_seconds']:.2f} s",
            f"{row['merge_cpu_seconds']:.2f} s",
            f"{number(row['peak_mb'])} MB",
        )
        for row in result["merge_of_small_datasets"]
    ]
    return markdown(("datasets", "open", "merge", "memory at most"), rows)


TABLES: dict[str, Callable[[Json], list[str]]] = {
    table.__name__: table
    for table in (
        conditions, validation, fleets, cases, growth, whole, boards, registries, merges,
    )
}  # fmt: skip


def rewrite(text: str, result: Json) -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: the page has no place for one.
    """
    tables = {name: table(result) for name, table in TABLES.items()}
    return page_tables.rewrite(text, tables, SCRIPT)


def main() -> None:
    result = newest_result()
    page_tables.main(__doc__.splitlines()[0], PAGE, lambda text: rewrite(text, result), SCRIPT)


if __name__ == "__main__":
    main()
