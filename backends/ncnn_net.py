"""A network of ncnn on the CPU, and its runner, here and on a board.

This module is part of every bundle of ncnn's networks: it needs nothing but NumPy, ncnn and
Python 3.8.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from latkit.backends.threads import working_threads
from latkit.backends.timing import CpuRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    import numpy.typing as npt

    from latkit.backends.runner import Clock
    from latkit.core.device import Facts

# Writes a weight into memory of ncnn's, an array in one dimension; None: a word that is 0.
Fill: TypeAlias = "Callable[[npt.NDArray[np.float32]], object] | None"

# ncnn takes half precision by itself, on x86 and on Arm; older releases lack the last.
_HALVES = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage",
    "use_bf16_packed",
)  # fmt: skip
# What decides which kernels run; left as ncnn has them.
_KERNELS = (
    "use_winograd_convolution", "use_winograd23_convolution", "use_winograd43_convolution",
    "use_winograd63_convolution", "use_sgemm_convolution", "use_packing_layout", "lightmode",
)  # fmt: skip

# Of a network that takes some milliseconds: its threads are counted by what each has used.
_WIDTH_RUNS = 8


def import_ncnn() -> Any:
    return importlib.import_module("ncnn")


def net_facts(threads: int) -> Facts:
    """What a fingerprint has of ncnn.

    Args:
        threads: of a run.
    """
    option = _new_net(threads).opt
    active = [name for name in (*_KERNELS, *_HALVES) if getattr(option, name, False)]
    return {
        "ncnn": import_ncnn().__version__,
        "threads": threads,
        "precision_active": "fp32",
        "ncnn_options": ",".join(name.replace("use_", "") for name in active),
    }


def _new_net(threads: int) -> Any:
    net = import_ncnn().Net()
    net.opt.num_threads = threads
    for name in _HALVES:
        if hasattr(net.opt, name):
            setattr(net.opt, name, False)
    return net


def fix_thread_count() -> int:
    """Keep ncnn's OpenMP from taking fewer threads where the machine is busy (``OMP_DYNAMIC``).

    Returns:
        What ``set_omp_dynamic`` restores.
    """
    ncnn = import_ncnn()
    before = int(ncnn.get_omp_dynamic())
    ncnn.set_omp_dynamic(0)
    return before


def parallel_width(threads: int) -> int | None:
    """Threads that really work in a run; None where the system does not count that.

    Args:
        threads: that are requested.
    """
    # So many channels that each thread has as many, and hundreds of additions for each number: what
    # one thread does alone is little beside it.
    channels, side = 64 * threads, 32
    layers = "7767517\n2 2\nInput a 0 1 x\nPooling b 1 1 x y 0=1 1=15 2=1 3=7 5=1\n"
    net = load_net(layers, (), threads)
    with NcnnRunner(net, np.ones((channels, side, side), np.float32), "wall") as runner:
        runner.run(1)
        return working_threads(lambda: runner.run(_WIDTH_RUNS))


def load_net(layers: str, weights: Iterable[Fill], threads: int) -> Any:
    """A network that is ready to run.

    Args:
        layers: ncnn's text of them.
        weights: in the order in which ncnn reads them.
        threads: of a run.

    Raises:
        RuntimeError: ncnn does not take it.
        ValueError: a weight is of another size than ncnn has memory for.
    """
    net = _new_net(threads)
    if net.load_param_mem(layers) != 0:
        raise RuntimeError("ncnn does not take the network's layers")
    fills = iter(weights)
    reader = _reader_class()(fills)
    status = net.load_model(reader)
    if reader.failure is not None:
        raise reader.failure
    if status != 0 or next(fills, fills) is not fills:
        raise RuntimeError("ncnn does not take the network's weights")
    return net


@functools.lru_cache(maxsize=1)
def _reader_class() -> Any:
    """ncnn's source of weights, made to write each into the memory that ncnn has for it."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    memory_at = ctypes.pythonapi.PyMemoryView_FromMemory
    memory_at.restype = ctypes.py_object
    memory_at.argtypes = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
    to_write = 0x200

    class Reader(import_ncnn().DataReader):  # type: ignore[misc]
        def __init__(self, fills: Iterator[Fill]) -> None:
            super().__init__()
            self._fills = fills
            # Nothing may be raised through ncnn's code, an interruption included.
            self.failure: BaseException | None = None

        def read(self, buffer: object, size: int) -> int:
            """Called by ncnn, which takes less than ``size`` bytes for a failure."""
            try:
                memory = np.frombuffer(memory_at(pointer_of(buffer, None), size, to_write), "f4")
                fill = next(self._fills)
                if fill is None:
                    memory.fill(0)
                else:
                    fill(memory)
            except StopIteration:
                return 0
            except BaseException as failure:
                self.failure = failure
                return 0
            return size

    return Reader


class NcnnRunner(CpuRunner):
    """A network with its input in place.

    Args:
        net: that is loaded.
        image: ``channels x height x width``.
        clock: of the samples.
    """

    def __init__(self, net: Any, image: npt.NDArray[np.float32], clock: Clock) -> None:
        super().__init__(clock)
        self._net = net
        (self._input,), (self._output,) = net.input_names(), net.output_names()
        # In ncnn's memory, aligned as between layers.
        self._image = import_ncnn().Mat(np.ascontiguousarray(image)).clone()

    def _infer(self) -> Any:
        extractor = self._net.create_extractor()
        extractor.input(self._input, self._image)
        status, out = extractor.extract(self._output)
        del extractor  # it must not outlive the net, as it would in an error's traceback
        if status != 0:
            raise RuntimeError(f"ncnn ended with status {status}")
        return out

    def _bind(self) -> Callable[[], object]:
        return self._infer

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.array(self._infer(), dtype=np.float32).reshape(1, -1)

    def _close(self) -> None:
        self._net.clear()
        self._net = self._image = None
