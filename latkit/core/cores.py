"""Which CPU cores this process may use, how many threads fit on them, and keeping to some.

OpenMP's ``OMP_PROC_BIND`` binds the thread that loads the runtime to one core at once, so the
cores of this process are noted when latkit is imported, which is before it imports torch.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from latkit.core.cgroup import cpu_quota
from latkit.core.errors import InputError

# By any of these, unless it is switched off, an OpenMP runtime binds its threads.
_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
_OFF = {"", "false", "none", "disabled"}


def _allowed_now() -> frozenset[int]:
    """Cores of the calling thread; those of the machine where the system does not report it."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


# The cores that an OpenMP runtime may have taken from the calling thread.
_before_binding = _allowed_now()


def openmp_binds(environment: Mapping[str, str]) -> bool:
    """Whether OpenMP binds threads to cores by itself in an environment."""
    return any(environment.get(name, "").lower() not in _OFF for name in _BINDING)


def process_cores() -> frozenset[int]:
    """The cores this process may run on, whatever OpenMP binds the calling thread to."""
    return _before_binding if openmp_binds(os.environ) else _allowed_now()


def usable_cores() -> int:
    """Number of cores this process may run on."""
    return len(process_cores())


def affinity() -> str | None:
    """The cores this process may run on, e.g. ``0-3,8``; None where that is not known."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    ranges: list[list[int]] = []
    for core in sorted(process_cores()):
        if ranges and core == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], core]
        else:
            ranges.append([core])
    return ",".join("-".join(map(str, r)) for r in ranges)


def check_threads(threads: int, root: Path = Path("/")) -> None:
    """Refuse more threads than can run at the same time.

    Args:
        threads: wanted.
        root: where ``proc`` and ``sys`` are.

    Raises:
        InputError: names the cores, or the control group's quota.
    """
    cores, quota = usable_cores(), cpu_quota(root)
    if threads > cores:
        bound = openmp_binds(os.environ) and cores < (os.cpu_count() or 1)
        import_first = ", or import latkit before torch, which OpenMP binds to a core"
        raise InputError(
            f"{threads} threads do not fit on the {cores} CPU cores that this process may use",
            f"use at most --threads {cores}{import_first if bound else ''}",
        )
    if quota is not None and threads > max(1, int(quota)):
        raise InputError(
            f"the control group grants the time of {quota:g} CPU cores, so {threads} threads would "
            "be held up",
            f"use at most --threads {max(1, int(quota))}, or grant more",
        )


def parse_cores(text: str) -> tuple[int, ...]:
    """The core numbers of a text like ``0,2-3``.

    Raises:
        InputError: it is none.
    """
    cores: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InputError(f"{text!r} is not a list of cores", "write e.g. 0,2-3")
        cores += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(dict.fromkeys(cores))


@contextlib.contextmanager
def pinned_to(cores: Sequence[int]) -> Iterator[None]:
    """Keep all threads of this process, and those they start, on some cores.

    With no cores given, nothing changes.

    Raises:
        InputError: the system cannot pin, or the process may not use these cores.
    """
    if not cores:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("this system cannot pin a process to cores", "leave out --cores")
    whole = process_cores()
    beyond = sorted(set(cores) - whole)
    if beyond:
        raise InputError(
            f"this process may not use core {', '.join(map(str, beyond))}",
            f"choose from {', '.join(map(str, sorted(whole)))}",
        )
    global _before_binding
    noted = _before_binding
    before = {thread: _cores_of(thread) for thread in _threads()}
    try:
        for thread in before:
            _move(thread, cores)
        _before_binding = frozenset(cores)
        yield
    finally:
        _before_binding = noted
        for thread in _threads():
            _move(thread, before.get(thread) or whole)


@contextlib.contextmanager
def unbound() -> Iterator[None]:
    """Undo what OpenMP's binding did to the calling thread, whose threads-to-be inherit it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, process_cores())
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _threads() -> list[int]:
    """The threads of this process; 0, the calling one, where the system does not list them."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]


def _cores_of(thread: int) -> set[int]:
    try:
        return os.sched_getaffinity(thread)
    except ProcessLookupError:  # it has ended
        return set()


def _move(thread: int, cores: Sequence[int] | frozenset[int] | set[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)
