"""From measurements to rows, and a run from its first to its last row, whatever writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latkit.core.events import Listener, Progress
from latkit.dataset.flags import DISTURBED, PANEL_END, PANEL_START, Done, is_panel
from latkit.profiling.plan import Work
from latkit.profiling.protocol import Measurement

if TYPE_CHECKING:
    from typing import Protocol

    class Writer(Protocol):
        """What rows are written by; ``done`` are those that were there at the beginning."""

        done: dict[tuple[int, int], Done]

        def append(self, row: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class ProfileProgress(Progress):
    """A run's progress after a measurement; disturbed ones and a target error add to its total.

    Attributes:
        latency_ms: of the last measurement, at the machine's present speed.
        disturbed: measurements of this run that were disturbed.
        retest_sd: relative standard deviation of one measurement so far.
        error: relative error of an architecture's mean latency so far.
    """

    latency_ms: float = 0.0
    disturbed: int = 0
    retest_sd: float | None = None
    error: float | None = None


class Recorder:
    """Makes rows of measurements and numbers the replicates of each architecture.

    Args:
        writer: of the rows, open.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        # Of each architecture, by its identifier in files, the number of its next replicate.
        self._replicates: dict[int, int] = Counter()
        for arch_id, replicate in writer.done:
            self._replicates[arch_id] = max(self._replicates[arch_id], replicate + 1)

    def append(
        self, architecture: Mapping[str, Any], done: Measurement, flags: Iterable[str] = ()
    ) -> float:
        """Write a row; its latency at the machine's present speed.

        Args:
            architecture: the columns ``arch_id``, ``arch``, ``macs`` and ``params``.
            done: what was measured of it.
            flags: of the row beside those of the measurement.

        Raises:
            LatkitError: the row cannot be written.
        """
        measured, arch_id = done.to_row(), architecture["arch_id"]
        visit, all_flags = self._replicates[arch_id], [*flags, *done.flags]
        self._writer.append({**measured, **architecture, "visit": visit, "flags": all_flags})
        self._replicates[arch_id] += 1
        latency_ms: float = measured["latency_ms"]
        return latency_ms


def made_before(writer: Writer, arch_ids: Sequence[int]) -> Iterator[tuple[int, float, bool]]:
    """The rows of the list that were there at the beginning, as :class:`Work` takes them.

    Args:
        writer: of the rows, open.
        arch_ids: of the list, as files have them.
    """
    index = {arch_id: i for i, arch_id in enumerate(arch_ids)}
    for (arch_id, _), done in writer.done.items():
        if arch_id in index and not is_panel(done.flags):
            yield index[arch_id], done.value, DISTURBED in done.flags


def measure_run(
    work: Work,
    todo: Iterable[int],
    panel: Sequence[Any],
    measure: Callable[[Any, tuple[str, ...]], tuple[Measurement, float]],
    choose: Callable[[int], Any],
    listener: Listener,
    shows_error: bool = False,
) -> None:
    """Measure the panel, what is still to be measured of the list, and the panel again.

    Args:
        work: knows what was measured.
        todo: indices into the list, from ``work``.
        panel: architectures, as ``measure`` takes them.
        measure: measures an architecture, writes a row with these flags, and returns the
            measurement and its latency at the machine's present speed.
        choose: the architecture at an index of the list.
        listener: receives a :class:`ProfileProgress` after each measurement of the list.
        shows_error: whether its detail has the error of an architecture's mean latency.
    """
    done_before, disturbed = work.done, 0
    for architecture in panel:
        measure(architecture, (PANEL_START,))
    try:
        for index in todo:
            measurement, latency_ms = measure(choose(index), ())
            work.record(index, measurement.estimate, measurement.disturbed)
            disturbed += measurement.disturbed
            error = work.error if shows_error else None
            listener.progress(
                ProfileProgress(
                    "measurements",
                    work.done,
                    work.total,
                    done_before,
                    progress_detail(latency_ms, work.retest.sd, error, disturbed),
                    latency_ms=latency_ms,
                    disturbed=disturbed,
                    retest_sd=work.retest.sd,
                    error=work.error,
                )
            )
    finally:
        listener.end_progress()
    for architecture in panel:
        measure(architecture, (PANEL_END,))


def progress_detail(
    latency_ms: float, retest_sd: float | None, error: float | None, disturbed: int
) -> str:
    """What is told of a run after a measurement; see :class:`ProfileProgress`."""
    details = [f"last {latency_ms:.2f} ms"]
    if retest_sd is not None:
        details.append(f"retest sd {100 * retest_sd:.2f} %")
    if error is not None:
        details.append(f"error {100 * error:.2f} %")
    if disturbed:
        details.append(f"{disturbed} disturbed")
    return ", ".join(details)
