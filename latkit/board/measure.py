"""Measuring what a bundle holds, as ``latkit profile`` measures."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latkit.board.bundle import ANCHOR, Bundle, network_file
from latkit.board.results import Results
from latkit.core.cores import check_threads, pinned_to, unbound
from latkit.core.cpu import cpu_name
from latkit.core.device import machine_facts, suggest_device_name
from latkit.core.environment import environment_facts
from latkit.core.errors import InputError
from latkit.profiling.paired import PairedTiming
from latkit.profiling.plan import Work, panel_size
from latkit.profiling.protocol import Measurement, Protocol
from latkit.profiling.rows import Recorder, made_before, measure_run

if TYPE_CHECKING:
    from latkit.board.runtime import BoardRuntime
    from latkit.core.device import Facts
    from latkit.core.events import Listener


@dataclass(frozen=True)
class Outcome:
    """What a folder of results holds after a run.

    Attributes:
        architectures: of the list.
        measurements: of them.
        retest_sd: relative standard deviation of one measurement; None: too few repeats.
    """

    architectures: int
    measurements: int
    retest_sd: float | None


def measure_bundle(bundle: Bundle, out: Path, cores: Sequence[int], listener: Listener) -> Outcome:
    """Measure what is still to be measured of a bundle.

    Args:
        bundle: open.
        out: folder of the results, new or with an earlier run's.
        cores: the CPU cores to keep to; empty for all.
        listener: receives remarks and progress.

    Raises:
        InputError: the bundle's threads, or the cores, are not to be had here.
        BackendError: a network cannot be built or run.
        DatasetError: the bundle is damaged, or ``out`` holds something else.
        LatkitError: ``out`` cannot be written.
    """
    plan = bundle.plan
    protocol = Protocol.from_dict({**plan.dataset["protocol"], "cores": list(cores)})
    with pinned_to(cores), unbound():
        _check_threads(protocol.threads)
        runtime_class: type[BoardRuntime] = vars(importlib.import_module(plan.module))["Runtime"]
        runtime = runtime_class(protocol.threads, plan.weights_seed)
        with runtime.load(partial(_read, bundle, ANCHOR)) as anchor:
            manifest = _manifest(bundle, protocol, runtime.facts())
            with Results(out, manifest, listener) as results:
                listed = [plan.architectures[place]["arch_id"] for place in plan.listed]
                work = Work(
                    len(listed),
                    plan.dataset["seed"],
                    protocol.replicate_every,
                    plan.replicates,
                    plan.target_error,
                    made_before(results, listed),
                )
                todo = iter(work)
                first = next(todo, None)
                if first is not None:
                    if work.done:
                        listener.note(
                            f"going on: {work.done} of {work.total} measurements are in {out}"
                        )
                    timing, recorder = PairedTiming(anchor, protocol), Recorder(results)

                    def measure(place: int, flags: tuple[str, ...]) -> tuple[Measurement, float]:
                        read = partial(_read, bundle, str(place))
                        with runtime.load(read) as candidate:
                            done = timing.measure(candidate)
                        return done, recorder.append(plan.architectures[place], done, flags)

                    measure_run(
                        work,
                        chain([first], todo),
                        plan.panel[: panel_size(work.total - work.done)],
                        measure,
                        plan.listed.__getitem__,
                        listener,
                        shows_error=plan.target_error is not None,
                    )
                return Outcome(len(listed), work.done, work.retest.sd)


def _manifest(bundle: Bundle, protocol: Protocol, facts: Facts) -> dict[str, Any]:
    """The content of ``dataset.json`` on this board."""
    plan = bundle.plan
    return {
        **plan.dataset,
        "target": {**plan.dataset["target"], "device": suggest_device_name(cpu_name())},
        "fingerprint": {
            **machine_facts(),
            **environment_facts(os.environ),
            **facts,
            "bundle": f"latkit {plan.latkit_version}",
        },
        "protocol": protocol.to_dict(),
        "latkit_version": plan.latkit_version,
    }


def _read(bundle: Bundle, name: str, ending: str) -> bytes:
    return bundle.read(network_file(name, ending))


def _check_threads(threads: int) -> None:
    try:
        check_threads(threads)
    except InputError as error:
        fix = "make a bundle of fewer --threads, or grant this process more cores"
        raise InputError(error.cause, fix) from None
