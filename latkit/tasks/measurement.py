"""Measure any networks: genotypes, models, files; and the latency columns of the paper's tables."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.backends import Backend
from latkit.backends.base import fingerprint
from latkit.core.device import check_device_name, pinned_to
from latkit.core.errors import BackendError, InputError, LatkitError, SpaceError
from latkit.core.events import SILENT, Listener, Progress
from latkit.dataset import LatencyDataset, Manifest, Target
from latkit.dataset.flags import is_gpu_flag
from latkit.dataset.writer import DatasetWriter
from latkit.profiling.anchor import anchor_name
from latkit.profiling.loop import is_measured
from latkit.profiling.protocol import Protocol, choose_clock
from latkit.profiling.session import Session
from latkit.spaces import Setting
from latkit.spaces.models.space import ModelsConfig, model_id
from latkit.tasks.choices import choose_backend, choose_device
from latkit.tasks.measure_request import MeasureRequest
from latkit.tasks.measurement_file import MeasuredRow, estimates, read_rows, write_rows
from latkit.tasks.measuring import Measurer
from latkit.tasks.paper_tables import PublishedRow, get_table
from latkit.tasks.subjects import Subject, read_subjects, row_text


@dataclass(frozen=True)
class Failure:
    """What could not be measured, and why; the others' results are kept."""

    what: str
    error: LatkitError

    def to_dict(self) -> dict[str, str]:
        return {"what": self.what, **self.error.to_dict()}


@dataclass(frozen=True)
class MeasureResult:
    """What was measured.

    Attributes:
        out: the folder: a dataset with ``measurement.json`` in it.
        device, backend, hardware: what measured.
        table: of the paper, if one was requested.
        rows: those of this request, in its order.
        failures: what could not be measured.
    """

    out: Path
    device: str
    backend: str
    hardware: str
    table: str | None
    rows: tuple[MeasuredRow, ...]
    failures: tuple[Failure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("device", "backend", "hardware", "table")},
            "out": str(self.out),
            "rows": [row.to_dict() for row in self.rows],
            "failures": [failure.to_dict() for failure in self.failures],
        }


def run_measure(request: MeasureRequest, listener: Listener = SILENT) -> MeasureResult:
    """Measure networks side by side, each in alternation with one anchor network.

    Rows that the folder holds already are not measured again, so that the same request goes on
    where an interrupted one stopped. What cannot be measured is a failure in the result, and a
    warning at once; it is raised where nothing else could be measured either.

    Raises:
        InputError: the request does not fit this machine, or nothing in it can be measured.
        BackendError: the backend is unusable here, or nothing runs on it; there is no meter.
        DatasetError: the folder holds something else, or a file in it is corrupt.
        LatkitError: the folder cannot be written.
    """
    if request.device is not None:
        check_device_name(request.device)
    protocol = request.get_protocol()
    backend_class = choose_backend(request.backend, listener, request.provider_library)
    setting = request.get_setting(backend_class)
    with backend_class(threads=request.threads) as backend:
        backend.check_setting(setting)
        choose_clock(protocol.clock, backend.clock)
        hardware = backend.hardware_name()
        device = choose_device(request.device, backend, listener)
        out = request.out or Path("measurements", device, backend.name)
        task = _Task(request, backend, setting, protocol, device, out, listener)
        with pinned_to(protocol.cores):
            rows = task.run()
    if not rows and task.failures:
        raise task.failures[0].error
    return MeasureResult(
        out, device, backend.name, hardware, request.table, tuple(rows), tuple(task.failures)
    )


