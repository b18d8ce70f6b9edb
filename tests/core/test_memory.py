"""Errors of memory are told from others, by all who advise on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from latkit.backends.base import Clock, Runner, Samples
from latkit.core.errors import BackendError
from latkit.core.memory import memory_ran_out

# As runtimes word it.
OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("Exception from src/core/src/runtime/allocator.cpp:79:\nbad allocation"),
    RuntimeError("Check 'ptr' failed at memory.cpp:257:\nFailed to allocate 7663872811008 bytes"),
    RuntimeError("[ONNXRuntimeError] : 6 : Non-zero status code returned while running Conv node. "
                 "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of "
                 "size 285081600"),
    RuntimeError("cuMemAlloc failed: out of memory"),
    RuntimeError("could not allocate memory"),
]  # fmt: skip
OTHER = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x8 and 16x10)"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation"),
    RuntimeError("could not create a primitive descriptor for a memory format"),
    ValueError("the kernel is larger than the image"),
]


@pytest.mark.parametrize("error", OF_MEMORY, ids=str)
def test_errors_of_memory(error: Exception) -> None:
    assert memory_ran_out(error)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_errors(error: Exception) -> None:
    assert not memory_ran_out(error)


@pytest.mark.parametrize("allocate", [
    lambda: torch.empty(10**15), lambda: torch.empty(10**12, 10**12), lambda: np.empty(10**15),
    lambda: bytearray(10**15),
], ids=["torch", "torch-overflow", "numpy", "python"])  # fmt: skip
def test_real_allocations(allocate: object) -> None:
    assert callable(allocate)
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        allocate()
    assert memory_ran_out(raised.value)


class Failing(Runner):
    """A runner whose runtime raises."""

    clock: Clock = "wall"

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def _run(self, n: int) -> Samples:
        raise self.error

    def _logits(self) -> npt.NDArray[np.float32]:
        raise self.error

    def _close(self) -> None:
        """Nothing to free."""


@pytest.mark.parametrize("error", [*OF_MEMORY, *OTHER], ids=str)
def test_a_backend_advises_a_smaller_setting_only_for_memory(error: Exception) -> None:
    runner = Failing(error)
    for use in (lambda: runner.run(1), runner.logits):
        with pytest.raises(BackendError) as raised:
            use()
        assert ("memory ran out" in raised.value.fix) == (error in OF_MEMORY)
        assert (str(error) or "MemoryError").splitlines()[0][:50] in raised.value.cause
