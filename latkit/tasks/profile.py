"""Measuring a device from end to end: from a request to a dataset and its summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latkit.backends import Backend, Clock
from latkit.core.device import check_device_name
from latkit.core.errors import InputError
from latkit.core.events import SILENT, Listener
from latkit.core.requests import check_seed, set_paths, set_tuples
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import DatasetSummary, summarize
from latkit.dataset.statistics import MAX_REPLICATES
from latkit.profiling.loop import profile
from latkit.profiling.protocol import Protocol
from latkit.spaces import Setting, default_setting, get_space
from latkit.tasks.choices import (
    check_effort,
    choose_backend,
    choose_device,
    choose_protocol,
    choose_setting,
)

Choice = Literal["random", "active"]


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure, on what, how, and where the dataset goes.

    Attributes:
        n: number of architectures.
        space: the search space.
        setting: of the networks, or its text ``PRESET[,field=value]...``; None: the space's first
            preset. Where a text leaves the memory format open, it is the backend's first.
        backend: the runtime; None: ``torch-cuda`` where a usable GPU is, else ``torch-cpu``.
        provider_library: of ``onnxruntime-ep:NAME``, the provider's shared library; None: that of
            the installed package.
        device: a short name of the hardware; None: made of the hardware's own name.
        protocol: how one architecture is measured, or its preset's name; its threads are
            ``threads``.
        runs: timed runs of a candidate in one measurement; None: the protocol's.
        replicates: undisturbed measurements wanted of each architecture, 1 to 16.
        target_error: measure all architectures again until the mean of each has this relative
            error.
        clock: which time counts, ``auto`` the backend's own; None: the protocol's.
        threads: CPU threads of a run.
        cores: the CPU cores to keep to; empty: the protocol's, by default none.
        energy: measure energy too.
        choose: ``random``, the list that ``seed`` names, or ``active``, always the candidate of
            which an LPM is least sure.
        transfer_from: of an active choice: references of the source devices' LPMs.
        seed: names the list; every backend measures the same list.
        fleet: workers that measure the list together, each on a device of the kind ``device``: the
            address of a cluster of Ray, or ``auto``, the cores or GPUs of this machine. None: this
            process measures.
        out: the dataset's folder, new or with an earlier run's rows; None:
            ``datasets/DEVICE/BACKEND/SETTING``.

    Raises:
        InputError: a value is out of its range.
    """

    n: int = 1000
    space: str = "darts"
    setting: Setting | str | None = None
    backend: str | None = None
    provider_library: Path | None = None
    device: str | None = None
    protocol: Protocol | str = "standard"
    runs: int | None = None
    replicates: int = 1
    target_error: float | None = None
    clock: Clock | Literal["auto"] | None = None
    threads: int = 1
    cores: tuple[int, ...] = ()
    energy: bool = False
    choose: Choice = "random"
    transfer_from: tuple[str, ...] = ()
    seed: int = 0
    fleet: str | None = None
    out: Path | str | None = None

    def __post_init__(self) -> None:
        set_tuples(self, "transfer_from", "cores")
        set_paths(self, "provider_library")
        check_seed(self.seed)
        check_effort(self.replicates, self.target_error)
        if self.choose not in ("random", "active"):
            raise InputError(f"unknown choice {self.choose!r}", "use random or active")
        if self.fleet is not None and self.choose == "active":
            raise InputError("a fleet measures a list", "leave --choose active out, or --fleet")
        if self.transfer_from and self.choose != "active":
            raise InputError("--transfer-from needs an active choice", "add --choose active")

    def get_protocol(self) -> Protocol:
        """The protocol with this request's changes.

        Raises:
            InputError: there is no preset of that name, or a value does not fit.
        """
        return choose_protocol(
            self.protocol, self.threads,
            runs=self.runs, clock=self.clock, cores=self.cores or None,
        )  # fmt: skip

    def get_setting(self, backend_class: type[Backend]) -> Setting:
        """The setting as a backend measures it.

        Raises:
            InputError: the space has none, or the text is not one.
        """
        return choose_setting(self.setting or default_setting(self.space), backend_class)


@dataclass(frozen=True)
class ProfileResult:
    """A dataset that was measured.

    Attributes:
        dataset: its folder.
        summary: what it holds now, earlier runs' rows included.
        warnings: what limits its use.
    """

    dataset: Path
    summary: DatasetSummary
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"dataset": str(self.dataset), **self.summary.to_dict()}


