"""Candidates of retargeting, measured on the device of an LPM where that is here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from latkit.backends.base import fingerprint
from latkit.dataset import LatencyDataset, Manifest
from latkit.dataset.writer import DatasetWriter
from latkit.lpm.conditioned import ConditionedLPM
from latkit.lpm.measuring import opened_as_profiled
from latkit.lpm.prediction import PublishedLPM
from latkit.profiling.anchor import anchor_name
from latkit.profiling.loop import Measurer, is_measured
from latkit.profiling.session import Session
from latkit.spaces import get_space
from latkit.tasks.measurement_file import Estimate, estimates

FOLDER = "measured"
# Undisturbed measurements wanted of each candidate.
MEASUREMENTS = 5


class MeasuredDevice:
    """What was measured for one LPM's device; every measurement is kept in a dataset at once.

    Args:
        lpm: of the latency on it.
        out: the folder of the request, in which an earlier run may have left measurements.
        seed: of the request.

    Attributes:
        begun: texts of the architectures with any measurement.
        done: of those with all that are wanted, or with too many that were disturbed.
        measured: of the former by its text the latency, at the speed that the machine had when the
            LPM's dataset was measured.

    Raises:
        NotHereError: the device is not here.
        DatasetError: the folder holds something else, or a file in it is corrupt.
        LatkitError: it cannot be read or written, or the backend cannot be opened.
    """

    def __init__(self, lpm: PublishedLPM, out: Path, seed: int) -> None:
        target = lpm.target
        self.lpm, self.folder = lpm, out / FOLDER / target.device / target.backend
        self._seed, self._space = seed, get_space(target.space)
        self.begun: set[str] = set()
        self.done: set[str] = set()
        self.measured: dict[str, Estimate] = {}
        self.measure(())

    def measure(self, archs: Iterable[str], on_done: Callable[[], None] = lambda: None) -> None:
        """Measure architectures as often as is wanted, in alternation with the anchor network.

        Args:
            archs: their texts; what is done is not measured again.
            on_done: called after each.

        Raises:
            NotHereError, DatasetError, LatkitError: as above.
            BackendError: a network failed to run.
        """
        todo = [arch for arch in archs if arch not in self.done]
        target, card = self.lpm.target, self.lpm.card
        with opened_as_profiled(card) as (backend, protocol):
            manifest = Manifest(
                target,
                dict(fingerprint(backend)),
                replace(protocol, threads=backend.threads).to_dict(),
                self._seed,
                anchor_name(target.setting),
                requested=len({*self.begun, *todo}),
                metrics=backend.metrics,
            )
            with DatasetWriter(self.folder, manifest) as writer:
                has_rows = bool(writer.done or todo)
                if todo:
                    with Session(backend, target.setting, protocol) as session:
                        measurer = Measurer(session, writer, target)
                        for arch in todo:
                            (arch_id,) = self._space.rank(self._space.parse(arch)).tolist()
                            measurer.measure_until(arch_id, MEASUREMENTS)
                            on_done()
        if has_rows:
            self._read()

    def corrected(self) -> PublishedLPM:
        """The LPM, corrected by what was measured, and relied on for that too."""
        if not self.measured:
            return self.lpm
        rows = np.concatenate([self._space.parse(arch) for arch in self.measured])
        found = self.measured.values()
        # Of 95 % about two standard deviations.
        errors = [(estimate.error_ms or 0.0) / 2 for estimate in found]
        values = [estimate.latency_ms for estimate in found]
        lpm = ConditionedLPM(
            self.lpm.lpm,
            self._space.encode(rows).astype(np.float64),
            np.array(values),
            np.array(errors),
        )
        card, key = self.lpm.card, self.lpm.card.quantity.range_key
        least, largest = card.dataset[key]
        known = {key: [min(least, *values), max(largest, *values)]}
        return replace(self.lpm, lpm=lpm, card=replace(card, dataset={**card.dataset, **known}))

    def _read(self) -> None:
        dataset, card = LatencyDataset.open(self.folder), self.lpm.card
        then_ms, speed = card.dataset["anchor_median_ms"], 1.0
        same_anchor = card.dataset.get("anchor") == dataset.manifest.anchor
        if dataset.manifest.anchored and same_anchor and then_ms is not None:
            speed = then_ms / dataset.anchor_median_ms
        found = estimates(dataset)
        self.begun = set(found)
        self.done = {
            arch
            for arch, e in found.items()
            if is_measured(e.measurements, e.measurements - e.disturbed, MEASUREMENTS)
        }
        self.measured = {
            arch: _at_speed(found[arch], speed)
            for arch in found
            if arch in self.done and found[arch].disturbed < found[arch].measurements
        }


def _at_speed(estimate: Estimate, speed: float) -> Estimate:
    error_ms = None if estimate.error_ms is None else speed * estimate.error_ms
    return replace(estimate, latency_ms=speed * estimate.latency_ms, error_ms=error_ms)
