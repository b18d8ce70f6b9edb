"""The OpenMP runtime that PyTorch computes with: how many threads a region of it really has."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch


def region_width() -> int | None:
    """Threads that a parallel region started by this thread has; None where it is unknown.

    The number requested (``torch.get_num_threads()``) is not always granted: limits of the
    environment (``OMP_THREAD_LIMIT``, ``OMP_MAX_ACTIVE_LEVELS``) count. So a region is run. Threads
    that are bound to fewer cores than there are of them (``GOMP_CPU_AFFINITY``, ``OMP_PLACES``)
    take turns, and count as one a core.
    """
    runtime = _runtime()
    if runtime is None:
        return None
    # Each of the region's threads posts the semaphore once; no thread calls into Python.
    count = (ctypes.c_long * 16)()
    width = ctypes.c_int()
    runtime.sem_init(count, 0, 0)
    runtime.GOMP_parallel(ctypes.cast(runtime.sem_post, ctypes.c_void_p), count, 0, 0)
    runtime.sem_getvalue(count, ctypes.byref(width))
    runtime.sem_destroy(count)
    return min(width.value, len(_bound_cores(runtime)) or width.value)


def _bound_cores(runtime: ctypes.CDLL) -> set[int]:
    """The cores that threads are bound to; empty where they are not bound."""
    cores: set[int] = set()
    for place in range(runtime.omp_get_num_places()):
        ids = (ctypes.c_int * runtime.omp_get_place_num_procs(place))()
        runtime.omp_get_place_proc_ids(place, ids)
        cores.update(ids)
    return cores


@contextlib.contextmanager
def exact_regions() -> Iterator[None]:
    """Keep OpenMP from taking fewer threads where the machine is busy (``OMP_DYNAMIC``)."""
    runtime = _runtime()
    if runtime is None:
        yield
        return
    before = runtime.omp_get_dynamic()
    runtime.omp_set_dynamic(0)
    try:
        yield
    finally:
        runtime.omp_set_dynamic(before)


def _runtime() -> ctypes.CDLL | None:
    """The loaded runtime, as PyTorch's own library sees it; None where it is of another kind."""
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    # First what is global, as the linker does, so that a preloaded runtime is found.
    for library in (None, Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"):
        with contextlib.suppress(OSError, TypeError, AttributeError):
            runtime = ctypes.CDLL(None if library is None else str(library))
            names = ("GOMP_parallel", "omp_get_dynamic", "omp_set_dynamic", "sem_init", "sem_post")
            places = ("num_places", "place_num_procs", "place_proc_ids")
            for name in (*names, "sem_getvalue", "sem_destroy", *(f"omp_get_{p}" for p in places)):
                getattr(runtime, name)
            runtime.GOMP_parallel.argtypes = [
                ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint,
            ]  # fmt: skip
            runtime.GOMP_parallel.restype = None
            return runtime
    return None