def run_profile(request: ProfileRequest, listener: Listener = SILENT) -> ProfileResult:
    """Measure the latency of architectures into a dataset.

    Rows that the folder holds already are not measured again, so that the same request goes on
    where an interrupted one stopped, and a larger ``n`` extends the dataset. What the dataset
    records of the backend, its threads and the hardware is the backend's own.

    Args:
        request: what to measure, and how.
        listener: receives what was chosen, and the progress.

    Raises:
        InputError: the request names what is not there, or a value does not fit this machine.
        BackendError: the backend is unusable here, cannot run the setting, or a network failed.
        DatasetError: the folder holds something else, or a file in it is corrupt.
        LPMError: an LPM that the active choice needs cannot be read.
        LatkitError: the folder cannot be written.
    """
    get_space(request.space)
    if request.device is not None:
        check_device_name(request.device)
    protocol = request.get_protocol()
    backend_class = choose_backend(request.backend, listener, request.provider_library)
    setting = request.get_setting(backend_class)
    if request.fleet is not None:
        return _profile_fleet(request, backend_class, setting, protocol, listener)
    with backend_class(threads=request.threads) as backend:
        device = choose_device(request.device, backend, listener)
        target = Target(request.space, device, backend.name, setting)
        out = Path(request.out or Path("datasets", device, backend.name, setting.slug))
        chosen = _choose_active(request, target, listener) if request.choose == "active" else None
        profile(
            backend,
            target,
            protocol,
            request.n,
            request.seed,
            out,
            request.replicates,
            request.target_error,
            request.energy,
            chosen,
            listener=listener,
        )
    return _result(request, out)


def _profile_fleet(
    request: ProfileRequest,
    backend_class: type[Backend],
    setting: Setting,
    protocol: Protocol,
    listener: Listener,
) -> ProfileResult:
    from latkit.tasks.fleet import profile_fleet

    assert request.fleet is not None
    if request.device is None:
        raise InputError("a fleet measures one kind of device", "name it: --device my-board")
    out = Path(request.out or Path("datasets", request.device, backend_class.name, setting.slug))
    warnings = profile_fleet(
        request.fleet, backend_class, request.device, setting, protocol, request.n, request.seed,
        out, request.replicates, request.target_error, request.energy, request.provider_library,
        listener,
    )  # fmt: skip
    return _result(request, out, warnings)


def _result(request: ProfileRequest, out: Path, warnings: tuple[str, ...] = ()) -> ProfileResult:
    summary = summarize(LatencyDataset.open(out))
    return ProfileResult(out, summary, (*warnings, *_warnings(summary, request.target_error)))


def _warnings(summary: DatasetSummary, target_error: float | None) -> list[str]:
    warnings = []
    if summary.architectures_unusable:
        warnings.append(
            f"{summary.architectures_unusable} of {summary.architectures} architectures have "
            "only measurements that other work on this machine disturbed, and will not be used; "
            "the same command re-measures them"
        )
    error_percent = summary.error_percent
    if target_error is not None and (error_percent is None or error_percent > 100 * target_error):
        reached = "unknown" if error_percent is None else f"{error_percent:.2f} %"
        warnings.append(
            f"the target error is not reached: {reached} after at most {MAX_REPLICATES} "
            "measurements of each architecture"
        )
    return warnings


def _choose_active(request: ProfileRequest, target: Target, listener: Listener) -> list[int]:
    """Identifiers of the ``n`` candidates that reduce an LPM's uncertainty most.

    Raises:
        InputError: there are fewer candidates, or a reference cannot be a source device's.
    """
    from latkit.lpm.selection import MAX_CANDIDATES, choose_active
    from latkit.registry import load_transfer_prior

    space = get_space(target.space)
    size = min(MAX_CANDIDATES, space.size)
    if request.n > size:
        raise InputError(f"an active choice has {size} candidates", f"use --n of at most {size}")
    ids = space.sample(size, request.seed)
    transfer = None
    if request.transfer_from:
        transfer = load_transfer_prior(request.transfer_from, target, listener=listener)
    candidates = space.encode(space.unrank(ids))
    rows = choose_active(space, target.setting, candidates, request.n, transfer)
    return [int(i) for i in ids[rows]]
