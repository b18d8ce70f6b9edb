"""A program of ExecuTorch with XNNPACK, and its runner, here and on a board.

This module is part of every bundle of programs: it needs nothing but NumPy, ExecuTorch's runtime
(and PyTorch, whose tensors that takes) and Python 3.8.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from latkit.backends.timing import CpuRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from latkit.backends.runner import Clock
    from latkit.core.device import Facts
    from latkit.networks.inputs import Array

DELEGATE = "XnnpackBackend"
METHOD = "forward"


class Program:
    """A program that is loaded and ready to run.

    Args:
        content: of its file.
    """

    def __init__(self, content: bytes) -> None:
        # The program points into the content, and the method into the program.
        self._content = content
        with quiet():
            self._program: Any = import_runtime()._load_program_from_buffer(content)
            self.method: Any = self._program.load_method(METHOD)

    def __call__(self, images: Array) -> npt.NDArray[np.float32]:
        """What it computes of an input, which is copied."""
        return np.array(self.method([_tensor(images)])[0].numpy())

    def close(self) -> None:
        """Free it, the method first."""
        del self.method
        del self._program


class ExecutorchRunner(CpuRunner):
    """A program with its inputs in place.

    Args:
        content: of the program's file.
        inputs: of every run.
        clock: of the samples.
        in_place: whether the program leaves its inputs as they are, so that they are set once;
            else every run copies them.
    """

    def __init__(
        self, content: bytes, inputs: Sequence[Array], clock: Clock, in_place: bool = True
    ) -> None:
        super().__init__(clock)
        self._program = Program(content)
        self._inputs = [_tensor(array) for array in inputs]
        self._in_place = in_place
        if in_place:
            self._program.method.set_inputs(self._inputs)

    def _bind(self) -> Callable[[], object]:
        method = self._program.method
        return method.execute if self._in_place else functools.partial(method, self._inputs, False)

    def _logits(self) -> npt.NDArray[np.float32]:
        self._bind()()
        return np.array(self._program.method.get_outputs()[0].numpy(), dtype=np.float32)

    def _close(self) -> None:
        self._program.close()
        self._inputs = []


def program_facts(version: str, threads: int) -> Facts:
    """What a fingerprint has of ExecuTorch.

    Args:
        version: of the package.
        threads: of a run.
    """
    return {
        "executorch": version,
        "delegate": DELEGATE,
        "threads": threads,
        "precision_active": "fp32",
    }


def pool_threads() -> int:
    """How many threads run a program, that of the caller among them."""
    with quiet():
        return int(import_runtime()._threadpool_get_thread_count())


def set_pool_threads(threads: int) -> None:
    """Make another pool; programs that are loaded would run on the one before, which is gone."""
    with quiet():
        import_runtime()._unsafe_reset_threadpool(threads)


def quiet() -> AbstractContextManager[object]:
    """Keep from standard error what ExecuTorch writes there unasked, by way of Python's stream."""
    return contextlib.redirect_stderr(io.StringIO())


def import_runtime() -> Any:
    """ExecuTorch's runtime for Python.

    The library itself: the modules around it import all that lowers networks, which takes seconds
    and a dozen packages that running needs not.
    """
    importlib.import_module("torch")  # whose libraries it looks for
    return importlib.import_module("executorch.extension.pybindings._C")


def _tensor(array: Array) -> Any:
    return importlib.import_module("torch").from_numpy(array)
