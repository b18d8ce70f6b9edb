"""latkit: profile, predict and search network latency for any piece of hardware.

The front door is here, and loads what it needs when it is used: importing the package loads
neither torch nor any runtime. See ``latkit.api`` for what each function takes and returns.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Notes the cores of this process before torch is imported, whose OpenMP may bind it to one.
import latkit.core.cores  # noqa: F401
from latkit.core.version import __version__

if TYPE_CHECKING:
    from latkit.api import *  # noqa: F403

# Of the front door, the functions that have the name of a package beside them.
_PACKAGES = ("backends", "search", "spaces")
# The others; a test holds them equal to those of ``latkit.api``.
_NAMES = (
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
    "summarize",
    "sync_lpms",
    "train",
    "train_lpm",
    "train_lpms",
)

__all__ = ["__version__", *_NAMES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"latkit.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'latkit' has no attribute {name!r}")
    return getattr(importlib.import_module("latkit.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _CallablePackage(ModuleType):
    """A package that is also the function of the front door of its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from latkit import api

        return getattr(api, self.__name__.rpartition(".")[2])(*arguments, **options)


class _FrontDoor(ModuleType):
    """This module: importing ``latkit.search`` must not hide the function ``latkit.search``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PACKAGES and type(value) is ModuleType:
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
