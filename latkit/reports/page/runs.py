"""Searches, trainings and measurements as their files have them, with the types they need."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latkit.reports.page.blocks import Evidence
from latkit.reports.page.content import Content
from latkit.reports.page.inputs import Inputs
from latkit.search.config import SearchConfig

# Keys of a result.json beside which the one of the space's reference stands.
_NO_REFERENCE = {"found", "found_genotype", "searched_for", "measured", "target", "config",
                 "lpm_metrics"}  # fmt: skip


@dataclass(frozen=True)
class NetworkFacts:
    """A network at the end of a search; see ``latkit.search.result.NetworkResult``."""

    genotype: str
    predicted_ms: float | None
    predicted_std_ms: float | None
    measured_ms: float | None
    macs: float
    params: float

    @property
    def best_ms(self) -> float | None:
        """What was measured, or else what is predicted."""
        return self.predicted_ms if self.measured_ms is None else self.measured_ms


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes:
        name: what the user calls it, as it is shown.
        device: and the backend.
        space: that was searched.
        genotype: what was found, whole.
        found, reference: in the setting of the LPM.
        reference_name: of the latter.
        lpm: reference of the LPM.
        unit: of the objective.
        epochs: its history.
        epoch: from which the genotype is.
        accuracy: of the supernet in that epoch, on the half that trains α, from 0 to 1.
        collapsed: whether skip connections took over.
        on_target: None without a target.
        skip_reason: why nothing was measured.
        scaled: ``scaled down`` where the supernet is smaller than the paper's.
        elsewhere: of each other LPM of the registry, what it predicts in ms, and in what its
            setting differs.
        content: the file.
    """

    name: str
    device: str
    space: str
    genotype: str
    found: NetworkFacts
    reference: NetworkFacts | None
    reference_name: str
    lpm: str
    unit: str
    epochs: tuple[Content, ...]
    epoch: int
    accuracy: float | None
    collapsed: bool
    on_target: bool | None
    skip_reason: str | None
    scaled: Evidence | None
    elsewhere: tuple[tuple[str, float, tuple[str, ...]], ...]
    content: Content


def read_searches(inputs: Inputs) -> tuple[Search, ...]:
    """The searches among the inputs.

    Raises:
        InputError: a file lacks a field.
    """
    return tuple(_search(content) for content in inputs.searches)


def _search(content: Content) -> Search:
    reference_name = next(
        (
            name
            for name, value in content.value.items()
            if name not in _NO_REFERENCE and isinstance(value, dict) and "macs" in value
        ),
        None,
    )
    epochs = content.objects("epochs")
    epoch = int(content.optional_number("genotype_epoch") or len(epochs))
    of_epoch = next((row for row in epochs if row.get("epoch") == epoch), None)
    on_target = content.get("searched_for.on_target")
    return Search(
        name=shown_name(content.source),
        device=f"{content.text('target.device')} ({content.text('target.backend')})",
        space=content.text("target.space"),
        genotype=content.text("genotype"),
        found=_network(content.object("found")),
        reference=None if reference_name is None else _network(content.object(reference_name)),
        reference_name=reference_name or "reference",
        lpm=content.text("lpm"),
        unit=content.optional_text("searched_for.unit") or "ms",
        epochs=epochs,
        epoch=epoch,
        accuracy=None if of_epoch is None else of_epoch.optional_number("val_accuracy"),
        collapsed=content.get("collapsed") is True,
        on_target=on_target if isinstance(on_target, bool) else None,
        skip_reason=content.optional_text("measured.why_not"),
        scaled=_scaled(content),
        elsewhere=tuple(
            (row.text("lpm"), row.number("predicted_ms"),
             row.texts("setting_differences"))
            for row in content.objects("lpms")
            if row.optional_number("predicted_ms") is not None
        ),
        content=content,
    )  # fmt: skip


def shown_name(name: str) -> str:
    """What the user calls something, with four digits of a λ in it that has more."""
    return re.sub(r"\d+\.\d{5,}", lambda number: f"{float(number[0]):.4g}", name)


