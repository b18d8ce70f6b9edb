"""CUDA without a GPU: what of pycuda's driver and of PyTorch's graphs the TensorRT backends use.

Nothing runs before it is waited for, so that a forgotten synchronisation reads stale memory; uses
of freed memory and of no context are errors. :class:`Cuda` has pycuda's names;
``simulated_runtime`` has those of cuda-python, for the same device.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class CudaError(Exception):
    """Like pycuda's, whose module it claims: it derives from Exception alone."""

    __module__ = "pycuda._driver"


class CudaMemoryError(CudaError):
    __module__ = "pycuda._driver"


class _Alive(list[str]):
    """Classes of the objects that are there, each until it is collected."""

    def watch(self, owner: Any, cls: str) -> None:
        self.append(cls)
        weakref.finalize(owner, self.remove, cls)


class Cuda:
    """What of ``pycuda.driver`` 2022.2 to 2026.1 the backend uses, by the names in its sources."""

    Error = CudaError
    MemoryError = CudaMemoryError

    class device_attribute:
        MULTIPROCESSOR_COUNT = "multiprocessors"

    def __init__(self, gpu: str = "Tesla T4", capability: tuple[int, int] = (7, 5)) -> None:
        self.gpu, self.capability = gpu, capability
        self.memory_mb = 16384
        self.buffers: dict[int, bytearray] = {}
        self.streams: dict[int, Any] = {}
        self.contexts: list[Any] = []
        self.primary = False  # of the CUDA runtime
        self.now_ms = 0.0
        self.failing_init = ""
        self.alive = _Alive()  # objects of TensorRT that use the context
        self.executing: weakref.WeakSet[Any] = weakref.WeakSet()
        cuda = self

        class Context:
            def push(self) -> None:
                cuda.contexts.append(self)

            def detach(self) -> None:
                """What gives a primary context back; popping it does not."""
                assert cuda.contexts[-1:] == [self], "detached while not current"
                assert not cuda.alive, f"objects outlive the context: {cuda.alive}"
                cuda.contexts.pop()

        class Device:
            def __init__(self, index: int) -> None:
                assert index == 0

            @staticmethod
            def count() -> int:
                return 1

            def name(self) -> str:
                return cuda.gpu

            def pci_bus_id(self) -> str:
                return "0000:3B:00.0"

            def compute_capability(self) -> tuple[int, int]:
                return cuda.capability

            def total_memory(self) -> int:
                return cuda.memory_mb * 2**20

            def get_attribute(self, attribute: str) -> int:
                return {"multiprocessors": 40}[attribute]

            def retain_primary_context(self) -> Context:
                return Context()

        class Stream:
            def __init__(self, flags: int = 0) -> None:
                cuda.need_context()
                self.handle = 1000 + len(cuda.streams)
                self.queue: list[Callable[[], None]] = []
                self.captured: list[Callable[[], None]] | None = None
                cuda.streams[self.handle] = self

            def add(self, work: Callable[[], None]) -> None:
                (self.queue if self.captured is None else self.captured).append(work)

            def synchronize(self) -> None:
                while self.queue:
                    self.queue.pop(0)()

        class Event:
            def __init__(self, flags: int = 0) -> None:
                self.at_ms: float | None = None
                self.stream: Stream | None = None

            def record(self, stream: Stream) -> Any:
                def mark() -> None:
                    self.at_ms = cuda.now_ms

                self.stream = stream
                stream.add(mark)
                return self

            def synchronize(self) -> Any:
                assert self.stream is not None
                self.stream.synchronize()
                return self

            def time_till(self, other: Event) -> float:
                if self.at_ms is None or other.at_ms is None:
                    raise CudaError("cuEventElapsedTime failed: device not ready")
                return other.at_ms - self.at_ms

        class DeviceAllocation:
            def __init__(self, address: int) -> None:
                self._address = address

            def __int__(self) -> int:
                return self._address

            def free(self) -> None:
                users = [c for c in cuda.executing if self._address in c._addresses.values()]
                assert not users, "freed under an execution context"
                del cuda.buffers[self._address]

        self.Device, self.Stream, self.Event = Device, Stream, Event
        self._allocation = DeviceAllocation

    @property
    def has_context(self) -> bool:
        """One that was made current, or that of the runtime, which stays."""
        return bool(self.contexts) or self.primary

    def need_context(self) -> None:
        if not self.has_context:
            raise CudaError("invalid device context")

    def init(self) -> None:
        if self.failing_init:
            raise CudaError(self.failing_init)

    def get_driver_version(self) -> int:
        return 12040

    def mem_alloc(self, nbytes: int) -> Any:
        self.need_context()
        if sum(map(len, self.buffers.values())) + nbytes > self.memory_mb * 2**20:
            raise CudaMemoryError("cuMemAlloc failed: out of memory")
        address = 4096 + max(self.buffers, default=0)
        self.buffers[address] = bytearray(nbytes)
        return self._allocation(address)

    def memcpy_htod(self, dest: Any, src: np.ndarray) -> None:
        assert src.flags.c_contiguous
        buffer = self._buffer(int(dest))
        assert len(buffer) == src.nbytes
        buffer[:] = src.tobytes()

    def memcpy_dtoh(self, dest: np.ndarray, src: Any) -> None:
        buffer = self._buffer(int(src))
        assert len(buffer) == dest.nbytes
        dest.reshape(-1)[:] = np.frombuffer(bytes(buffer), dest.dtype)

    def _buffer(self, address: int) -> bytearray:
        if address not in self.buffers:
            raise CudaError("invalid argument: the memory was freed")
        return self.buffers[address]


class TorchGraphs:
    """What of ``torch.cuda`` captures and replays graphs, on simulated streams."""

    def __init__(self, cuda: Cuda) -> None:
        self.current: Any = None
        self.captures_nothing = False
        simulation = self

        class ExternalStream:
            def __init__(self, handle: int) -> None:
                self.stream = cuda.streams[handle]

        class CUDAGraph:
            def __init__(self) -> None:
                self.works: list[Callable[[], None]] = []

            def replay(self) -> None:
                simulation.current.stream.queue.extend(self.works)

        self.ExternalStream, self.CUDAGraph = ExternalStream, CUDAGraph

    @contextlib.contextmanager
    def graph(self, graph: Any, stream: Any) -> Iterator[None]:
        """Like PyTorch's: a capture in which something failed cannot be ended."""
        before, self.current = self.current, stream
        stream.stream.captured = []
        yield
        graph.works = [] if self.captures_nothing else stream.stream.captured
        stream.stream.captured = None
        if not graph.works and not self.captures_nothing:
            raise RuntimeError(
                "CUDA error: operation failed due to a previous error during capture"
            )
        self.current = before  # not reached above: PyTorch leaves its stream there

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before
