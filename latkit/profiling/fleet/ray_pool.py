"""A fleet's workers as actors of Ray."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import filelock

from latkit.backends.base import fingerprint
from latkit.core.cores import process_cores
from latkit.core.errors import BackendError, InputError, LatkitError
from latkit.profiling.fleet.pool import Failed, Hired, Job, Lost, Measured
from latkit.profiling.protocol import Measurement
from latkit.profiling.session import Session
from latkit.spaces import get_space

INSTALL = "pip install 'latkit[fleet]'"
LOCAL = "auto"
# The message of a lost worker, without Ray's advice.
_REASON_LENGTH = 120


class FleetWorker:
    """Measures architectures where Ray has put it, on cores of its own.

    Args:
        job: of the fleet.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        # Until the process ends: whoever else of a fleet comes to this host takes other cores.
        self._locks = own_cores(job.cores)

    def start(self) -> Hired | LatkitError:
        """Open backend and session, and say who this is."""
        try:
            self._stack = contextlib.ExitStack()
            backend = self._stack.enter_context(self._job.open())
            meter = backend.open_meter() if self._job.energy else None
            session = Session(backend, self._job.setting, self._job.protocol, meter)
            self._session = self._stack.enter_context(session)
        except LatkitError as error:
            return error
        own = [f"core{core}" for core in self._locks] or [backend.gpu_identity() or "all"]
        facts = {**fingerprint(backend), **({"energy_meter": meter.name} if meter else {})}
        metrics = ("energy_mj", *backend.metrics) if meter else backend.metrics
        name = "-".join([socket.gethostname(), *own])
        return Hired(_file_name(name), backend.hardware_name(), facts, metrics)

    def measure(self, arch_id: int) -> Measurement | LatkitError:
        space, setting = get_space(self._job.setting.space), self._job.setting
        architecture = space.architecture(space.unrank(arch_id)[0], setting.network)
        try:
            return self._session.measure(architecture)
        except LatkitError as error:
            return error


def own_cores(count: int) -> dict[int, filelock.FileLock]:
    """Keep this process to cores that no other worker on this host has; locks by core.

    Raises:
        BackendError: fewer are free.
    """
    folder = Path(tempfile.gettempdir(), "latkit-cores")
    folder.mkdir(exist_ok=True)
    locks: dict[int, filelock.FileLock] = {}
    for core in sorted(process_cores()):
        if len(locks) == count:
            break
        lock = filelock.FileLock(folder / f"{core}.lock", blocking=False)
        with contextlib.suppress(filelock.Timeout):
            lock.acquire()
            locks[core] = lock
    if len(locks) < count:
        raise BackendError(
            f"{socket.gethostname()} has only {len(locks)} of {count} cores free for a worker",
            "hire fewer workers there, or end what else latkit measures",
        )
    if locks and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(locks))
    return locks


class RayPool:
    """Workers on a cluster of Ray; a context manager.

    Args:
        address: of the cluster; ``auto``: one of this machine alone, for as long as it is needed.
        job: of every worker.
        resource: of which each worker takes one: ``CPU``, ``GPU``, or the name of a kind of device
            that nodes were started with.

    Raises (on entering):
        InputError: Ray is not installed, or the cluster has no such resource.
        BackendError: there is no cluster.
    """

    def __init__(self, address: str, job: Job, resource: str) -> None:
        self._address, self._job, self._resource = address, job, resource
        self._actors: dict[str, Any] = {}
        # What is waited for: the actor, and its name if it has one.
        self._waiting: dict[Any, tuple[Any, str | None]] = {}

    def __enter__(self) -> RayPool:
        if importlib.util.find_spec("ray") is None:
            raise InputError("Ray is not installed, which runs the workers of a fleet", INSTALL)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = importlib.import_module("ray")
        local = self._address == LOCAL
        named: dict[str, Any] = {"num_cpus": len(process_cores())} if local else {}
        if local:
            named["include_dashboard"] = False
        try:
            self._ray.init(
                address="local" if local else self._address, log_to_driver=False,
                logging_level="ERROR", **named,
            )  # fmt: skip
        except Exception as error:  # of Ray, of gRPC, or of the operating system
            reason = " ".join(str(error).split())[:_REASON_LENGTH]
            raise BackendError(
                f"there is no cluster of Ray at {self._address} ({reason})",
                "start one: ray start --head, then --fleet ray://HOST:10001 or --fleet HOST:6379",
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    @property
    def size(self) -> int:
        """How many workers there is room for.

        Raises:
            InputError: for none.
        """
        found = self._ray.cluster_resources().get(self._resource, 0)
        size = int(found) // max(1, self._job.cores) if self._resource == "CPU" else int(found)
        if size < 1:
            raise InputError(
                f"the cluster has no {self._resource} for a worker",
                "start its nodes with ray start --resources "
                f"'{{\"{self._resource}\": 1}}', where each has as many as it has devices",
            )
        return size

    def hire(self) -> None:
        needs: dict[str, Any] = {"max_restarts": 0, "num_cpus": self._job.cores or 1}
        if self._resource == "GPU":
            needs["num_gpus"] = 1
        elif self._resource != "CPU":
            needs |= {"num_cpus": 0, "resources": {self._resource: 1}}
        actor = self._ray.remote(FleetWorker).options(**needs).remote(self._job)
        self._waiting[actor.start.remote()] = actor, None

    def measure(self, worker: str, arch_id: int) -> None:
        actor = self._actors[worker]
        self._waiting[actor.measure.remote(arch_id)] = actor, worker

    def dismiss(self, worker: str) -> None:
        self._ray.kill(self._actors.pop(worker))

    def next(self) -> Hired | Measured | Lost | Failed:
        (reference, *_), _ = self._ray.wait(list(self._waiting), num_returns=1)
        actor, worker = self._waiting.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            if worker is not None:
                del self._actors[worker]
            return Lost(worker, _reason(error))
        if isinstance(answer, LatkitError):
            return Failed(worker, answer)
        if isinstance(answer, Hired):
            if answer.worker in self._actors:
                self._ray.kill(actor)
                return Lost(None, f"another one is named {answer.worker} too")
            self._actors[answer.worker] = actor
            return answer
        assert worker is not None
        return Measured(worker, answer)


def _reason(error: Exception) -> str:
    """What happened, of what Ray says of it."""
    cause = getattr(error, "cause", None)
    text = str(cause if isinstance(cause, LatkitError) else error).split("\n")[0]
    return " ".join(text.split())[:_REASON_LENGTH]


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
