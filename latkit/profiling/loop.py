"""The profile loop: sample architectures, measure each, fill a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from latkit.backends.base import Backend, fingerprint
from latkit.core.device import pinned_to
from latkit.core.errors import BackendError, InputError
from latkit.core.events import SILENT, Listener
from latkit.dataset import Manifest, Target
from latkit.dataset.flags import DISTURBED
from latkit.dataset.writer import DatasetWriter
from latkit.profiling.anchor import anchor_name
from latkit.profiling.plan import Work, check_count, panel
from latkit.profiling.protocol import Measurement, Protocol, choose_clock
from latkit.profiling.rows import Recorder, made_before, measure_run
from latkit.profiling.session import Session
from latkit.spaces import ChoiceMatrix, SearchSpace, Setting, get_space
from latkit.spaces.architecture import architecture_costs

# For disturbed measurements, at most so many times as many are made as are wanted.
MOST_ATTEMPTS = 2


def profile(
    backend: Backend,
    target: Target,
    protocol: Protocol,
    n: int,
    seed: int,
    out: Path,
    replicates: int = 1,
    target_error: float | None = None,
    energy: bool = False,
    chosen: Sequence[int] | None = None,
    *,
    listener: Listener = SILENT,
) -> None:
    """Measure the first ``n`` architectures of the list that ``seed`` names, or chosen ones.

    Rows that ``out`` already holds are not measured again. ``backend`` must be open. A run that
    measures anything begins and ends with the fixed panel.

    What the dataset records of how it was measured is what measured it: the number of threads is
    the backend's, whatever the protocol has.

    Args:
        backend: what measures.
        target: what the dataset is about; its backend is the one that measures.
        protocol: how one architecture is measured once.
        n: number of architectures.
        seed: names the list.
        out: the dataset's folder, new or with an earlier run's rows.
        replicates: undisturbed measurements wanted of each architecture.
        target_error: more replicates are planned until an architecture's mean latency has this
            relative error (see ``Work``).
        energy: measure the energy of a run as well.
        chosen: ``n`` identifiers to measure instead.
        listener: receives a :class:`ProfileProgress` after each measurement of the list.

    Raises:
        InputError: latkit builds no networks of the space, ``n`` does not fit it, the target names
            another backend, or ``protocol`` does not fit the machine.
        BackendError: the backend cannot run the setting, a network failed to run, or there is no
            energy meter.
        DatasetError: ``out`` holds something else, or a file in it is corrupt.
        LatkitError: ``out`` cannot be written.
    """
    space = get_space(target.space)
    space.architecture(space.unrank(0)[0], target.setting.network)  # refuses one without networks
    check_count(space, n)
    if target.backend != backend.name:
        raise InputError(
            f"the target names the backend {target.backend}, but {backend.name} is to measure it",
            f"use a target with the backend {backend.name}, or open {target.backend}",
        )
    protocol = dataclasses.replace(protocol, threads=backend.threads)
    backend.check_setting(target.setting)
    choose_clock(protocol.clock, backend.clock)
    meter = backend.open_meter() if energy else None
    metrics = ("energy_mj", *backend.metrics) if energy else backend.metrics
    with pinned_to(protocol.cores):
        manifest = Manifest(
            target,
            dict(fingerprint(backend)) | ({"energy_meter": meter.name} if meter else {}),
            protocol.to_dict(),
            seed,
            anchor_name(target.setting),
            requested=n,
            metrics=metrics,
        )
        with DatasetWriter(out, manifest) as writer:
            ids = [int(i) for i in (space.sample(n, seed) if chosen is None else chosen)]
            made = made_before(writer, space.file_ids(space.unrank(ids)).tolist())
            work = Work(n, seed, protocol.replicate_every, replicates, target_error, made)
            todo = iter(work)
            first = next(todo, None)
            if first is None:
                return
            listener.note(
                f"measuring {n} architectures of {target.space} in {target.setting.slug} into "
                f"{out}, and a panel before and after them"
            )
            done_before = work.done
            if done_before:
                listener.note(f"going on: {done_before} of {work.total} measurements are in {out}")
            with Session(backend, target.setting, protocol, meter) as session:
                measurer = Measurer(session, writer, target)
                measure_run(
                    work,
                    chain([first], todo),
                    panel(space, work.total - done_before).tolist(),
                    measurer.measure,
                    ids.__getitem__,
                    listener,
                    shows_error=target_error is not None,
                )


class Measurer:
    """Measures architectures by their identifiers and writes the rows.

    Args:
        session: open.
        writer: of the dataset, open.
        target: what the dataset is about.
    """

    def __init__(self, session: Session, writer: DatasetWriter, target: Target) -> None:
        self._session = session
        self._writer = writer
        self._recorder = Recorder(writer)
        self._setting = target.setting
        self._space = get_space(target.space)

    def measure(self, arch_id: int, flags: Iterable[str] = ()) -> tuple[Measurement, float]:
        """Measure an architecture once more.

        Returns:
            The measurement, and its latency at the machine's present speed.
        """
        row = self._space.unrank(arch_id)[0]
        done = self._session.measure(self._space.architecture(row, self._setting.network))
        return done, self._append(row, done, flags)

    def measure_until(self, arch_id: int, wanted: int) -> None:
        """Build an architecture, and measure it until so many measurements are undisturbed.

        Those that the dataset has count; ``MOST_ATTEMPTS`` times as many are made at most.
        """
        row = self._space.unrank(arch_id)[0]
        (file_id,) = self._space.file_ids(row).tolist()
        flags = [done.flags for (known, _), done in self._writer.done.items() if known == file_id]
        made, quiet = len(flags), sum(DISTURBED not in f for f in flags)
        if not is_measured(made, quiet, wanted):
            network = self._space.architecture(row, self._setting.network)
            with self._session.backend.compile(network, self._setting) as runner:
                while not is_measured(made, quiet, wanted):
                    done = self._session.measure_runner(runner)
                    self._append(row, done)
                    made, quiet = made + 1, quiet + (not done.disturbed)

    def _append(self, row: ChoiceMatrix, done: Measurement, flags: Iterable[str] = ()) -> float:
        """Write a measurement; its latency at the machine's present speed."""
        wanted = self._writer.manifest.metrics
        if set(done.metrics) != set(wanted):
            raise BackendError(
                f"{self._session.backend.name} measured {sorted(done.metrics)} instead of "
                f"{sorted(wanted)}, its metrics",
                "report this defect of the backend",
            )
        columns = architecture_columns(self._space, row, self._setting)
        return self._recorder.append(columns, done, flags)


def architecture_columns(space: SearchSpace, row: ChoiceMatrix, setting: Setting) -> dict[str, Any]:
    """What a dataset's row says of an architecture."""
    (file_id,) = space.file_ids(row).tolist()
    (cost,) = architecture_costs(space, row, setting)
    text = space.format(row)
    return {"arch_id": file_id, "arch": text, "macs": cost.macs, "params": cost.params}


def is_measured(made: int, quiet: int, wanted: int) -> bool:
    """Whether so many measurements, of them undisturbed ones, are as many as are wanted."""
    return quiet >= wanted or made >= MOST_ATTEMPTS * wanted
