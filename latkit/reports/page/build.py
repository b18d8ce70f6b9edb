"""From inputs to a report: the headlines and the sections in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from latkit.core.version import __version__
from latkit.reports.page.blocks import Headline, Section
from latkit.reports.page.data_sections import (
    device_section,
    latency_section,
    macs_section,
    quality_section,
)
from latkit.reports.page.headline import headlines
from latkit.reports.page.inputs import Inputs
from latkit.reports.page.lpm_sections import curve_section, lpm_section
from latkit.reports.page.retarget_sections import one_shot_section, retarget_section
from latkit.reports.page.run_sections import (
    benchmark_section,
    measurement_section,
    training_section,
)
from latkit.reports.page.runs import (
    read_measurements,
    read_searches,
    read_trainings,
    short_names,
)
from latkit.reports.page.search_sections import (
    cell_section,
    device_matrix_section,
    search_section,
    sweep_section,
)

KIND, FORMAT_VERSION = "report", 1


@dataclass(frozen=True)
class Report:
    """A report, as numbers.

    Attributes:
        title: of the page.
        created_at: UTC, ISO 8601.
        headlines: one a device.
        sections: in their order; those that there is nothing for are not there.
        inputs: of what was read, what the user calls it and its kind.
        left_out: why something in a searched folder was not read.
        latkit_version: that made it.
    """

    title: str
    created_at: str
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]
    inputs: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    latkit_version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "latkit_version": self.latkit_version,
            "title": self.title,
            "created_at": self.created_at,
            "inputs": [{"name": name, "kind": kind} for name, kind in self.inputs],
            "left_out": list(self.left_out),
            "headlines": [headline.to_dict() for headline in self.headlines],
            "sections": [section.to_dict() for section in self.sections],
        }


def build_report(inputs: Inputs, title: str, created_at: str) -> Report:
    """The report of some inputs.

    Raises:
        InputError: a file lacks a field.
        LatkitError: an LPM does not fit its dataset.
    """
    searches, trainings = read_searches(inputs), read_trainings(inputs)
    measurements = read_measurements(inputs, short_names(searches))
    sections = (
        device_section(inputs),
        quality_section(inputs),
        latency_section(inputs),
        macs_section(inputs),
        lpm_section(inputs),
        curve_section(inputs),
        search_section(searches, trainings),
        sweep_section(inputs.sweeps),
        one_shot_section(inputs.one_shots),
        retarget_section(inputs.retargets, trainings),
        cell_section(searches, inputs),
        device_matrix_section(searches, measurements),
        training_section(trainings, searches, measurements),
        measurement_section(measurements),
        benchmark_section(inputs.benchmarks),
    )
    return Report(
        title=title,
        created_at=created_at,
        headlines=headlines(
            inputs, searches, trainings, [row for _, rows in measurements for row in rows]
        ),
        sections=tuple(section for section in sections if section is not None),
        inputs=tuple(inputs.listed),
        left_out=tuple(inputs.left_out),
    )
