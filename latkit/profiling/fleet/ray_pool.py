"""A fleet's workers as actors of Ray."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any, Generic

import filelock

from latkit.core.cores import process_cores
from latkit.core.errors import BackendError, InputError, LatkitError
from latkit.profiling.fleet.address import LOCAL, START, check_address, check_listens
from latkit.profiling.fleet.pool import Failed, Finished, Hired, Item, Job, Lost, Result

# The message of a lost worker, without Ray's advice.
_REASON_LENGTH = 120
# For what happens next, before whoever waits may do something else, as to end on a signal.
_WAIT_SECONDS = 2.0


class FleetWorker(Generic[Item, Result]):
    """Does a fleet's job where Ray has put it, on cores of its own.

    Args:
        job: of the fleet.
    """

    def __init__(self, job: Job[Item, Result]) -> None:
        self._job = job
        # Until the process ends: whoever else of a fleet comes to this host takes other cores.
        self._locks = own_cores(job.cores)

    def start(self) -> Hired | LatkitError:
        """Begin the job, and say who this is."""
        try:
            self._ready = ready = self._job.start()
        except LatkitError as error:
            return error
        own = [f"core{core}" for core in self._locks] or [ready.device or "all"]
        name = _file_name("-".join([socket.gethostname(), *own]))
        return Hired(name, ready.hardware, ready.fingerprint, ready.metrics)

    def do(self, item: Item) -> Result | LatkitError:
        try:
            return self._ready.do(item)
        except LatkitError as error:
            return error


def own_cores(count: int) -> dict[int, filelock.FileLock]:
    """Keep this process to cores that no other worker on this host has; locks by core.

    Raises:
        BackendError: fewer are free.
    """
    # Shared with other users of the host, whose workers measure on its cores too.
    folder = Path(tempfile.gettempdir(), "latkit-cores")
    locks: dict[int, filelock.FileLock] = {}
    try:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        for core in sorted(process_cores()):
            if len(locks) == count:
                break
            lock = filelock.FileLock(folder / f"{core}.lock", blocking=False, mode=0o666)
            with contextlib.suppress(filelock.Timeout):
                lock.acquire()
                locks[core] = lock
    except OSError as error:
        raise BackendError(
            f"locks of cores cannot be made in {folder} ({error.strerror})",
            "make it writable for every user of the host: chmod -R a+rwX",
        ) from None
    if len(locks) < count:
        raise BackendError(
            f"{socket.gethostname()} has only {len(locks)} of {count} cores free for a worker",
            "hire fewer workers there, or end what else latkit measures",
        )
    if locks and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(locks))
    return locks


class RayPool(Generic[Item, Result]):
    """Workers on a cluster of Ray; a context manager.

    Args:
        address: of the cluster; ``auto``: one of this machine alone, for as long as it is needed.
        job: of every worker.
        resource: of which each worker takes one: ``CPU``, ``GPU``, or the name of a kind of device
            that nodes were started with.

    Raises (on entering):
        InputError: Ray is not installed, the address is none, or the cluster has no such resource.
        BackendError: there is no cluster.
    """

    def __init__(self, address: str, job: Job[Item, Result], resource: str) -> None:
        self._address, self._job, self._resource = address, job, resource
        self._actors: dict[str, Any] = {}
        # What is waited for: the actor, and its name if it has one.
        self._waiting: dict[Any, tuple[Any, str | None]] = {}

    def __enter__(self) -> RayPool[Item, Result]:
        check_address(self._address)
        local = self._address == LOCAL
        if not local:
            check_listens(self._address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        handler = signal.getsignal(signal.SIGTERM)
        self._ray = importlib.import_module("ray")
        named: dict[str, Any] = {"num_cpus": len(process_cores())} if local else {}
        if local:
            named["include_dashboard"] = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # which repeat what is raised
                self._ray.init(
                    address="local" if local else self._address, log_to_driver=False,
                    logging_level="ERROR", **named,
                )  # fmt: skip
        except Exception as error:  # of Ray, of gRPC, or of the operating system
            reason = " ".join(str(error).split())[:_REASON_LENGTH]
            fix = f"{START}; where the cluster has a token, set RAY_AUTH_MODE=token"
            raise BackendError(
                f"there is no cluster of Ray at {self._address} ({reason})", fix
            ) from None
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # in whose place Ray has put its own
        # Once for all workers: a job may hold a network and its images.
        self._shared_job = self._ray.put(self._job)
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
        actor = self._ray.remote(FleetWorker).options(**needs).remote(self._shared_job)
        self._waiting[actor.start.remote()] = actor, None

    def give(self, worker: str, item: Item) -> None:
        actor = self._actors[worker]
        self._waiting[actor.do.remote(item)] = actor, worker

    def dismiss(self, worker: str) -> None:
        self._ray.kill(self._actors.pop(worker))

    def next(self) -> Hired | Finished[Result] | Lost | Failed | None:
        ready, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=_WAIT_SECONDS)
        if not ready:
            return None
        (reference,) = ready
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
        return Finished(worker, answer)


def _reason(error: Exception) -> str:
    """What happened, of what Ray says of it."""
    cause = getattr(error, "cause", None)
    text = str(cause if isinstance(cause, LatkitError) else error).split("\n")[0]
    return " ".join(text.split())[:_REASON_LENGTH]


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
