"""What the TensorRT backends need of CUDA, by either of two packages: pycuda, or cuda-python.

NVIDIA's cuda-python has wheels, and current CUDA builds of PyTorch bring the part of it that is
used; pycuda is built with a CUDA toolkit. pycuda is taken where both are. Either uses the primary
context of the first GPU that CUDA shows, which PyTorch shares.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from latkit.core.device import Facts
from latkit.core.errors import BackendError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CudaGpu:
    """The first GPU, as CUDA describes it.

    Attributes:
        name: marketing name.
        capability: (major, minor).
        memory_mb: of the device, MiB.
        multiprocessors: how many it has.
        pci_bus_id: e.g. ``0000:3B:00.0``.
        driver: the CUDA version that the driver supports, e.g. 12040.
    """

    name: str
    capability: tuple[int, int]
    memory_mb: int
    multiprocessors: int
    pci_bus_id: str
    driver: int


class Cuda(ABC):
    """Memory, streams and events of the first GPU.

    Streams have ``handle`` (an address) and ``synchronize()``, events ``record(stream)`` and
    ``synchronize()``; both are destroyed when they are no longer used. Failures are RuntimeErrors
    within :meth:`errors`.

    Attributes:
        package: as users know it.
        modules: what is imported; the first that is there.
        distributions: that may hold it, and the facts of the fingerprint with their versions.

    Args:
        module: the imported one.
    """

    package: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    distributions: ClassVar[dict[str, str]]

    def __init__(self, module: Any) -> None:
        self._cuda = module

    def facts(self) -> Facts:
        """Which package it is, and its version."""
        versions = {fact: installed_version(name) for name, fact in self.distributions.items()}
        return {"cuda_api": self.package, **{k: v for k, v in versions.items() if v is not None}}

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """What makes RuntimeErrors of the package's own."""
        return contextlib.nullcontext()

    @abstractmethod
    def gpu(self) -> CudaGpu | None:
        """The first GPU; None: CUDA works and shows none."""

    @abstractmethod
    def enter(self) -> None:
        """Make the GPU's primary context current in this thread."""

    @abstractmethod
    def exit(self) -> None:
        """Undo :meth:`enter`."""

    @abstractmethod
    def stream(self) -> Any:
        """A new stream."""

    @abstractmethod
    def event(self) -> Any:
        """A new event."""

    @abstractmethod
    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Time between two events that have happened."""

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """The address of so much new device memory."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give memory back."""

    @abstractmethod
    def to_device(self, address: int, array: Floats) -> None:
        """Copy a contiguous array to device memory."""

    @abstractmethod
    def to_host(self, array: Floats, address: int) -> None:
        """Fill a contiguous array from device memory."""


class PyCuda(Cuda):
    """pycuda, whose own objects are the streams and events."""

    package = "pycuda"
    modules = ("pycuda.driver",)
    distributions: ClassVar = {"pycuda": "pycuda"}

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self._allocations: dict[int, Any] = {}

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # pycuda's derive from Exception alone
            if type(error).__module__.startswith("pycuda"):
                raise RuntimeError(str(error)) from error
            raise

    def gpu(self) -> CudaGpu | None:
        self._cuda.init()
        if self._cuda.Device.count() == 0:
            return None
        gpu = self._cuda.Device(0)
        major, minor = gpu.compute_capability()
        count = gpu.get_attribute(self._cuda.device_attribute.MULTIPROCESSOR_COUNT)
        return CudaGpu(
            name=str(gpu.name()),
            capability=(int(major), int(minor)),
            memory_mb=int(gpu.total_memory()) // 2**20,
            multiprocessors=int(count),
            pci_bus_id=str(gpu.pci_bus_id()),
            driver=int(self._cuda.get_driver_version()),
        )

    def enter(self) -> None:
        self._cuda.init()
        self._context = self._cuda.Device(0).retain_primary_context()
        self._context.push()

    def exit(self) -> None:
        # While it is current: pycuda gives a primary context back only here, not when it is popped
        # and collected.
        self._context.detach()
        del self._context

    def stream(self) -> Any:
        return self._cuda.Stream()

    def event(self) -> Any:
        return self._cuda.Event()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(start.time_till(end))

    def allocate(self, nbytes: int) -> int:
        allocation = self._cuda.mem_alloc(nbytes)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        self._allocations.pop(address).free()

    def to_device(self, address: int, array: Floats) -> None:
        self._cuda.memcpy_htod(self._allocations[address], array)

    def to_host(self, array: Floats, address: int) -> None:
        self._cuda.memcpy_dtoh(array, self._allocations[address])


