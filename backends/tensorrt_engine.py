"""Building TensorRT engines from ONNX models, with a timing cache that outlives the process."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.backends.tensorrt_api import (
    OPTIMIZATION_LEVEL,
    WORKSPACE_MB,
    explain,
    network_flags,
    precision_flags,
    timing_cache_name,
)
from latkit.core.device import Facts
from latkit.core.errors import from_os_error
from latkit.core.files import user_folder, write_atomically


def import_tensorrt() -> Any:
    """The package, imported when first used."""
    return importlib.import_module("tensorrt")


@functools.cache
def get_log(tensorrt: Any) -> Any:
    """The process's log: TensorRT keeps the first that it is given, and no other."""

    class Log(tensorrt.ILogger):  # type: ignore[misc]
        """Keeps the latest errors, which TensorRT returns nowhere else."""

        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            if severity in (tensorrt.ILogger.ERROR, tensorrt.ILogger.INTERNAL_ERROR):
                self._errors.append(message)

        def take(self) -> list[str]:
            """The errors since the last call."""
            errors = list(self._errors)
            self._errors.clear()
            return errors

    return Log()


@contextlib.contextmanager
def explained(tensorrt: Any, what: str) -> Iterator[None]:
    """Turn what TensorRT raises where there is no driver into the reason it logged.

    Raises:
        BackendError: what failed, why, and the fix.
    """
    log = get_log(tensorrt)
    log.take()
    try:
        yield
    except TypeError as error:
        if "nullptr" not in str(error):  # "factory function returned nullptr"
            raise
        raise explain(what, log.take()) from error


def timing_folder() -> Path:
    """Where TensorRT's kernel timings are kept."""
    return user_folder("cache", "XDG_CACHE_HOME") / "tensorrt-timings"


@dataclass(frozen=True)
class TimingCache:
    """Kernel timings kept on disk, so that one layer is timed once and not in every network.

    They do more than save time: the same layer gets the same kernel in every network, where
    timings taken anew would choose by the noise of the minute.

    Args:
        folder: of the caches.
        version: of TensorRT.
        device: facts of the GPU and its driver.
        settings: of the builder, the precision among them.
    """

    folder: Path
    version: str
    device: Facts
    settings: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / timing_cache_name(self.version, self.device, self.settings)

    def read(self) -> bytes:
        """The cache, empty where there is none yet.

        Raises:
            LatkitError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise from_os_error(error, f"read {self.path}", "nothing was changed") from None

    def write(self, content: bytes) -> None:
        """Keep a cache; of several processes the last wins, and none leaves half a file.

        Raises:
            LatkitError: it cannot be written.
        """
        import filelock

        def fill(temporary: Path) -> None:
            temporary.write_bytes(content)

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{self.path}.lock"):
                write_atomically(self.path, fill)
        except OSError as error:
            kept = "every finished measurement is kept"
            raise from_os_error(error, f"write {self.path}", kept) from None


def builder_settings(precision: str) -> dict[str, Any]:
    """The settings of the builder, beside the network."""
    return {
        "precision": precision,
        "tf32": False,
        "optimization_level": OPTIMIZATION_LEVEL,
        "workspace_mb": WORKSPACE_MB,
    }


def build_plan(tensorrt: Any, model: bytes, precision: str, cache: TimingCache) -> bytes:
    """A serialised engine of an ONNX model, for the GPU that is current.

    Args:
        tensorrt: the package.
        model: an ONNX file with its weights in it and its types in the precision requested.
        precision: ``fp32`` (TF32 is ruled out) or ``fp16``.
        cache: read before and written after, where the build added to it.

    Raises:
        BackendError: TensorRT cannot build it; has its reason.
        LatkitError: the cache cannot be read or written.
    """
    log = get_log(tensorrt)
    with explained(tensorrt, "TensorRT does not start"):
        builder = tensorrt.Builder(log)
    network = builder.create_network(network_flags(tensorrt))
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse(model):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise explain("TensorRT cannot read the network", reasons or log.take())
    config = builder.create_builder_config()
    config.builder_optimization_level = OPTIMIZATION_LEVEL
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_MB * 2**20)
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    for flag in precision_flags(tensorrt, precision):
        config.set_flag(flag)
    known = cache.read()
    _use_timings(config, known, log)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise explain("TensorRT cannot build the network", log.take())
    timings = bytes(config.get_timing_cache().serialize())
    if timings != known:
        cache.write(timings)
    log.take()  # a good build logs errors too, of kernels it tried; they explain nothing later
    return bytes(plan)


def _use_timings(config: Any, known: bytes, log: Any) -> None:
    """Give the builder a timing cache, an empty one where the known one is damaged."""
    for content in (known, b""):
        timings = config.create_timing_cache(content)
        if timings is not None and config.set_timing_cache(timings, False):
            return
    raise explain("TensorRT takes no timing cache", log.take())
