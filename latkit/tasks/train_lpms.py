"""``latkit train-lpm`` of several datasets: an LPM of each, trained here or by a fleet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latkit.core.errors import InputError, LatkitError
from latkit.core.events import SILENT, Listener
from latkit.core.requests import several
from latkit.dataset.listing import only_dataset
from latkit.profiling.fleet.address import check_address
from latkit.registry import TrainRequest
from latkit.tasks.train_fleet import train_by_fleet
from latkit.tasks.trainings import TrainedDataset, Trainings


def train_lpms(
    datasets: str | Path | Sequence[str | Path] = (),
    request: TrainRequest | None = None,
    fleet: str | None = None,
    listener: Listener = SILENT,
) -> tuple[TrainedDataset, ...]:
    """Train an LPM on each of several datasets and publish it.

    A dataset whose LPM is published already, trained on the same measurements in the same way, is
    not trained on again: the same call goes on where an interrupted one stopped. A dataset that
    cannot be trained on is an error in the result, and a warning at once. Versions of one target
    have the order of the datasets.

    Args:
        datasets: their folders; none: the only one below ``./datasets``.
        request: how all are trained; it names no dataset.
        fleet: workers that train, a core each: the address of a cluster of Ray, or ``auto``, the
            cores of this machine; None: this process trains, on one after the other.
        listener: receives warnings, what is published already, and the progress.

    Returns:
        What became of each dataset, in their order.

    Raises:
        InputError: the request cannot be right, it names a dataset, Ray is not installed,
            or the fleet's address is none.
        BackendError: there is no cluster.
        LPMError: no worker of the fleet is left.
        LatkitError: the registry cannot be read or written.
    """
    request = request or TrainRequest()
    if request.dataset is not None:
        raise InputError("the request names a dataset", "give it among the datasets")
    one = isinstance(datasets, (str, Path))
    folders = [Path(folder) for folder in ((datasets,) if one else several(datasets))]
    if fleet is not None:
        check_address(fleet)
    trainings = Trainings(folders or [only_dataset()], request, listener)
    try:
        if fleet is None:
            _train_here(trainings)
        else:
            train_by_fleet(fleet, trainings, listener)
    finally:
        listener.end_progress()
    return trainings.rows


def _train_here(trainings: Trainings) -> None:
    for index, training in trainings.begin():
        try:
            result = training.run()
        except LatkitError as error:
            trainings.fail(index, error)
        else:
            trainings.finish(index, result)
