"""The front door: what latkit does, from frozen requests to frozen results.

``import latkit`` opens it lazily: ``latkit.profile`` is the function of that name here. A task
takes its request as one object, or its fields as keyword arguments, which also change the former.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Any, TypeVar

from latkit.backends import Probe, probe_backends
from latkit.core.errors import InputError, LatkitError
from latkit.core.events import SILENT, Listener
from latkit.core.requests import check_types
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import DatasetCheck, DatasetSummary, check_dataset, summarize
from latkit.dataset.compare import DatasetComparison, compare_datasets
from latkit.dataset.listing import ListedDataset, list_datasets
from latkit.dataset.merge import merge_datasets
from latkit.dataset.results import import_results
from latkit.dataset.sharing import CopiedDataset, pull_dataset, push_dataset
from latkit.dataset.tables import (
    ImportRequest,
    ImportResult,
    TableColumn,
    export_dataset,
    import_table,
)
from latkit.lpm.prediction import Prediction, Predictions, PublishedLPM
from latkit.registry import Registry, TrainRequest, TrainResult, load_lpm, train_and_publish
from latkit.registry.listing import ComparedLPM, ListedLPM, compare_lpms, list_lpms
from latkit.registry.sharing import CopiedVersion, CopyResult, pull_lpms, push_lpms, sync_lpms
from latkit.reports.draw import DrawRequest, DrawResult
from latkit.reports.draw import draw as run_draw
from latkit.reports.report import ReportRequest, ReportResult
from latkit.reports.report import report as run_report
from latkit.search.image_source import DataOptions
from latkit.search.oneshot.result import OneShotResult
from latkit.search.request import SearchRequest
from latkit.search.result import SearchResult, SweepResult
from latkit.search.run import search as run_search
from latkit.spaces.listing import SpaceInfo, spaces
from latkit.spaces.reader import Given
from latkit.tasks.bundle import BundleRequest, BundleResult, make_bundle
from latkit.tasks.doctor import Diagnosis, DoctorRow, doctor
from latkit.tasks.export import ExportRequest, ExportResult
from latkit.tasks.export import export as run_export
from latkit.tasks.measure import GenotypeMeasurement, measure_genotype
from latkit.tasks.measure_request import MeasureRequest
from latkit.tasks.measurement import MeasureResult, run_measure
from latkit.tasks.measurement_file import MeasuredRow
from latkit.tasks.profile import ProfileRequest, ProfileResult, run_profile
from latkit.tasks.retarget import retarget as run_retarget
from latkit.tasks.retarget_request import RetargetRequest
from latkit.tasks.retarget_result import RetargetPoint, RetargetResult
from latkit.tasks.train_lpms import train_lpms as run_train_lpms
from latkit.tasks.trainings import TrainedDataset
from latkit.training.request import TrainingRequest
from latkit.training.result import TrainingResult
from latkit.training.run import train as run_training

__all__ = [
    "BundleRequest",
    "BundleResult",
    "ComparedLPM",
    "CopiedDataset",
    "CopiedVersion",
    "CopyResult",
    "DataOptions",
    "DatasetCheck",
    "DatasetComparison",
    "DatasetSummary",
    "Diagnosis",
    "DoctorRow",
    "DrawRequest",
    "DrawResult",
    "ExportRequest",
    "ExportResult",
    "GenotypeMeasurement",
    "ImportRequest",
    "ImportResult",
    "LatencyDataset",
    "LatkitError",
    "ListedDataset",
    "ListedLPM",
    "Listener",
    "MeasureRequest",
    "MeasureResult",
    "MeasuredRow",
    "OneShotResult",
    "Prediction",
    "Predictions",
    "Probe",
    "ProfileRequest",
    "ProfileResult",
    "PublishedLPM",
    "Registry",
    "ReportRequest",
    "ReportResult",
    "RetargetPoint",
    "RetargetRequest",
    "RetargetResult",
    "SearchRequest",
    "SearchResult",
    "SpaceInfo",
    "SweepResult",
    "TableColumn",
    "Target",
    "TrainRequest",
    "TrainResult",
    "TrainedDataset",
    "TrainingRequest",
    "TrainingResult",
    "backends",
    "bundle",
    "check_dataset",
    "compare_datasets",
    "compare_lpms",
    "doctor",
    "draw",
    "export",
    "export_dataset",
    "import_results",
    "import_table",
    "list_datasets",
    "list_lpms",
    "load_lpm",
    "measure",
    "measure_genotype",
    "merge_datasets",
    "open_dataset",
    "predict",
    "profile",
    "pull_dataset",
    "pull_lpms",
    "push_dataset",
    "push_lpms",
    "report",
    "retarget",
    "search",
    "spaces",
    "summarize",
    "sync_lpms",
    "train",
    "train_lpm",
    "train_lpms",
]

R = TypeVar("R")
Architectures = str | int | os.PathLike[str] | list[Any] | tuple[Any, ...]


def profile(
    request: ProfileRequest | None = None, *, listener: Listener = SILENT, **fields: Any
) -> ProfileResult:
    """Measure the latency of architectures into a dataset; see ``ProfileRequest`` for the fields.

    The same request goes on where an interrupted one stopped.

    Raises:
        LatkitError: see ``latkit.tasks.profile.run_profile``.
    """
    return run_profile(_request(ProfileRequest, request, fields), listener)


def bundle(
    request: BundleRequest | None = None, *, listener: Listener = SILENT, **fields: Any
) -> BundleResult:
    """Make a file that profiles a board without PyTorch; see ``BundleRequest`` for the fields.

    Raises:
        LatkitError: see ``latkit.tasks.bundle.make_bundle``.
    """
    return make_bundle(_request(BundleRequest, request, fields), listener)


def measure(
    what: Given | tuple[Given, ...] | list[Given] | MeasureRequest = (),
    *,
    listener: Listener = SILENT,
    **fields: Any,
) -> MeasureResult:
    """Measure the latency of anything into a dataset; see ``MeasureRequest`` for the fields.

    The same request goes on where an interrupted one stopped. What cannot be measured is among the
    result's failures.

    Args:
        what: one or several: ``torchvision:NAME``, ``FILE.onnx``, ``package.module:callable``, a
            genotype, a name or a file of one; or a whole request.
        listener: receives what was chosen, and the progress.
        fields: of the request.

    Raises:
        LatkitError: see ``latkit.tasks.measurement.run_measure``.
    """
    if isinstance(what, MeasureRequest):
        return run_measure(_request(MeasureRequest, what, fields), listener)
    listed = tuple(map(str, what)) if isinstance(what, (tuple, list)) else (str(what),)
    return run_measure(_request(MeasureRequest, None, {"what": listed, **fields}), listener)


def open_dataset(folder: str | Path) -> LatencyDataset:
    """A dataset in a folder, for reading.

    Raises:
        DatasetError: the folder holds none, or a file in it is corrupt.
    """
    return LatencyDataset.open(Path(folder))


def train_lpm(
    dataset: str | Path | LatencyDataset | TrainRequest | None = None,
    *,
    listener: Listener = SILENT,
    **fields: Any,
) -> TrainResult:
    """Train an LPM on a dataset and publish it; see ``TrainRequest`` for the fields.

    Args:
        dataset: it or its folder, or a whole request; None: the only dataset below ``./datasets``.
        listener: receives notes, warnings and progress.
        fields: of the request.

    Raises:
        LatkitError: see ``latkit.registry.train_and_publish``.
    """
    if isinstance(dataset, TrainRequest):
        return train_and_publish(_request(TrainRequest, dataset, fields), listener)
    if isinstance(dataset, LatencyDataset):
        dataset = dataset.path
    request = _request(TrainRequest, None, {"dataset": dataset, **fields})
    return train_and_publish(request, listener)


def train_lpms(
    datasets: str | Path | list[str | Path] | tuple[str | Path, ...] = (),
    request: TrainRequest | None = None,
    *,
    fleet: str | None = None,
    listener: Listener = SILENT,
    **fields: Any,
) -> tuple[TrainedDataset, ...]:
    """Train an LPM on each of several datasets and publish it; see ``TrainRequest`` for the fields.

    What is published already, trained on the same measurements in the same way, is not trained
    again. What cannot be trained on is an error in the result.

    Args:
        datasets: their folders; none: the only dataset below ``./datasets``.
        request: how all are trained, as one object; it names no dataset.
        fleet: workers that train, a core each: the address of a cluster of Ray, or ``auto``, the
            cores of this machine; None: this process trains.
        listener: receives warnings, what is published already, and the progress.
        fields: of the request.

    Raises:
        LatkitError: see ``latkit.tasks.train_lpms.train_lpms``.
    """
    return run_train_lpms(datasets, _request(TrainRequest, request, fields), fleet, listener)


def predict(
    architectures: Architectures, device: str, space: str = "darts", registry: str | None = None
) -> Predictions:
    """What a device's LPM predicts of architectures, each with its error.

    Args:
        architectures: one or several: names, texts, identifiers, files.
        device: reference of the LPM.
        space: of the LPM.
        registry: URL of the LPMs; None: the default one.

    Raises:
        InputError: the LPM or an architecture is unknown.
        LPMError: the LPM cannot be read.
    """
    return load_lpm(device, space, registry).predict(architectures)


def search(
    request: SearchRequest | None = None, *, listener: Listener = SILENT, **fields: Any
) -> SearchResult | SweepResult | OneShotResult | None:
    """Search an architecture for a device whose LPM is published; see ``SearchRequest``.

    With ``method="one-shot"`` all architectures are trained in one network, for no device. Further
    keyword arguments change values of the preset's configuration, by their names in
    ``latkit.search.config.SearchConfig`` (of one-shot in
    ``latkit.search.oneshot.config.OneShotConfig``), e.g. ``epochs=2``.

    Returns:
        The result; None on other ranks than 0 of torchrun.

    Raises:
        LatkitError: see ``latkit.search.run.search``.
    """
    own = {field.name for field in dataclasses.fields(SearchRequest)}
    changes = {name: value for name, value in fields.items() if name not in own}
    fields = {name: value for name, value in fields.items() if name in own}
    if changes:
        before = request.changes if request is not None else {}
        fields["changes"] = {**before, **fields.get("changes", {}), **changes}
    return run_search(_request(SearchRequest, request, fields), listener=listener)


def retarget(
    run: str | Path | RetargetRequest, *, listener: Listener = SILENT, **fields: Any
) -> RetargetResult:
    """The architectures for other devices from one search; see ``RetargetRequest``.

    Args:
        run: the folder of a one-shot search, or an accuracy LPM, or a whole request.
        listener: receives notes, warnings and the progress of measuring.
        fields: of the request.

    Raises:
        LatkitError: see ``latkit.tasks.retarget.retarget``.
    """
    if isinstance(run, RetargetRequest):
        return run_retarget(_request(RetargetRequest, run, fields), listener)
    return run_retarget(_request(RetargetRequest, None, {"run": run, **fields}), listener)


def train(
    architecture: Given | TrainingRequest, *, listener: Listener = SILENT, **fields: Any
) -> TrainingResult | None:
    """Train an architecture from scratch and test it; see ``TrainingRequest`` for the fields.

    Args:
        architecture: a name, a text or a file, or a whole request.
        listener: receives notes, warnings and progress.
        fields: of the request.

    Returns:
        The result; None on other ranks than 0 of torchrun.

    Raises:
        LatkitError: see ``latkit.training.run.train``.
    """
    if isinstance(architecture, TrainingRequest):
        request = _request(TrainingRequest, architecture, fields)
    else:
        request = _request(TrainingRequest, None, {"architecture": architecture, **fields})
    return run_training(request, listener=listener)


def export(
    architecture: Given | ExportRequest, *, listener: Listener = SILENT, **fields: Any
) -> ExportResult:
    """Write a network as an ONNX file or a TensorRT engine; see ``ExportRequest`` for the fields.

    Args:
        architecture: a name, a text or a file, or a whole request.
        listener: receives notes and warnings.
        fields: of the request.

    Raises:
        LatkitError: see ``latkit.tasks.export.export``.
    """
    if isinstance(architecture, ExportRequest):
        return run_export(_request(ExportRequest, architecture, fields), listener)
    request = _request(ExportRequest, None, {"architecture": architecture, **fields})
    return run_export(request, listener)


def draw(architecture: Given | DrawRequest, **fields: Any) -> DrawResult:
    """Draw an architecture as SVG, PNG or PDF; see ``DrawRequest`` for the fields.

    Args:
        architecture: a name, a text or a file, or a whole request.
        fields: of the request.

    Raises:
        LatkitError: see ``latkit.reports.draw.draw``.
    """
    if isinstance(architecture, DrawRequest):
        return run_draw(_request(DrawRequest, architecture, fields))
    return run_draw(_request(DrawRequest, None, {"architecture": architecture, **fields}))


def report(
    inputs: str | Path | list[str | Path] | tuple[str | Path, ...] | ReportRequest,
    *,
    listener: Listener = SILENT,
    **fields: Any,
) -> ReportResult:
    """Make one page of datasets, LPMs, searches, trainings, measurements and benchmarks.

    Args:
        inputs: paths and references of LPMs, one or several, or a whole request.
        listener: receives a warning for what a searched folder holds that cannot be read.
        fields: of the request, see ``ReportRequest``.

    Raises:
        LatkitError: see ``latkit.reports.report.report``.
    """
    if isinstance(inputs, ReportRequest):
        return run_report(_request(ReportRequest, inputs, fields), listener)
    return run_report(_request(ReportRequest, None, {"inputs": inputs, **fields}), listener)


def backends() -> dict[str, Probe]:
    """The backends, latkit's own and those of plug-ins, and whether each works here."""
    return probe_backends()


def _request(cls: type[R], given: R | None, fields: dict[str, Any]) -> R:
    """A request changed by fields, or made of them.

    Raises:
        InputError: a field is unknown or missing, or a value does not fit.
    """
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in fields:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                f"{cls.__name__} has no field {name}", f"{hint}use one of: {', '.join(known)}"
            )
    if given is not None and not isinstance(given, cls):
        raise InputError(
            f"{given!r} is no {cls.__name__}", f"name the fields: {', '.join(known[:3])}, ..."
        )
    check_types(cls, fields)
    try:
        return cls(**fields) if given is None else dataclasses.replace(given, **fields)  # type: ignore[type-var]
    except TypeError as error:
        raise InputError(
            f"{cls.__name__}: {error}", "see its documentation for its fields and their types"
        ) from None
