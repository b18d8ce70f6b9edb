"""Measuring one network at one batch and after one pause: times, memory, energy and layers."""

from __future__ import annotations

from latkit.backends.base import Runner
from latkit.dataset.flags import DISTURBED
from latkit.dataset.writer import DatasetWriter
from latkit.meters.energy import EnergyMeter, energy_per_run_mj
from latkit.meters.resident import ResidentPeak
from latkit.profiling.loop import is_measured
from latkit.profiling.protocol import Measurement
from latkit.profiling.session import Session
from latkit.profiling.tail import PausedRunner, Tail
from latkit.spaces.models.space import model_id
from latkit.tasks.measure_request import MeasureRequest
from latkit.tasks.measurement_file import LayerRow, MeasuredRow
from latkit.tasks.paper_tables import DEVICE
from latkit.tasks.subjects import ArchitectureSubject, Subject

LAYER_RUNS = 10


class Measurer:
    """Measures one configuration after the other."""

    def __init__(
        self,
        session: Session,
        writer: DatasetWriter,
        request: MeasureRequest,
        meter: EnergyMeter | None,
    ) -> None:
        self._session, self._writer, self._request = session, writer, request
        self._meter = meter

    def measure(self, subject: Subject, batch: int, pause_ms: float, text: str) -> MeasuredRow:
        """Build and measure a network; its latency is settled later, from the dataset.

        Raises:
            BackendError, InputError: the backend cannot take it, or it failed to run.
        """
        request, backend = self._request, self._session.backend
        expected = subject.expect(backend, batch, request.seed)
        resident = ResidentPeak()
        with subject.compile(backend, batch, request.seed) as runner:
            subject.check(runner, expected)
            resident.restart()
            runner.run(1)
            device_mb = runner.peak_memory_mb()  # before the anchor runs again
            timed = PausedRunner(runner, pause_ms) if pause_ms else runner
            self._measure_visits(timed, subject, text)
            tail = Tail.of(timed.run(request.runs).wall_ms)
            process_mb = resident.peak_mb()
            flags = self._session.gpu_flags()
            energy_mj = None
            if self._meter is not None:
                energy_mj = energy_per_run_mj(self._meter, runner.run, tail.mean_ms)
            layers = runner.layer_times(LAYER_RUNS) if request.per_layer else None
        layer_rows: tuple[LayerRow, ...] | None = () if request.per_layer else None
        if layers is not None:
            layer_rows = tuple(
                LayerRow(layer.operator, layer.count, layer.ms, layer.ms / layers.whole_ms)
                for layer in layers.layers
            )
        published = subject.published
        architecture = subject.architecture if isinstance(subject, ArchitectureSubject) else None
        return MeasuredRow(
            what=subject.what,
            name=subject.name,
            arch=text,
            genotype=None if architecture is None else str(architecture),
            space=None if architecture is None else architecture.space,
            params=subject.params,
            macs=subject.macs,
            macs_reason=subject.macs_reason,
            input=subject.shape(batch),
            batch=batch,
            precision=subject.setting.precision,
            latency_ms=tail.p50_ms,
            error_ms=None,
            measurements=0,
            disturbed=0,
            p50_ms=tail.p50_ms,
            p90_ms=tail.p90_ms,
            p99_ms=tail.p99_ms,
            max_ms=tail.max_ms,
            runs=tail.runs,
            throughput_per_s=batch / tail.mean_ms * 1000,
            pause_ms=pause_ms,
            peak_memory_mb=device_mb if device_mb is not None else process_mb,
            energy_mj=energy_mj,
            flags=flags,
            layers=layer_rows,
            layers_explained=None if layers is None else layers.explained,
            profiled_ms=None if layers is None else layers.whole_ms,
            published_ms=None if published is None else published.ms,
            published_device=None if published is None or published.ms is None else DEVICE,
            published_error_percent=None if published is None else published.error_percent,
        )

    def _measure_visits(self, runner: Runner, subject: Subject, text: str) -> None:
        """Measure until so many are undisturbed as requested, or twice as many are made."""
        wanted, arch_id = self._request.measurements, model_id(text)
        flags = {visit: d.flags for (a, visit), d in self._writer.done.items() if a == arch_id}
        good = sum(DISTURBED not in f for f in flags.values())
        visit = max(flags, default=-1) + 1
        while not is_measured(visit, good, wanted):
            done = self._session.measure_runner(runner)
            self._append(done, subject, text, arch_id, visit)
            visit, good = visit + 1, good + (not done.disturbed)

    def _append(
        self, done: Measurement, subject: Subject, text: str, arch_id: int, visit: int
    ) -> None:
        self._writer.append(
            {
                **done.to_row(),
                "arch_id": arch_id,
                "arch": text,
                "visit": visit,
                "macs": subject.macs or 0,
                "params": subject.params,
            }
        )
