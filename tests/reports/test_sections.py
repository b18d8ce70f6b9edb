"""The numbers of a report, against inputs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latkit.registry import Registry
from latkit.reports.page.bins import at_equal_macs, hexagons, strips
from latkit.reports.page.blocks import Column, Figure, Headline, Section, Table
from latkit.reports.page.build import Report, build_report
from latkit.reports.page.inputs import read_inputs
from latkit.reports.page.lpm_sections import judge_on
from latkit.spaces.darts.zoo import ZOO
from tests.support import report_files
from tests.support.synthetic import formula_ms, made_dataset, made_lpm

WHEN = "2026-11-27T00:00:00+00:00"


def report_of(*given: object) -> Report:
    return build_report(read_inputs([str(one) for one in given]), "made", WHEN)


def section(report: Report, key: str) -> Section:
    return next(section for section in report.sections if section.key == key)


def table(report: Report, key: str, number: int = 0) -> Table:
    return [block for block in section(report, key).blocks if isinstance(block, Table)][number]


def figure(report: Report, key: str, number: int = 0) -> Figure:
    return [block for block in section(report, key).blocks if isinstance(block, Figure)][number]


def row(of: Table, number: int = 0) -> dict[str, Any]:
    return dict(zip([column.name for column in of.columns], of.rows[number], strict=True))


def evidence(of: Table) -> dict[str, tuple[str, ...]]:
    return {column.name: column.evidence for column in of.columns}


class TestBins:
    def test_hexagons_count_each_point_once(self) -> None:
        x, y = np.random.default_rng(0).normal(size=(2, 3000))
        found, (across, up) = hexagons(x, y)
        assert sum(h.count for h in found) == 3000
        # Each point is in the hexagon whose middle is nearest.
        middles = np.array([(h.x / across, h.y / up * 3**0.5) for h in found])
        for px, py in zip(x[:50] / across, y[:50] / up * 3**0.5, strict=True):
            assert ((middles - (px, py)) ** 2).sum(1).min() <= 4 + 1e-9

    def test_of_one_value(self) -> None:
        (only,), size = hexagons(np.full(5, 2.0), np.full(5, 3.0))
        assert (only.x, only.y, only.count) == (2.0, 3.0, 5)
        assert min(size) > 0

    def test_equal_macs(self) -> None:
        macs = np.array([100.0] * 5 + [200.0] * 6 + [300.0] * 4)
        latency = np.array([10, 8, 9, 12, 11, 20, 15, 30, 25, 22, 18, 1, 2, 3, 4], dtype=float)
        first, second = at_equal_macs(macs, latency)
        assert (first.macs, first.architectures) == (100, 5)
        assert (first.fastest_ms, first.median_ms, first.slowest_ms) == (8, 10, 12)
        assert first.below_slowest_percent == pytest.approx(100 / 3)
        assert first.below_median_percent == pytest.approx(20)
        assert (second.fastest_ms, second.median_ms, second.slowest_ms) == (15, 21, 30)

    def test_strips(self) -> None:
        made = strips(np.arange(48.0), np.arange(48.0) * 2, count=24)
        assert [strip.count for strip in made] == [2] * 24
        assert (made[0].x, made[0].mean) == (0.5, 1.0)


def test_a_dataset(tmp_path: Path) -> None:
    made = made_dataset(tmp_path / "d", 200)
    report = report_of(tmp_path / "d")
    latency = formula_ms(made.usable()["arch_id"].to_numpy())
    quality = row(table(report, "quality"))
    assert quality["architectures"] == 200
    assert quality["disturbed %"] == 0
    assert quality["retest sd %"] is None
    # Made by formula, which the fingerprint says.
    assert evidence(table(report, "quality"))["architectures"] == ("simulated",)
    histogram = figure(report, "latencies")
    _, bins = histogram.data()
    assert sum(int(count) for _, _, count in bins) == 200  # type: ignore[arg-type]
    assert (bins[0][0], bins[-1][1]) == (pytest.approx(latency.min()), pytest.approx(latency.max()))
    assert f"{np.median(latency):.3g} ms" in histogram.description
    spread = table(report, "macs")
    groups = at_equal_macs(made.usable()["macs"].to_numpy().astype(float), latency)
    expected = np.median([group.below_slowest_percent for group in groups])
    assert row(spread)["median, %"] == pytest.approx(expected)
    assert row(spread)["paper, P100, often, %"] == 32
    assert evidence(spread)["paper, P100, often, %"] == ("published",)
    (headline,) = report.headlines
    assert headline.device == "formula (torch-cpu)"
    assert headline.numbers[0].value == pytest.approx(latency.min())
    # Rows made by formula share their moments, which is unfit, as the reasons say.
    assert (headline.confidence, headline.reasons[0].warns) == ("low", True)


def test_an_lpm_on_its_dataset(tmp_path: Path) -> None:
    trained = made_lpm(tmp_path / "d")
    Registry().publish(trained.lpm, trained.card)
    inputs = read_inputs([str(tmp_path / "d"), "formula"])
    judged = judge_on(inputs.lpms[0], inputs.datasets[0])
    assert judged is not None
    # The very rows that its card was made of.
    assert judged.held_out
    assert judged.metrics.n_test == trained.card.metrics["n_test"]
    assert judged.metrics.mape_percent == pytest.approx(trained.card.metrics["mape_percent"])
    assert judged.covered_percent == pytest.approx(trained.card.metrics["coverage_90"])
    report = build_report(inputs, "made", WHEN)
    names, rows = figure(report, "lpms").data()
    assert names == ("name", "measured, ms", "predicted, ms", "low", "high")
    assert len(rows) == judged.metrics.n_test
    for (_, _, predicted, low, high), width in zip(rows, judged.half_width, strict=True):
        assert (high - low) / 2 == pytest.approx(width)  # type: ignore[operator]
        assert (high + low) / 2 == pytest.approx(predicted)  # type: ignore[operator]
    assert row(table(report, "lpms"))["held out"] == judged.metrics.n_test
    # Of another dataset of the target it is not known.
    made_dataset(tmp_path / "other", 40)
    other = read_inputs([str(tmp_path / "other")]).datasets[0]
    judged = judge_on(inputs.lpms[0], other)
    assert judged is not None
    assert not judged.held_out
    assert len(judged.measured) == 40


def test_searches(tmp_path: Path) -> None:
    report = report_of(report_files.write(tmp_path / "s" / "result.json", report_files.search()))
    found = row(table(report, "searches"))
    assert (found["predicted, ms"], found["± ms"], found["measured, ms"]) == (20, 0.5, 21)
    reference = row(table(report, "searches"), 1)
    assert (reference["search"], reference["predicted, ms"], reference["measured, ms"]) == (
        "darts_v2", 30, 31.5
    )  # fmt: skip
    assert "test error, %" not in found
    assert found["supernet accuracy, %"] == 60
    kinds = evidence(table(report, "searches"))
    assert kinds["predicted, ms"] == ("predicted",)
    assert kinds["measured, ms"] == ("measured",)
    assert kinds["supernet accuracy, %"] == ("measured",)
    _, history = figure(report, "searches", 0).data()
    assert [(x, y) for _, x, y, _, _ in history] == [(1, 30), (2, 60)]
    cells = [b for b in section(report, "cells").blocks if isinstance(b, Figure)]
    assert [cell.title.rpartition(": ")[2] for cell in cells] == ["normal cell", "reduction cell"]
    (headline,) = report.headlines
    assert "1.50 times as fast as darts_v2 (measured)" in headline.best
    assert [(n.value, n.evidence) for n in headline.numbers[:2]] == [
        (21, ("measured",)), (20, ("predicted",))
    ]  # fmt: skip
    # 20 predicted with ± 0.5, 21 measured: just within twice the ±.
    assert headline.confidence == "high"


@pytest.mark.parametrize(
    ("changes", "confidence", "reason"),
    [
        ({"found": report_files.network("gdas", 20.0, None),
          "measured": {"why_not": "other machine"}}, "fair", "other machine"),
        ({"found": report_files.network("gdas", 20.0, 25.0)}, "fair", "20.0 %"),
        ({"collapsed": True}, "low", "collapsed"),
        ({"measured": {"visits": 8, "visits_disturbed": 6}}, "fair", "6 of 8"),
        ({"config": {"cells": 3, "channels": 16, "epochs": 50}}, "fair", "scaled down"),
    ],
)  # fmt: skip
def test_how_sure(tmp_path: Path, changes: dict[str, Any], confidence: str, reason: str) -> None:
    path = tmp_path / "s" / "result.json"
    (headline,) = report_of(report_files.write(path, report_files.search(**changes))).headlines
    assert headline.confidence == confidence
    assert any(reason in one.text for one in headline.reasons)


def test_the_best_of_several(tmp_path: Path) -> None:
    """The more accurate of what is not slower than the reference; by test error where trained."""

    def headline() -> Headline:
        return report_of(tmp_path).headlines[0]

    epochs = [{"epoch": 2, "val_accuracy": 0.9}]
    slow = report_files.network("gdas", 40.0, 41.0)
    fast = report_files.network("darts_v1", 10.0, 11.0)
    write = report_files.write
    write(tmp_path / "a" / "result.json", report_files.search(epochs=epochs, found=slow))
    write(tmp_path / "b" / "result.json", report_files.search("darts_v1", found=fast))
    write(tmp_path / "c" / "result.json", report_files.search("snas_mild"))
    assert headline().numbers[0].value == 11
    for name, error in (("gdas", 9.0), ("darts_v1", 8.0), ("snas_mild", 7.0)):
        write(tmp_path / f"t-{name}" / "training.json", report_files.training(name, error))
    best = headline()
    assert "lowest test error" in best.best
    assert best.numbers[2].value == 7
    assert best.numbers[2].evidence == ("measured", "scaled down")
    assert best.numbers[2].spread == 1


def test_a_sweep(tmp_path: Path) -> None:
    report = report_of(report_files.write(tmp_path / "w" / "sweep.json", report_files.sweep()))
    chart = figure(report, "pareto")
    _, rows = chart.data()
    assert [(name, x, y) for name, x, y, _, _ in rows] == [
        ("a", 20, 70), ("b", 25, pytest.approx(60)), ("c", 30, 90)
    ]  # fmt: skip
    assert "20 ms at 70.0 %, 30 ms at 90.0 %" in chart.description
    assert [r[1] for r in table(report, "pareto").rows] == ["yes", "no", "yes"]
    assert any("it failed" in getattr(b, "text", "") for b in section(report, "pareto").blocks)


def test_cells_on_other_devices(tmp_path: Path) -> None:
    """A found for "formula", B for "other"; both measured on both, and predicted by both LPMs."""
    a = report_files.search(
        lpms=[{"lpm": "other/torch-cpu/x@1", "predicted_ms": 7.0, "setting_differences": []}]
    )
    b = report_files.search("darts_v1", device="other")
    report_files.write(tmp_path / "a" / "result.json", a)
    report_files.write(tmp_path / "b" / "result.json", b)
    for device, times in (("formula", (12.0, 15.0)), ("other", (9.0, 6.0))):
        rows = [
            report_files.measured_row("x", ms, genotype=content["genotype"])
            for content, ms in zip((a, b), times, strict=True)
        ]
        content = report_files.measurement(device, rows=rows)
        report_files.write(tmp_path / f"m-{device}" / "measurement.json", content)
    report = report_of(tmp_path)
    measured, predicted = table(report, "matrix", 0), table(report, "matrix", 1)
    names = ("formula (torch-cpu), ms", "other (torch-cpu), ms")
    assert [tuple(row(measured, n)[name] for name in names) for n in (0, 1)] == [(12, 9), (15, 6)]
    assert row(predicted)[names[1]] == 7.0
    assert set(evidence(measured).values()) == {(), ("measured",)}
    assert set(evidence(predicted).values()) == {(), ("predicted",)}
    # The least of a column is not shaded, and half as much again is darker.
    assert measured.shade(0, 1) == 0
    assert measured.shade(0, 2) == 4


def test_trainings(tmp_path: Path) -> None:
    path = report_files.write(tmp_path / "t" / "training.json", report_files.training())
    report = report_of(path)
    first = row(table(report, "trainings"))
    assert (first["test error, %"], first["from, %"], first["to, %"]) == (20, 19, 21)
    assert evidence(table(report, "trainings"))["test error, %"] == ("measured", "scaled down")
    _, rows = figure(report, "trainings").data()
    assert [(name, x, y) for name, x, y, _, _ in rows[:2]] == [("seed 0", 1, 30), ("seed 0", 2, 20)]
    assert report.headlines == ()


def test_a_one_shot_search(tmp_path: Path) -> None:
    report = report_of(report_files.write(tmp_path / "o" / "result.json", report_files.one_shot()))
    shown = row(table(report, "one-shot"))
    assert (shown["sub-networks"], shown["median, %"], shown["Spearman"]) == (40, 30, 0.7)
    assert (shown["Kendall tau"], shown["Spearman of MACs"]) == (0.5, 0.4)
    assert evidence(table(report, "one-shot"))["Spearman"] == ("measured", "scaled down")
    for number, values in enumerate(([20, 40], [2, 1])):
        _, rows = figure(report, "one-shot", number).data()
        assert [y for _, _, y, _, _ in rows] == values


def test_what_was_retargeted(tmp_path: Path) -> None:
    report_files.write(tmp_path / "r" / "result.json", report_files.retargeted())
    report_files.write(tmp_path / "t" / "training.json", report_files.training(mean=20.0))
    report = report_of(tmp_path)
    shown = table(report, "retarget")
    names = [column.name for column in shown.columns]
    assert [names[3], names[5], names[7]] == [
        "formula@1: predicted, ms", "corrected, ms", "measured, ms"
    ]  # fmt: skip
    assert [cells[0] for cells in shown.rows] == ["p1", "p2", "m1"]
    assert [cells[7] for cells in shown.rows] == [11.5, None, 30]
    assert [cells[-2] for cells in shown.rows] == [20, None, None]
    assert shown.rows[2][-1] == "number 3"
    kinds = [column.evidence for column in shown.columns]
    assert kinds[1] == kinds[3] == kinds[5] == ("predicted",)
    assert kinds[7] == ("measured",)
    chart = figure(report, "retarget")
    assert chart.evidence == ("predicted", "measured")
    # Measured where it was, else corrected; the bars are the accuracy's.
    assert [(r[0], r[1], r[2], r[3], r[4]) for r in chart.data()[1]] == [
        ("p1", 11.5, 30, 28, 32), ("p2", 21, 40, 38, 42), ("m1", 30, 35, 33, 37)
    ]  # fmt: skip
    assert any(getattr(b, "warns", False) for b in section(report, "retarget").blocks)
    (headline,) = report.headlines
    assert [(n.value, n.evidence) for n in headline.numbers[:3]] == [
        (20, ("predicted",)), (21, ("predicted",)), (40, ("predicted",))
    ]  # fmt: skip
    assert headline.confidence == "low"


def test_searches_of_several_units_have_a_figure_each(tmp_path: Path) -> None:
    macs = {**report_files.search()["searched_for"], "unit": "MMACs"}
    folders = [tmp_path / "lambda-0.123456789", tmp_path / "m"]
    for folder, changes in zip(folders, ({}, {"searched_for": macs}), strict=True):
        report_files.write(folder / "result.json", report_files.search(**changes))
    report = report_of(*folders)
    titles = [b.title for b in section(report, "searches").blocks if isinstance(b, Figure)]
    assert titles[2:] == [
        f"Expected cost under α in {unit}, epoch by epoch" for unit in ("ms", "MMACs")
    ]
    # Digits that nobody reads are left out.
    assert row(table(report, "searches"))["search"] == str(tmp_path / "lambda-0.1235")


def test_trained_and_measured_networks_that_were_found(tmp_path: Path) -> None:
    """The cell's letter and its error stand in each other's tables, and one figure has both."""
    report_files.write(tmp_path / "s" / "result.json", report_files.search())
    for name, mean in (("gdas", 20.0), ("darts_v2", 19.0)):
        content = report_files.training(name, mean)
        report_files.write(tmp_path / name / "training.json", content)
    rows = [
        report_files.measured_row(name, latency_ms, genotype=str(ZOO[name]))
        for name, latency_ms in (("darts_v2", 15.0), ("darts_v1", 9.0))
    ]
    # As a network is called that is measured by its genotype.
    gdas = str(ZOO["gdas"])
    rows.append(report_files.measured_row(gdas, 12.0, genotype=gdas))
    report_files.write(
        tmp_path / "m" / "measurement.json", report_files.measurement(rows=rows)
    )  # fmt: skip
    report = report_of(tmp_path)
    assert [row(table(report, "searches"), n)["test error, %"] for n in (0, 1)] == [20, 19]
    cells = {row(table(report, "trainings"), n)["cell"] for n in (0, 1)}
    assert cells == {"A", None}
    _, points = figure(report, "trainings").data()
    shown = {(name.rpartition("/")[2], x, y) for name, x, y, _, _ in points}
    assert shown == {("A", 12, 20), ("darts_v2", 15, 19)}
    assert row(table(report, "measurements"), 2)["network"] == "cell A"


def test_measurements(tmp_path: Path) -> None:
    rows = [report_files.measured_row("net", 10.0 * batch, batch=batch) for batch in (1, 4)]
    rows += report_files.measurement()["rows"]
    content = report_files.measurement(rows=rows)
    report = report_of(report_files.write(tmp_path / "m" / "measurement.json", content))
    shown = table(report, "measurements")
    darts = row(shown, 2)
    assert (darts["latency, ms"], darts["± ms"], darts["published, ms"]) == (10, 0.1, 28.5)
    assert (darts["params, M"], darts["MACs, M"]) == (3, 500)
    assert evidence(shown)["published, ms"] == ("published",)
    assert "Tesla P100" in shown.note
    # Nobody measured an energy.
    assert "energy, mJ" not in row(shown)
    layers = table(report, "measurements", 1)
    assert row(layers) == {"operator": "Conv", "count": 3, "ms": 9, "share, %": 90}
    assert "90 %" in layers.note
    _, rates = figure(report, "measurements", 1).data()
    assert [(name, x) for name, x, *_ in rates] == [("net", 1), ("net", 4)]
    (headline,) = report.headlines
    assert "fastest of 3" in headline.best
    # Two networks take 10 ms, so nobody knows which is faster.
    assert headline.confidence == "fair"
    assert any("cannot be told apart" in reason.text for reason in headline.reasons)


def test_a_learning_curve(tmp_path: Path) -> None:
    report = report_of(report_files.write(tmp_path / "fit.json", report_files.fit()))
    _, rows = figure(report, "learning").data()
    assert [(x, y) for _, x, y, _, _ in rows] == [(10, 8), (100, 4)]
    published = table(report, "learning", 1)
    assert row(published, 4) == {"trained on": 80_000, "MAE, ms": 0.82, "MAPE, %": 3.45}
    assert set(evidence(published).values()) == {("published",)}


def test_a_benchmark(tmp_path: Path) -> None:
    report = report_of(report_files.write(tmp_path / "b.json", report_files.benchmark()))
    numbers = table(report, "benchmarks")
    assert dict(numbers.rows) == {
        "results › a › ms": 1.25,
        "results › b › 1": 2,
        "results › b › 2": 3,
    }
    assert evidence(numbers)["value"] == ("simulated",)


def test_an_lpm_alone() -> None:
    report = report_of("p100")
    (headline,) = report.headlines
    assert headline.device == "p100 (torch-cuda)"
    assert headline.confidence == "low"
    assert any("11 latencies" in reason.text for reason in headline.reasons)


def test_cells_of_tables() -> None:
    assert Column("x", (), 2).show(1234.5) == "1,234.50"
    assert Column("x").show(None) == "–"
    assert Column("x", (), 0).show("text") == "text"
