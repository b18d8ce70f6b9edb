"""From an accuracy LPM and devices' LPMs to the architectures for these devices."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latkit.core.errors import InputError, Interrupted, SearchError, from_os_error
from latkit.core.events import SILENT, Listener, Progress
from latkit.core.files import write_json_atomically
from latkit.core.quantities import get_quantity
from latkit.lpm.measuring import NotHereError
from latkit.lpm.prediction import PublishedLPM
from latkit.lpm.threads import one_thread
from latkit.registry import Registry, load_lpm
from latkit.search.claim import claimed
from latkit.search.distributed import ALONE
from latkit.search.objectives import (
    MacsObjective,
    ParamsObjective,
    PredictedBound,
    PredictedObjective,
)
from latkit.search.oneshot.accuracy import warnings_of
from latkit.search.retarget import Condition, Known, Limit, Near, most_accurate, pareto_front
from latkit.search.session import RESULT
from latkit.spaces import ChoiceMatrix, SearchSpace, Setting, get_space
from latkit.spaces.registry import analytic_table
from latkit.tasks.retarget_measuring import MeasuredDevice
from latkit.tasks.retarget_request import RetargetRequest
from latkit.tasks.retarget_result import (
    PointCost,
    RetargetedDevice,
    RetargetPoint,
    RetargetResult,
)
from latkit.tasks.retarget_run import read_accuracy

ENERGY = "energy_mj"


def retarget(request: RetargetRequest, listener: Listener = SILENT) -> RetargetResult:
    """The architectures that are most accurate, as predicted, for one device or several.

    Nothing is trained, and no image is read. What is measured is kept, measurement by measurement:
    the same request goes on where an interrupted one stopped.

    Args:
        request: what is wanted.
        listener: receives notes, warnings and the progress of measuring.

    Raises:
        InputError: a reference is unknown or of another quantity, the run has not ended, the LPMs
            are of different spaces or settings, or no architecture keeps the limits.
        NotHereError: candidates are to be measured, and none of the devices is here.
        SearchError: the folder holds something else.
        LPMError: a file of an LPM is missing or corrupt.
        LatkitError: a file cannot be read or written.
    """
    task = _Task.of(request)
    found = task.choose(task.latencies, set())  # which refuses before anything is written
    out = request.out or Path("retargets", task.devices, request.title)
    with claimed(out, task.identity(), ALONE, "retargeting", SearchError):
        try:
            result = task.run(found, out, listener)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; every finished measurement is kept in {out}",
                "run the same command to go on",
            ) from None
        finally:
            listener.end_progress()
        try:
            write_json_atomically(out / RESULT, result.to_dict())
        except OSError as error:
            raise from_os_error(error, f"write {out / RESULT}", "measurements are kept") from None
    return result


@dataclass(frozen=True)
class _Found:
    """What was chosen.

    Attributes:
        points: the one architecture, or the front.
        candidates: to be measured next, the most important one first; called with how many.
    """

    points: ChoiceMatrix
    candidates: Callable[[int], ChoiceMatrix]
    evaluated: int
    exhaustive: bool


@dataclass(frozen=True)
class _Task:
    """A request with its LPMs."""

    request: RetargetRequest
    space: SearchSpace
    setting: Setting
    accuracy: PublishedLPM
    latencies: tuple[PublishedLPM, ...]
    energies: tuple[PublishedLPM, ...]

    @classmethod
    def of(cls, request: RetargetRequest) -> _Task:
        registry = Registry(request.registry)
        accuracy = read_accuracy(request.run, request.space, registry)
        latencies = tuple(_load(name, accuracy.space, registry) for name in request.device)
        setting = latencies[0].target.setting
        for lpm in latencies[1:]:
            if lpm.target.setting != setting:
                raise InputError(
                    f"{lpm.reference} is of the setting {lpm.target.setting.slug}, and "
                    f"{latencies[0].reference} of {setting.slug}",
                    "name LPMs of one setting: device/backend/setting",
                )
        energies = tuple(_energy_of(lpm, registry) for lpm in latencies if request.max_mj)
        space = get_space(accuracy.space)
        return cls(request, space, setting, accuracy, latencies, energies)

    @property
    def devices(self) -> str:
        """The devices' names, as that of a folder."""
        return "+".join(dict.fromkeys(lpm.target.device for lpm in self.latencies))

    def identity(self) -> dict[str, Any]:
        """What two runs of one folder have in common, as JSON.

        Not how many candidates are measured: more of them may be.
        """

        def made(lpm: PublishedLPM) -> str:
            # The time distinguishes a retrained LPM of the same name and number.
            return f"{lpm.card.created_at}, {lpm.card.dataset['digest']}"

        request = self.request
        names = ("target_ms", "max_ms", "max_mj", "max_macs_millions", "max_params_millions",
                 "front", "confidence", "seed")  # fmt: skip
        content: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "method": "retarget",
                    "space": self.space.name,
                    "accuracy_lpm": made(self.accuracy),
                    "lpms": {lpm.reference: made(lpm) for lpm in (*self.latencies, *self.energies)},
                    **{name: getattr(request, name) for name in names},
                }
            )
        )
        return content

    def run(self, found: _Found, out: Path, listener: Listener) -> RetargetResult:
        """Measure, correct and choose again as long as candidates are to be measured.

        Each round measures half of what is left, so that later ones follow the corrected LPMs.

        Args:
            found: what is chosen as long as nothing was measured.
            out: the folder, claimed.
            listener: as of :func:`retarget`.
        """
        request, latencies = self.request, self.latencies
        here, reasons = self._here(out, listener)
        before: int | None = None
        while here:
            done = set.intersection(*(device.done for device in here.values()))
            before = len(done) if before is None else before
            # What is begun, or done on one device alone, comes first.
            todo = sorted(set().union(*(device.begun for device in here.values())) - done)
            if not todo:
                if done:
                    latencies = tuple(
                        here[lpm.reference].corrected() if lpm.reference in here else lpm
                        for lpm in self.latencies
                    )
                    found = self.choose(latencies, done)
                left = request.measure - len(done)
                rows = found.candidates(math.ceil(left / 2)) if left > 0 else found.points[:0]
                todo = [self.space.format(row) for row in rows]
            if not todo:
                break
            self._measure(todo, here, len(done), before, listener)
        points = self.describe(found.points, latencies, here)
        chosen = {point.arch for point in points}
        measured = dict.fromkeys(arch for device in here.values() for arch in device.measured)
        rest = [self.space.parse(arch) for arch in measured if arch not in chosen]
        others = self.describe(np.concatenate(rest), latencies, here) if rest else ()
        lpms = (self.accuracy, *self.latencies, *self.energies)
        warnings = [
            *(line for lpm in lpms for line in lpm.warnings),
            *warnings_of(self.accuracy.card),
        ]
        return RetargetResult(
            self.space.name,
            self.setting,
            self.accuracy.reference,
            tuple(map(str, self.wanted(self.latencies))),
            tuple(
                RetargetedDevice(
                    lpm.reference,
                    lpm.target,
                    (known.value, known.high),
                    len(here[lpm.reference].measured) if lpm.reference in here else 0,
                    reasons.get(lpm.reference),
                )
                for lpm, known in zip(self.latencies, map(_known, self.latencies), strict=True)
            ),
            points,
            tuple(sorted(others, key=lambda point: point.costs[0].value)),
            request.front is not None,
            found.evaluated,
            found.exhaustive,
            tuple(dict.fromkeys(warnings)),
            out,
        )

    def _here(
        self, out: Path, listener: Listener
    ) -> tuple[dict[str, MeasuredDevice], dict[str, str]]:
        """The devices that are here, and of the others the reason, each by its LPM's reference."""
        here: dict[str, MeasuredDevice] = {}
        reasons: dict[str, str] = {}
        for lpm in self.latencies if self.request.measure else ():
            try:
                here[lpm.reference] = MeasuredDevice(lpm, out, self.request.seed)
            except NotHereError as error:
                reasons[lpm.reference] = error.cause
        fix = "leave --measure out, or repeat the command where the device is"
        if reasons and not here:
            raise NotHereError("; ".join(reasons.values()), fix)
        for reference, reason in reasons.items():
            listener.warn(f"{reference} is predicted only: {reason}. Fix: {fix}")
        return here, reasons

    def _measure(
        self,
        archs: Sequence[str],
        here: dict[str, MeasuredDevice],
        done: int,
        before: int,
        listener: Listener,
    ) -> None:
        count, total = len(here), max(self.request.measure, done + len(archs))
        made = count * done

        def on_done() -> None:
            nonlocal made
            made += 1
            listener.progress(Progress("candidates", made, count * total, count * before))

        for device in here.values():
            device.measure(archs, on_done)

    def wanted(self, latencies: Sequence[PublishedLPM]) -> list[Condition]:
        """The limits and targets of the request."""
        request, space, setting = self.request, self.space, self.setting

        def limit(lpm: PublishedLPM, value: float) -> Limit:
            if request.confidence is None:
                return Limit(_name(lpm), _objective(lpm), value)
            bound = PredictedBound(_objective(lpm), request.confidence)
            return Limit(f"{_name(lpm)} with probability {request.confidence:g}", bound, value)

        conditions: list[Condition] = [
            Near(_name(lpm), _objective(lpm), value)
            for lpm, value in zip(latencies, request.target_ms, strict=False)
        ]
        for lpms, values in ((latencies, request.max_ms), (self.energies, request.max_mj)):
            conditions += [limit(lpm, value) for lpm, value in zip(lpms, values, strict=False)]
        if request.max_macs_millions is not None:
            macs = MacsObjective(space, setting)
            conditions.append(Limit("MACs", macs, request.max_macs_millions))
        if request.max_params_millions is not None:
            params = ParamsObjective(space, setting)
            conditions.append(Limit("parameters", params, request.max_params_millions))
        return conditions

    @one_thread()
    def choose(self, latencies: Sequence[PublishedLPM], done: set[str]) -> _Found:
        """The architectures that the LPMs lead to.

        Args:
            latencies: the LPMs, corrected where anything was measured.
            done: texts of the architectures that are not to be measured any more.

        Raises:
            InputError: no architecture keeps the limits.
        """
        request, space, objective = self.request, self.space, _objective(self.accuracy)
        conditions = [*self.wanted(latencies), *map(_known, (*latencies, *self.energies))]

        def is_done(row: ChoiceMatrix) -> bool:
            return space.format(row) in done

        if request.front is None:
            choice = most_accurate(space, objective, conditions, request.seed)
            near = [row for row in (choice.row, *choice.near) if not is_done(row)]

            def nearest(count: int) -> ChoiceMatrix:
                return np.array(near[:count], dtype=choice.row.dtype).reshape(-1, space.num_edges)

            return _Found(choice.row[None], nearest, choice.evaluated, choice.exhaustive)
        costs = [_objective(lpm) for lpm in latencies]
        front = pareto_front(space, objective, costs, conditions, request.seed)
        known = [number for number, row in enumerate(front.rows) if is_done(row)]

        def between(count: int) -> ChoiceMatrix:
            rows = front.spread(len(known) + count, known).rows
            kept = [index for index, row in enumerate(rows) if not is_done(row)]
            return rows[kept[:count]]

        points = front.spread(request.front, known).rows
        return _Found(points, between, front.evaluated, front.exhaustive)

    @one_thread()
    def describe(
        self,
        rows: ChoiceMatrix,
        latencies: Sequence[PublishedLPM],
        here: dict[str, MeasuredDevice],
    ) -> tuple[RetargetPoint, ...]:
        """What is known of architectures."""
        space, encodings = self.space, self.space.encode(rows)
        archs = [space.format(row) for row in rows]

        def predictions(lpm: PublishedLPM) -> list[tuple[float, float]]:
            values, stds = lpm.lpm.predict(encodings), lpm.lpm.predict_std(encodings)
            return list(zip(values.tolist(), stds.tolist(), strict=True))

        columns = []
        for lpm, now in zip(
            (*self.latencies, *self.energies), (*latencies, *self.energies), strict=True
        ):
            costs = [PointCost(lpm.reference, lpm.quantity, *pair) for pair in predictions(lpm)]
            if now is not lpm:
                measured = here[lpm.reference].measured
                costs = [
                    replace(
                        cost,
                        corrected=value,
                        corrected_std=std,
                        measured=measured[arch].latency_ms if arch in measured else None,
                        measured_error=measured[arch].error_ms if arch in measured else None,
                    )
                    for cost, (value, std), arch in zip(costs, predictions(now), archs, strict=True)
                ]
            columns.append(costs)
        sizes = analytic_table(space.name, self.setting.network).costs(rows)
        return tuple(
            RetargetPoint(
                str(space.architecture(row, self.setting.network)), arch, int(arch_id),
                percent, std_percent, tuple(own), size.macs, size.params,
            )
            for row, arch, arch_id, (percent, std_percent), own, size in zip(
                rows, archs, space.rank(rows), predictions(self.accuracy),
                zip(*columns, strict=True), sizes, strict=True,
            )
        )  # fmt: skip


