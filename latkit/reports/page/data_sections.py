"""Sections on datasets: the devices, the quality of measuring, latencies, and MACs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from latkit.reports.figures.charts import Trace
from latkit.reports.page.bins import EQUAL_SHARE, at_equal_macs, hexagons
from latkit.reports.page.blocks import (
    Block,
    Cell,
    Column,
    DensityFigure,
    Evidence,
    HistogramFigure,
    LinesFigure,
    Remark,
    Section,
    Table,
)
from latkit.reports.page.inputs import Inputs, MadeDataset

MOST_BINS = 60
# What people look for first in a fingerprint.
FIRST_FACTS = ("cpu", "gpu", "usable_cores", "memory_gb", "governor", "hypervisor", "system",
               "torch", "onnxruntime", "provider_version", "openvino", "litert", "tensorrt", "ncnn",
               "threads")  # fmt: skip
# Figure 2: by how much the fastest of equal FLOPs is often faster, in percent.
PUBLISHED_SPREAD = {"slowest": 32.0, "median": 8.0}


def evidence_of(dataset: MadeDataset) -> Evidence:
    """Whether its rows were measured, or made by a formula that it names as such."""
    manifest = dataset.dataset.manifest
    return evidence_in({**manifest.fingerprint, "origin": manifest.origin})


def evidence_in(facts: Mapping[str, Any]) -> Evidence:
    """What a fingerprint says of the numbers it belongs to."""
    text = json.dumps(facts, default=str).lower()
    return "simulated" if "simulated" in text or "made by formula" in text else "measured"


def device_section(inputs: Inputs) -> Section | None:
    """A card for each device: what it is, and its fingerprint."""
    prints: dict[tuple[str, str], Mapping[str, Any]] = {}
    settings: dict[tuple[str, str], dict[str, None]] = {}
    found: list[tuple[str, str, Mapping[str, Any], str]] = []
    for made in inputs.datasets:
        target = made.dataset.manifest.target
        found.append(
            (target.device, target.backend, made.dataset.manifest.fingerprint, target.setting.slug)
        )
    for lpm in inputs.lpms:
        target = lpm.target
        found.append((target.device, target.backend, lpm.card.fingerprint, target.setting.slug))
    for content in inputs.measurements:
        facts = content.get("fingerprint")
        found.append(
            (content.text("device"), content.text("backend"),
             facts if isinstance(facts, Mapping) else {}, "")
        )  # fmt: skip
    for device, backend, facts, setting in found:
        key = (device, backend)
        if len(facts) > len(prints.get(key, {})):
            prints[key] = facts
        prints.setdefault(key, facts)
        settings.setdefault(key, {})[setting] = None
    if not prints:
        return None
    shown: dict[tuple[str, str], dict[str, str]] = {}
    for key, facts in prints.items():
        setting = ", ".join(slug for slug in settings[key] if slug)
        # A fact that is null is unknown, or a variable that is not set.
        known = {name: str(value) for name, value in facts.items() if value is not None}
        shown[key] = {"backend": key[1], **({"setting": setting} if setting else {}), **known}
    names = dict.fromkeys(name for facts in shown.values() for name in facts)
    first = [name for name in ("backend", "setting", *FIRST_FACTS) if name in names]
    rest = sorted(set(names) - set(first))
    columns = (Column("fact"), *(Column(f"{device} ({backend})") for device, backend in prints))
    blocks: list[Block] = []
    for title, chosen, folded in (("What was used", first, False), ("Fingerprints", rest, True)):
        rows = tuple((name, *(facts.get(name) for facts in shown.values())) for name in chosen)
        if rows:
            blocks.append(Table(title, columns, rows, folded=folded))
    return Section("devices", "Devices", tuple(blocks))


def quality_section(inputs: Inputs) -> Section | None:
    """How well measurements repeat, how the machine drifted, and what disturbed it."""
    if not inputs.datasets:
        return None
    rows, blocks = [], list[Block]()
    for made in inputs.datasets:
        check, summary = made.check, made.check.summary
        history = [stretch.anchor_median_ms for stretch in check.anchor_history]
        drift = 100 * (max(history) / min(history) - 1) if history else None
        rows.append(
            (made.name, made.device, check.verdict, summary.architectures, summary.rows,
             summary.retest_sd_percent, summary.repeats, summary.error_percent,
             100 * check.disturbed_share, drift)
        )  # fmt: skip
    evidence = tuple(dict.fromkeys(evidence_of(made) for made in inputs.datasets))
    columns = (
        Column("dataset"), Column("device"), Column("verdict"),
        Column("architectures", evidence, 0), Column("measurements", evidence, 0),
        Column("retest sd %", evidence, 2), Column("from repeats", evidence, 0),
        Column("error of a mean %", evidence, 2), Column("disturbed %", evidence, 1),
        Column("anchor drift %", evidence, 1),
    )  # fmt: skip
    blocks.append(
        Table(
            "How well measurements repeat",
            columns,
            tuple(rows),
            note="retest sd: relative standard deviation of one measurement, from architectures "
            "measured again; anchor drift: how far the machine's own speed moved, which "
            "alternation with the anchor takes out of the latencies",
        )
    )
    for made in inputs.datasets:
        reasons = ", ".join(
            f"{name} {count}" for name, count in sorted(made.check.rows_by_reason.items())
        )
        if reasons:
            text = f"{made.name}: disturbed measurements by reason: {reasons}."
            blocks.append(Remark(text, (evidence_of(made),)))
        if made.dataset.manifest.anchor is None:
            text = f"{made.name} was imported: how it was measured is not known here."
            blocks.append(Remark(text))
        blocks += [
            Remark(f"{made.name}: {finding.text}.", (), finding.level == "unfit")
            for finding in made.check.findings
        ]
        blocks += _drift(made)
    return Section("quality", "Measuring quality", tuple(blocks))


def _drift(made: MadeDataset) -> Iterator[Block]:
    history = made.check.anchor_history
    if len(history) > 1:
        times = tuple(stretch.anchor_median_ms for stretch in history)
        yield LinesFigure(
            title=f"The anchor's latency while {made.name} was measured",
            description=f"Median latency of the anchor network in {len(history)} stretches of "
            f"measurements in their order, from {history[0].start} to {history[-1].end}: "
            f"{min(times):.3g} to {max(times):.3g} ms.",
            evidence=(evidence_of(made),),
            x_label="stretch of measurements, in order",
            y_label="anchor, ms",
            traces=(Trace("", tuple(range(1, len(times) + 1)), times, points=len(times) < 30),),
        )


def latency_section(inputs: Inputs) -> Section | None:
    """A histogram for each dataset."""
    blocks: list[Block] = []
    for made in inputs.datasets:
        latency = made.dataset.usable()["latency_ms"].to_numpy()
        if not len(latency):
            continue
        bins = int(np.clip(np.sqrt(len(latency)) * 1.5, 8, MOST_BINS))
        counts, edges = np.histogram(latency, bins=bins)
        low, median, high = (float(v) for v in np.quantile(latency, (0.05, 0.5, 0.95)))
        blocks.append(
            HistogramFigure(
                title=f"Latencies on {made.device}",
                description=f"Histogram of the latencies of {len(latency):,} architectures in "
                f"{made.name}: from {latency.min():.3g} to {latency.max():.3g} ms, the median "
                f"{median:.3g} ms; nine of ten lie between {low:.3g} and {high:.3g} ms.",
                evidence=(evidence_of(made),),
                label="latency, ms",
                edges=tuple(edges.tolist()),
                counts=tuple(counts.tolist()),
                marks=((f"median {median:.3g} ms", median),),
            )
        )
    return Section("latencies", "Latencies", tuple(blocks)) if blocks else None


def macs_section(inputs: Inputs) -> Section | None:
    """Figure 2 of the paper: MACs do not decide the latency."""
    blocks: list[Block] = []
    for made in inputs.datasets:
        blocks += _macs(made)
    return Section("macs", "MACs against latency", tuple(blocks)) if blocks else None


def _macs(made: MadeDataset) -> Iterator[Block]:
    usable = made.dataset.usable()
    latency = usable["latency_ms"].to_numpy()
    macs = usable["macs"].to_numpy().astype(np.float64)
    if not len(latency):
        return
    found, size = hexagons(macs / 1e6, latency)
    groups = at_equal_macs(macs, latency)
    x = tuple(group.macs / 1e6 for group in groups)
    traces: tuple[Trace, ...] = ()
    if len(groups) > 1:
        traces = tuple(
            Trace(name, x, tuple(getattr(group, f"{name}_ms") for group in groups))
            for name in ("slowest", "median", "fastest")
        )
    evidence: Evidence = evidence_of(made)
    spearman = _spearman(macs, latency)
    ranks = "" if spearman is None else f" Their ranks correlate by {spearman:.2f} (Spearman)."
    yield DensityFigure(
        title=f"MACs against latency on {made.device}",
        description=f"{len(latency):,} architectures of {made.name} by multiply-adds and latency; "
        f"the stronger a hexagon, the more of them.{ranks}"
        + (" Lines: the slowest, the median and the fastest at equal MACs." if traces else ""),
        evidence=(evidence, "counted"),
        x_label="MACs, M",
        y_label="latency, ms",
        hexagons=found,
        size=size,
        traces=traces,
    )
    if not groups:
        yield Remark(
            f"{made.name}: too few architectures of equal MACs to compare the fastest with others."
        )
        return
    # Printed of the DARTS space alone.
    published = PUBLISHED_SPREAD if made.dataset.manifest.target.space == "darts" else {}
    rows: list[tuple[Cell, ...]] = []
    for name, attribute in (
        ("slowest", "below_slowest_percent"),
        ("median", "below_median_percent"),
    ):
        gains = [getattr(group, attribute) for group in groups]
        beside = (published[name],) if published else ()
        rows.append((f"than the {name}", float(np.median(gains)), max(gains), *beside))
    columns = [
        Column("the fastest is faster"), Column("median, %", (evidence,), 1),
        Column("at most, %", (evidence,), 1),
    ]  # fmt: skip
    if published:
        columns.append(Column("paper, P100, often, %", ("published",), 0))
    yield Table(
        f"How much faster the fastest is at equal MACs, on {made.device}",
        tuple(columns),
        tuple(rows),
        note=f"over {len(groups)} groups of {sum(g.architectures for g in groups):,} architectures "
        f"whose MACs differ by at most {100 * EQUAL_SHARE:.0f} %; the extremes of larger groups "
        "are farther apart",
    )
    details = (
        Column("MACs, M", ("counted",), 2), Column("architectures", (evidence,), 0),
        Column("fastest, ms", (evidence,), 3), Column("median, ms", (evidence,), 3),
        Column("slowest, ms", (evidence,), 3), Column("below slowest, %", (evidence,), 1),
        Column("below median, %", (evidence,), 1),
    )  # fmt: skip
    yield Table(
        f"Latencies at equal MACs on {made.device}",
        details,
        tuple(
            (g.macs / 1e6, g.architectures, g.fastest_ms, g.median_ms, g.slowest_ms,
             g.below_slowest_percent, g.below_median_percent)
            for g in groups
        ),
        folded=True,
    )  # fmt: skip


def _spearman(x: Any, y: Any) -> float | None:
    from scipy import stats

    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(stats.spearmanr(x, y).statistic)
