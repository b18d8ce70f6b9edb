"""The CUDA runtime of cuda-python without a GPU, strict about names and arguments.

:func:`simulate_runtime` makes a module with exactly the functions that a release has, as recorded
from the real package: using another, or giving one other arguments, fails; so does one that nothing
simulates. Functions return (error, results ...), as the real ones do, and never raise.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.backends.tensorrt.simulated_cuda import Cuda, CudaError, CudaMemoryError

RECORDED = json.loads(Path(__file__).with_name("cuda-api.json").read_text())
# The module that each recorded release has.
RELEASES: dict[str, str] = RECORDED["releases"]
NO_DRIVER = b"CUDA driver version is insufficient for CUDA runtime version"


def recorded(kind: str, release: str) -> dict[str, str]:
    """The names that a release has, with the arguments of functions."""
    column = list(RELEASES).index(release)
    return {
        name: says
        for name, forms in RECORDED[kind].items()
        for says, there in forms
        if there[column] == "1"
    }


class Handle:
    """A stream or an event, which has its address as ``int``."""

    def __init__(self, simulated: Any, address: int = 0) -> None:
        self.simulated, self._address = simulated, address

    def __int__(self) -> int:
        return self._address


class Runtime:
    """What the functions do, on the simulated device.

    Attributes:
        alive: streams and events that were not destroyed.
    """

    def __init__(self, release: str, cuda: Cuda) -> None:
        self.cuda, self.alive, self.device = cuda, set[int](), 0
        names = [n for n in recorded("cudaError_t", release) if n.startswith("cudaE")]
        self.errors = enum.IntEnum("cudaError_t", ["cudaSuccess", *names], start=0)  # type: ignore[misc]
        self.kinds = enum.IntEnum(  # type: ignore[misc]
            "cudaMemcpyKind",
            [n for n in recorded("cudaMemcpyKind", release) if n.startswith("cudaMemcpy")],
            start=0,
        )
        self.properties = set(recorded("cudaDeviceProp", release))

    def answer(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """(error, results ...) of a function."""
        if name == "cudaGetErrorString":
            return self.errors.cudaSuccess, self._reason(*arguments)
        if self.cuda.failing_init:
            return (self.errors.cudaErrorInsufficientDriver, None)
        try:
            result = getattr(self, name)(*arguments)
        except CudaMemoryError:
            return (self.errors.cudaErrorMemoryAllocation, None)
        except CudaError:
            return (self.errors.cudaErrorInvalidValue, None)
        return (self.errors.cudaSuccess,) if result is None else (self.errors.cudaSuccess, result)

    def _reason(self, error: Any) -> bytes:
        known = {
            self.errors.cudaErrorMemoryAllocation: b"out of memory",
            self.errors.cudaErrorInsufficientDriver: NO_DRIVER,
        }
        return known.get(error, b"invalid argument")

    def cudaGetDeviceCount(self) -> int:
        return self.cuda.Device.count()

    def cudaGetDeviceProperties(self, device: int) -> Any:
        gpu = self.cuda.Device(device)
        major, minor = gpu.compute_capability()
        known = {
            "name": gpu.name().encode() + bytes(200), "major": major, "minor": minor,
            "totalGlobalMem": gpu.total_memory(), "multiProcessorCount": 40,
        }  # fmt: skip
        assert set(known) <= self.properties
        return SimpleNamespace(**known)

    def cudaDeviceGetPCIBusId(self, length: int, device: int) -> bytes:
        return self.cuda.Device(device).pci_bus_id().encode().ljust(length, b"\0")

    def cudaDriverGetVersion(self) -> int:
        return self.cuda.get_driver_version()

    def cudaGetDevice(self) -> int:
        return self.device

    def cudaSetDevice(self, device: int) -> None:
        self.device = device

    def cudaMalloc(self, size: int) -> int:
        return int(self.cuda.mem_alloc(size))

    def cudaFree(self, pointer: int) -> None:
        self.cuda.primary = True  # as ``cudaFree(0)`` makes it
        if pointer:
            self.cuda._buffer(pointer)
            self.cuda._allocation(pointer).free()

    def cudaMemcpy(self, dst: int, src: int, count: int, kind: Any) -> None:
        to_device = kind is self.kinds.cudaMemcpyHostToDevice
        assert to_device or kind is self.kinds.cudaMemcpyDeviceToHost
        buffer = self.cuda._buffer(dst if to_device else src)
        assert len(buffer) == count
        if to_device:
            buffer[:] = ctypes.string_at(src, count)
        else:
            ctypes.memmove(dst, bytes(buffer), count)

    def cudaStreamCreate(self) -> Handle:
        stream = self.cuda.Stream()
        return self._made(Handle(stream, stream.handle))

    def cudaStreamSynchronize(self, stream: Handle) -> None:
        stream.simulated.synchronize()

    def cudaStreamDestroy(self, stream: Handle) -> None:
        self.alive.remove(id(stream))

    def cudaEventCreate(self) -> Handle:
        return self._made(Handle(self.cuda.Event()))

    def cudaEventRecord(self, event: Handle, stream: Handle) -> None:
        event.simulated.record(stream.simulated)

    def cudaEventSynchronize(self, event: Handle) -> None:
        event.simulated.synchronize()

    def cudaEventElapsedTime(self, start: Handle, end: Handle) -> float:
        return float(start.simulated.time_till(end.simulated))

    def cudaEventDestroy(self, event: Handle) -> None:
        self.alive.remove(id(event))

    def _made(self, handle: Handle) -> Handle:
        self.alive.add(id(handle))
        return handle


def simulate_runtime(release: str, cuda: Cuda) -> Any:
    """The module of a release, on a simulated device."""
    runtime = Runtime(release, cuda)
    module: Any = ModuleType(RELEASES[release])

    def function(name: str, says: str) -> Callable[..., tuple[Any, ...]]:
        count = len(says.split(", ")) if says else 0

        def call(*arguments: Any) -> tuple[Any, ...]:
            if len(arguments) != count:
                raise TypeError(f"{name} takes {says or 'nothing'}, not {len(arguments)} arguments")
            return runtime.answer(name, *arguments)

        return call

    for name, says in recorded("functions", release).items():
        setattr(module, name, function(name, says))
    module.cudaMemcpyKind, module.cudaError_t = runtime.kinds, runtime.errors
    module._runtime = runtime
    return module
