"""One page of whatever was measured, predicted, searched and trained, as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from latkit.core.errors import InputError, from_os_error
from latkit.core.events import SILENT, Listener
from latkit.core.files import write_atomically
from latkit.core.locks import sole_writer
from latkit.core.requests import set_paths
from latkit.reports.page.build import Report, build_report
from latkit.reports.page.inputs import UNDERSTOOD, read_inputs
from latkit.reports.page.render import FORMATS, render


@dataclass(frozen=True)
class ReportRequest:
    """What a report is made of, and where it is written.

    Attributes:
        inputs: paths and references of LPMs, one or several; see
            :data:`latkit.reports.page.inputs.UNDERSTOOD`.
        out: file.
        format: ``html``, ``md`` or ``json``; None: by the file's suffix.
        title: of the page.
        registry: URL of the LPMs; None: the default one.
    """

    inputs: str | Path | Sequence[str | Path]
    out: Path = Path("report.html")
    format: str | None = None
    title: str = "Latency report"
    registry: str | None = None

    def __post_init__(self) -> None:
        set_paths(self, "out")
        alone = isinstance(self.inputs, (str, Path))
        given = [self.inputs] if alone else list(self.inputs)  # type: ignore[arg-type]
        object.__setattr__(self, "inputs", tuple(map(str, given)))


@dataclass(frozen=True)
class ReportResult:
    """A report that was written.

    Attributes:
        file: where it is.
        format: one of ``FORMATS``.
        report: its numbers.
        nbytes: its size.
    """

    file: Path
    format: str
    report: Report
    nbytes: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "format": self.format,
            "bytes": self.nbytes,
            "inputs": [{"name": name, "kind": kind} for name, kind in self.report.inputs],
            "left_out": list(self.report.left_out),
            "best": {headline.device: headline.best for headline in self.report.headlines},
            "sections": [section.title for section in self.report.sections],
        }


def report(request: ReportRequest, listener: Listener = SILENT) -> ReportResult:
    """Write a report.

    Args:
        request: what it is made of.
        listener: receives a warning for what a searched folder holds that cannot be read.

    Raises:
        InputError: no input, one that is none of the kinds, a malformed file, an unknown format, or
            another process writes the report.
        LatkitError: a dataset, an LPM or a file cannot be read, or the report cannot be written.
    """
    format = _format(request)
    if not request.inputs:
        raise InputError("no input was named", f"name {UNDERSTOOD}")
    inputs = read_inputs([str(given) for given in request.inputs], request.registry, listener)  # type: ignore[union-attr]
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made = build_report(inputs, request.title, now)
    content = render(made, format).encode("utf-8", errors="replace")
    try:
        with sole_writer(request.out):
            write_atomically(request.out, lambda path: _write(path, content))
    except OSError as error:
        raise from_os_error(error, f"write {request.out}", "nothing was changed") from None
    return ReportResult(request.out, format, made, len(content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _format(request: ReportRequest) -> str:
    suffix = request.out.suffix.lower().removeprefix(".")
    format = request.format or {"htm": "html", "markdown": "md"}.get(suffix, suffix)
    if format not in FORMATS:
        raise InputError(
            f"{format or request.out.name!r} is no format of a report",
            f"end --out in .{', .'.join(FORMATS)}, or give --format",
        )
    return format