class CudaPython(Cuda):
    """The CUDA runtime through cuda-python, whose functions return (error, results ...)."""

    package = "cuda-python"
    modules = ("cuda.bindings.runtime", "cuda.cudart")  # the second before 12.6.1
    distributions: ClassVar = {"cuda-bindings": "cuda_bindings", "cuda-python": "cuda_python"}

    def gpu(self) -> CudaGpu | None:
        if self._call("cudaGetDeviceCount") == 0:
            return None
        properties = self._call("cudaGetDeviceProperties", 0)
        return CudaGpu(
            name=_text(properties.name),
            capability=(int(properties.major), int(properties.minor)),
            memory_mb=int(properties.totalGlobalMem) // 2**20,
            multiprocessors=int(properties.multiProcessorCount),
            pci_bus_id=_text(self._call("cudaDeviceGetPCIBusId", 32, 0)),
            driver=int(self._call("cudaDriverGetVersion")),
        )

    def enter(self) -> None:
        self._before = self._call("cudaGetDevice")
        self._call("cudaSetDevice", 0)
        self._call("cudaFree", 0)  # before CUDA 12 setting the device does not make its context

    def exit(self) -> None:
        # The context stays: the runtime keeps one for each process and device, as PyTorch does.
        self._call("cudaSetDevice", self._before)

    def stream(self) -> Any:
        return _Stream(self)

    def event(self) -> Any:
        return _Event(self)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        return float(self._call("cudaEventElapsedTime", start.event, end.event))

    def allocate(self, nbytes: int) -> int:
        return int(self._call("cudaMalloc", nbytes))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def to_device(self, address: int, array: Floats) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpy", address, array.ctypes.data, array.nbytes, kind)

    def to_host(self, array: Floats, address: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpy", array.ctypes.data, address, array.nbytes, kind)

    def _call(self, name: str, *arguments: Any) -> Any:
        """The one result of a function of the runtime, if it has one.

        Raises:
            RuntimeError: it failed; with CUDA's reason. Some releases raise it themselves, where
                they find no driver.
        """
        error, *results = getattr(self._cuda, name)(*arguments)
        if error:
            self._fail(name, error)
        return results[0] if results else None

    def _fail(self, name: str, error: Any) -> None:
        _, reason = self._cuda.cudaGetErrorString(error)
        raise RuntimeError(f"{name} failed: {_text(reason)}")


class _Stream:
    """A stream of the runtime's."""

    def __init__(self, cuda: CudaPython) -> None:
        self._call = cuda._call
        self.stream = self._call("cudaStreamCreate")
        self.handle = int(self.stream)
        weakref.finalize(self, cuda._cuda.cudaStreamDestroy, self.stream)

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self.stream)


class _Event:
    """An event of the runtime's; what it is called for between two runs is bound beforehand."""

    def __init__(self, cuda: CudaPython) -> None:
        self.event = cuda._call("cudaEventCreate")
        self._record, self._fail = cuda._cuda.cudaEventRecord, cuda._fail
        self._wait = cuda._cuda.cudaEventSynchronize
        weakref.finalize(self, cuda._cuda.cudaEventDestroy, self.event)

    def record(self, stream: _Stream) -> None:
        (error,) = self._record(self.event, stream.stream)
        if error:
            self._fail("cudaEventRecord", error)

    def synchronize(self) -> None:
        (error,) = self._wait(self.event)
        if error:
            self._fail("cudaEventSynchronize", error)


class NoCudaPackageError(BackendError):
    """Neither package is installed."""


def open_cuda() -> Cuda:
    """CUDA through the first package that imports.

    Raises:
        NoCudaPackageError: neither is installed.
        BackendError: what is installed does not import; with its reason.
    """
    reasons = []
    for kind in (PyCuda, CudaPython):
        for name in kind.modules:
            try:
                return kind(importlib.import_module(name))
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    reasons.append(f"{name}: {error}")
            except Exception as error:  # a broken binary can raise anything
                reasons.append(f"{name}: {error}")
    if not reasons:
        raise NoCudaPackageError("neither pycuda nor cuda-python is installed", "install one")
    raise BackendError(" ".join("; ".join(reasons).split())[:200], "install it again")


def installed_version(distribution: str) -> str | None:
    """Of a distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(characters: bytes | str) -> str:
    """Text of C's, which may be padded with zeros."""
    if isinstance(characters, bytes):
        characters = characters.partition(b"\0")[0].decode(errors="replace")
    return characters