def _network(content: Content) -> NetworkFacts:
    now = content.optional_number("measured_ms")
    then = content.optional_number("measured_at_profile_speed_ms")
    return NetworkFacts(
        genotype=content.text("genotype"),
        predicted_ms=content.optional_number("predicted_ms"),
        predicted_std_ms=content.optional_number("predicted_std_ms"),
        # At the machine's speed when the LPM's dataset was measured, as predictions are.
        measured_ms=now if then is None else then,
        macs=content.number("macs"),
        params=content.number("params"),
    )


def _scaled(content: Content) -> Evidence | None:
    usual = SearchConfig()
    smaller = any(
        (content.optional_number(f"config.{name}") or getattr(usual, name)) < getattr(usual, name)
        for name in ("cells", "channels", "epochs")
    )
    limited = content.optional_number("config.limit") is not None
    return "scaled down" if smaller or limited else None


@dataclass(frozen=True)
class Training:
    """A training; see docs/formats.md for ``training.json``."""

    name: str
    genotype: str
    data: str
    params: float
    macs: float
    trained_on: str
    scaled: Evidence | None
    mean: float
    low: float | None
    high: float | None
    seeds: tuple[Content, ...]


def read_trainings(inputs: Inputs) -> tuple[Training, ...]:
    """The trainings among the inputs.

    Raises:
        InputError: a file lacks a field.
    """
    return tuple(
        Training(
            name=content.source,
            genotype=content.text("genotype"),
            data=content.optional_text("data.name") or "–",
            params=content.number("params"),
            macs=content.number("macs"),
            trained_on=content.optional_text("trained_on") or "–",
            scaled="scaled down" if content.get("scaled_down") else None,
            mean=content.number("test_error_percent.mean"),
            low=content.optional_number("test_error_percent.low"),
            high=content.optional_number("test_error_percent.high"),
            seeds=content.objects("seeds"),
        )
        for content in inputs.trainings
    )


@dataclass(frozen=True)
class MeasuredRow:
    """A network that was measured; see docs/formats.md for ``measurement.json``."""

    device: str
    name: str
    genotype: str | None
    batch: float
    precision: str
    latency_ms: float
    error_ms: float | None
    pause_ms: float | None
    content: Content

    @property
    def label(self) -> str:
        """Its name, with the batch and the pause where they are not the usual ones."""
        batch = "" if self.batch == 1 else f", batch {self.batch:.0f}"
        pause = f", after {self.pause_ms:g} ms" if self.pause_ms else ""
        return f"{self.name}{batch}{pause}"


def read_measurements(
    inputs: Inputs, cells: Mapping[str, str]
) -> tuple[tuple[Content, tuple[MeasuredRow, ...]], ...]:
    """The measurements among the inputs, each with its rows.

    Args:
        inputs: of the report.
        cells: letters of genotypes, by which those rows are called whose name is the genotype.

    Raises:
        InputError: a file lacks a field.
    """
    return tuple(
        (content, tuple(_row(content, row, cells) for row in content.objects("rows")))
        for content in inputs.measurements
    )


def _row(content: Content, row: Content, cells: Mapping[str, str]) -> MeasuredRow:
    name, genotype = row.text("name"), row.optional_text("genotype")
    if genotype is not None and name == genotype and genotype in cells:
        name = f"cell {cells[genotype]}"
    return MeasuredRow(
        device=f"{content.text('device')} ({content.text('backend')})",
        name=name,
        genotype=genotype,
        batch=row.optional_number("batch") or 1,
        precision=row.optional_text("precision") or "–",
        latency_ms=row.number("latency_ms"),
        error_ms=row.optional_number("error_ms"),
        pause_ms=row.optional_number("pause_ms"),
        content=row,
    )


def short_reference(reference: str) -> str:
    """An LPM's reference without backend and setting; a folder's name as it is."""
    match = re.fullmatch(r"([^/]+)/[^/]+/[^/+]+(\+\w+)?(@\d+)", reference)
    return reference if match is None else f"{match[1]}{match[2] or ''}{match[3]}"


def short_names(searches: Sequence[Search]) -> dict[str, str]:
    """Of each genotype a letter by which figures and tables call it: A, B, …"""
    genotypes = dict.fromkeys(search.genotype for search in searches)
    return {genotype: _letters(number) for number, genotype in enumerate(genotypes)}


def _letters(number: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    text = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("A") + digit) + text
    return text