def _load(reference: str, space: str, registry: Registry) -> PublishedLPM:
    try:
        lpm = load_lpm(reference, space, registry)
    except InputError as error:
        # A --space of another one, which the registry proposes, is not the run's.
        raise InputError(
            error.cause,
            f"name an LPM of the run's space, or make one: latkit profile --space {space} and "
            "latkit train-lpm",
        ) from None
    if not get_quantity(lpm.quantity).is_cost or lpm.unit != "ms":
        raise InputError(f"{reference!r} is an LPM of {lpm.quantity}", "name one of a latency")
    return lpm


def _energy_of(lpm: PublishedLPM, registry: Registry) -> PublishedLPM:
    """The newest energy LPM of the same target."""
    target = lpm.target
    reference = f"{target.device}/{target.backend}/{target.setting.slug}+{ENERGY}"
    return load_lpm(reference, target.space, registry)


def _name(lpm: PublishedLPM) -> str:
    return f"{get_quantity(lpm.quantity).noun} on {lpm.target.device}"


def _objective(lpm: PublishedLPM) -> PredictedObjective:
    return PredictedObjective(lpm.lpm, lpm.quantity)


def _known(lpm: PublishedLPM) -> Known:
    """What the LPM is relied on for."""
    least, largest = lpm.card.dataset[get_quantity(lpm.quantity).range_key]
    return Known.of(_name(lpm), _objective(lpm), least, largest)