@dataclass
class _Task:
    """A request being measured."""

    request: MeasureRequest
    backend: Backend
    setting: Setting
    protocol: Protocol
    device: str
    out: Path
    listener: Listener

    def __post_init__(self) -> None:
        self.failures: list[Failure] = []
        self.protocol = dataclasses.replace(self.protocol, threads=self.backend.threads)

    def run(self) -> list[MeasuredRow]:
        """Measure all; the rows of this request."""
        request, backend = self.request, self.backend
        meter = backend.open_meter() if request.energy else None
        # Refused before anything is built: a folder of something else.
        rows = {row.arch: row for row in read_rows(self.out)}
        plan = {  # each once, whatever it is called
            row_text(subject, int(batch), float(pause)): (subject, int(batch), float(pause))
            for subject in self._subjects()
            for batch in request.batch or (subject.batch,)
            for pause in request.pause_ms
        }
        if not plan:
            return []
        network = ModelsConfig(resolution=self.setting.resolution, classes=self.setting.classes)
        manifest = Manifest(
            Target("models", self.device, backend.name, Setting(network, self.setting.run)),
            dict(fingerprint(backend)) | ({"energy_meter": meter.name} if meter else {}),
            self.protocol.to_dict(),
            request.seed,
            f"{anchor_name(self.setting)} in {self.setting.slug}",
            requested=len({*rows, *plan}),
            metrics=backend.metrics,
        )
        head = {
            "device": self.device,
            "backend": backend.name,
            "hardware": backend.hardware_name(),
            "fingerprint": manifest.fingerprint,
            "protocol": self.protocol.to_dict(),
            "table": request.table,
        }
        with DatasetWriter(self.out, manifest) as writer:
            kept = {arch_id for arch_id, _ in writer.done}
            rows = {text: row for text, row in rows.items() if model_id(text) in kept}
            with contextlib.ExitStack() as stack:
                session: Session | None = None
                for index, (text, (subject, batch, pause_ms)) in enumerate(plan.items()):
                    if not _is_done(rows.get(text), request):
                        if session is None:  # the anchor is built only if something is measured
                            session = stack.enter_context(
                                Session(backend, self.setting, self.protocol)
                            )
                        measurer = Measurer(session, writer, request, meter)
                        try:
                            rows[text] = measurer.measure(subject, batch, pause_ms, text)
                        except (BackendError, InputError, SpaceError) as error:
                            self._fail(subject.what, error)
                            continue
                        rows = self._settled(rows)
                        write_rows(self.out, head, rows.values())
                    self._report(index + 1, len(plan), rows[text])
            self.listener.end_progress()
        if rows:
            rows = self._settled(rows)
            write_rows(self.out, head, rows.values())
        return [rows[text] for text in plan if text in rows]

    def _subjects(self) -> Iterator[Subject]:
        """What can be read of the request; the rest are failures."""
        listed: list[tuple[str, PublishedRow | None]] = [(w, None) for w in self.request.what]
        if self.request.table is not None:
            listed += [(row.what, row) for row in get_table(self.request.table)]
        for what, published in listed:
            given = self.request.input
            if published is not None:
                size = self.setting.resolution
                given = (f"{self.setting.batch}x3x{size}x{size}",)
            try:
                yield from read_subjects(what, self.setting, given, self.request.seed, published)
            except LatkitError as error:
                self._fail(what, error)

    def _settled(self, rows: dict[str, MeasuredRow]) -> dict[str, MeasuredRow]:
        """The rows with the latencies that the dataset has now: its anchor's median moves."""
        found = estimates(LatencyDataset.open(self.out))
        settled = {}
        for text, row in rows.items():
            now = found.get(text)
            if now is not None:
                flags = dict.fromkeys((*now.flags, *filter(is_gpu_flag, row.flags)))
                settled[text] = dataclasses.replace(
                    row, latency_ms=now.latency_ms, error_ms=now.error_ms, flags=tuple(flags),
                    measurements=now.measurements, disturbed=now.disturbed,
                )  # fmt: skip
        return settled

    def _fail(self, what: str, error: LatkitError) -> None:
        self.failures.append(Failure(what, error))
        self.listener.end_progress()
        request = self.request
        only = len(request.what), len(request.batch or (1,)), len(request.pause_ms), request.table
        if only != (1, 1, 1, None):  # else it is raised, and said once
            self.listener.warn(f"not measured: {error}")

    def _report(self, done: int, total: int, row: MeasuredRow) -> None:
        detail = f"{row.name}, batch {row.batch}: {row.latency_ms:.2f} ms"
        self.listener.progress(Progress("configurations", done, total, detail=detail))


def _is_done(row: MeasuredRow | None, request: MeasureRequest) -> bool:
    """Whether a row has all that is requested."""
    if row is None or row.runs < request.runs:
        return False
    quiet = row.measurements - row.disturbed
    if not is_measured(row.measurements, quiet, request.measurements):
        return False
    lacks_layers = request.per_layer and row.layers is None
    return not lacks_layers and not (request.energy and row.energy_mj is None)
