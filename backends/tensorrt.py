"""TensorRT with pycuda: engines built from latkit's ONNX models, timed by device events.

The device code is kept thin: versions are decided on in ``tensorrt_api``, engines built in
``tensorrt_engine``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.failures import runtime_errors
from latkit.backends.hardware import GPU_GENERATIONS, gpu_generation
from latkit.backends.layers import LayerTimes, from_tensorrt
from latkit.backends.registry import BACKENDS
from latkit.backends.tensorrt_api import (
    NO_GPU,
    OPTIMIZATION_LEVEL,
    WORKSPACE_MB,
    check_tensors,
    decide_tensorrt,
    explain,
    explain_import,
    missing_names,
    strongly_typed,
)
from latkit.backends.tensorrt_engine import (
    TimingCache,
    build_plan,
    builder_settings,
    explained,
    get_log,
    import_tensorrt,
    timing_folder,
)
from latkit.backends.timing import EventRunner
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts
from latkit.core.errors import BackendError
from latkit.meters.energy import EnergyMeter, open_meter
from latkit.meters.nvml import find_gpu, gpu_facts, load_nvml
from latkit.networks.models import Model
from latkit.networks.onnx_model import INPUT, OUTPUT
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_onnx


class TensorrtRunner(EventRunner):
    """An engine with its input and output in device memory, on a stream of its own.

    Args:
        tensorrt, cuda: the packages ``tensorrt`` and ``pycuda.driver``.
        engine: deserialised.
        images: the input, fp32.
    """

    def __init__(
        self, tensorrt: Any, cuda: Any, engine: Any, images: npt.NDArray[np.float32]
    ) -> None:
        super().__init__(cuda.Stream())
        self._tensorrt, self._cuda, self._engine = tensorrt, cuda, engine
        self._buffers: dict[str, Any] = {}
        try:
            self._prepare(np.ascontiguousarray(images))
        except BaseException:
            self.close()
            raise

    def _prepare(self, images: npt.NDArray[np.float32]) -> None:
        engine, log = self._engine, get_log(self._tensorrt)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        check_tensors(
            {name: _last(engine.get_tensor_mode(name)) for name in names},
            {name: _last(engine.get_tensor_dtype(name)) for name in names},
        )
        taken = tuple(int(size) for size in engine.get_tensor_shape(INPUT))
        if taken != images.shape:
            raise BackendError(
                f"the engine takes images of shape {taken}, not {images.shape}",
                "build it for this setting",
            )
        self._output_shape = tuple(int(size) for size in engine.get_tensor_shape(OUTPUT))
        self._context = engine.create_execution_context()
        if self._context is None:
            raise self._explain()
        with _cuda_errors():
            for name, nbytes in (
                (INPUT, images.nbytes),
                (OUTPUT, 4 * math.prod(self._output_shape)),
            ):
                self._buffers[name] = self._cuda.mem_alloc(nbytes)
                if not self._context.set_tensor_address(name, int(self._buffers[name])):
                    raise explain(f"TensorRT does not take the buffer of {name}", log.take())
            self._cuda.memcpy_htod(self._buffers[INPUT], images)

    def _enqueue(self) -> None:
        """Start one run on the stream."""
        if not self._launch():
            raise self._explain()

    def _launch(self) -> bool:
        return bool(self._context.execute_async_v3(self._stream.handle))

    def _explain(self) -> BackendError:
        return explain("TensorRT cannot run the network", get_log(self._tensorrt).take())

    def _modes(self) -> AbstractContextManager[None]:
        return _cuda_errors()

    def _layer_times(self, runs: int) -> LayerTimes:
        """By TensorRT's profiler; not yet run on a GPU."""
        reported: list[tuple[str, float]] = []

        class Profiler(self._tensorrt.IProfiler):  # type: ignore[misc,name-defined]
            def report_layer_time(self, layer_name: str, ms: float) -> None:
                reported.append((str(layer_name), float(ms)))

        self._enqueue()
        self._stream.synchronize()
        # A context keeps its profiler; it is one of its own, and the measured one stays without.
        measured, self._context = self._context, self._engine.create_execution_context()
        try:
            for name, buffer in self._buffers.items():
                self._context.set_tensor_address(name, int(buffer))
            self._context.profiler = Profiler()
            started = time.perf_counter()
            for _ in range(runs):
                self._enqueue()
                self._stream.synchronize()
            whole_ms = (time.perf_counter() - started) * 1000 / runs
        finally:
            self._context = measured
        return from_tensorrt(reported, runs, whole_ms)

    def _bind(self) -> Callable[[], object]:
        return self._enqueue

    def _make_event(self) -> Any:
        return self._cuda.Event()

    def _elapsed_ms(self, start: Any, end: Any) -> float:
        return float(start.time_till(end))

    def _logits(self) -> npt.NDArray[np.float32]:
        logits = np.empty(self._output_shape, np.float32)
        self._bind()()
        self._stream.synchronize()
        self._cuda.memcpy_dtoh(logits, self._buffers[OUTPUT])
        return logits

    def _close(self) -> None:
        # The context uses the engine and the buffers: it goes first.
        self._context = self._engine = None
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers = {}
        self._stream = None


# What no network computes; NaN is what one may compute in fp16.
_NEVER = -1.2345e30


class TensorrtGraphRunner(TensorrtRunner):
    """Replays a CUDA graph of the run, captured through PyTorch on the same stream."""

    def _prepare(self, images: npt.NDArray[np.float32]) -> None:
        self._graph: Any = None
        super()._prepare(images)
        with super()._modes():
            wanted = self._logits()  # the first run may allocate, which a capture may not
        self._torch_stream: Any = torch.cuda.ExternalStream(self._stream.handle)
        graph: Any = torch.cuda.CUDAGraph()
        launched = True
        # The outer context restores PyTorch's stream even if the capture cannot be ended.
        with _cuda_errors(), torch.cuda.stream(self._torch_stream):
            try:
                with torch.cuda.graph(graph, stream=self._torch_stream):
                    launched = self._launch()
            except RuntimeError:
                if launched:
                    raise
        if not launched:  # the reason of the failure, not that of its consequence
            raise self._explain()
        self._graph = graph
        # A capture that went wrong can leave an empty graph, whose replays take no time.
        with self._modes():
            nothing = np.full(self._output_shape, _NEVER, np.float32)
            self._cuda.memcpy_htod(self._buffers[OUTPUT], nothing)
            replayed = self._logits()
        near = 1e-3 * np.abs(wanted).max(initial=0, where=np.isfinite(wanted))
        if not np.allclose(replayed, wanted, rtol=1e-3, atol=near, equal_nan=True):
            raise BackendError(
                "a replay of the captured CUDA graph computes something else",
                "use --backend tensorrt, which does not capture",
            )

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        with super()._modes(), torch.cuda.stream(self._torch_stream):  # which replays go to
            yield

    def _bind(self) -> Callable[[], object]:
        if self._graph is None:
            return super()._bind()
        replay: Callable[[], object] = self._graph.replay
        return replay

    def _close(self) -> None:
        self._graph = self._torch_stream = None
        super()._close()


@BACKENDS.register("tensorrt")
class TensorrtBackend(Backend):
    """``tensorrt``: engines in fp32 without TF32, or fp16; building one takes seconds to minutes.

    The GPU is the first that CUDA shows. Its primary context is used, which PyTorch shares.
    """

    name = "tensorrt"
    memory_formats = ("nchw",)
    precisions = ("fp32", "fp16")
    model_kinds = ("module", "onnx")
    runner_class: ClassVar[type[TensorrtRunner]] = TensorrtRunner

    @classmethod
    def probe(cls) -> Probe:
        for package in ("tensorrt", "pycuda"):
            if importlib.util.find_spec(package) is None:
                # PyTorch may know the GPU; the newest generation's hint is for one not known.
                generation = gpu_generation(torch_capability() or GPU_GENERATIONS[0].capability)
                fix = generation.tensorrt_install
                return Probe("missing", f"{package} is not installed", fix)
        try:
            tensorrt, cuda = import_tensorrt(), _import_cuda()
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            return Probe(
                "unusable", f"its packages do not import: {reason}", explain_import(reason)
            )
        try:
            cuda.init()
            if cuda.Device.count() == 0:
                return Probe("missing", "no CUDA GPU", NO_GPU)
            gpu = cuda.Device(0)
            name, capability = gpu.name(), gpu.compute_capability()
        except cuda.Error as error:
            reason = " ".join(str(error).split())[:200]
            return Probe("missing", f"no CUDA GPU or no working driver ({reason})", NO_GPU)
        version = str(tensorrt.__version__)
        return decide_tensorrt(version, missing_names(tensorrt), name, tuple(capability))

    def fingerprint(self) -> Facts:
        tensorrt, cuda = import_tensorrt(), _import_cuda()
        return {
            "tensorrt": str(tensorrt.__version__),
            "strongly_typed": strongly_typed(tensorrt),
            "tf32": False,
            "optimization_level": OPTIMIZATION_LEVEL,
            "workspace_mb": WORKSPACE_MB,
            "timing_cache": "kept",
            "pycuda": _version("pycuda"),
            "cudnn": _version("nvidia-cudnn-cu12"),  # TensorRT 8.6 computes with it
            **_gpu_facts(cuda),
        }

    @property
    def clock(self) -> Clock:
        return "event"

    def hardware_name(self) -> str:
        return str(_import_cuda().Device(0).name())

    def gpu_identity(self) -> str:
        return str(_import_cuda().Device(0).pci_bus_id())

    def open_meter(self) -> EnergyMeter:
        return open_meter("gpu", self.gpu_identity())

    def plan(self, model: bytes, precision: str) -> bytes:
        """A serialised engine of an ONNX file, for the GPU of this machine.

        Args:
            model: with its weights in it, in latkit's form (``random_onnx``).
            precision: of the model's types.

        Raises:
            BackendError: TensorRT cannot build it.
        """
        tensorrt = import_tensorrt()
        cuda = _import_cuda()
        cache = TimingCache(
            timing_folder(),
            str(tensorrt.__version__),
            _gpu_facts(cuda),
            builder_settings(precision),
        )
        with runtime_errors("TensorRT cannot build the network"), _cuda_errors():
            return build_plan(tensorrt, model, precision, cache)

    def load(self, plan: bytes, images: npt.NDArray[np.float32]) -> TensorrtRunner:
        """A runner of a serialised engine.

        Raises:
            BackendError: it is not one, or one for another GPU or version, or for other images.
        """
        tensorrt = import_tensorrt()
        get_log(tensorrt).take()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise explain("TensorRT cannot load the engine", get_log(tensorrt).take())
        with runtime_errors("TensorRT cannot run the network"), _cuda_errors():
            return self.runner_class(tensorrt, _import_cuda(), engine, images)

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        onnx = random_onnx(architecture, setting, seed)
        plan = self.plan(onnx.serialized(), setting.precision)
        return self.load(plan, random_input(setting, seed).numpy())

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        if run.precision != "fp32":
            raise BackendError(
                f"{self.name} runs {model.name} in fp32 and not in {run.precision}",
                "use a setting with precision=fp32",
            )
        plan = self.plan(model.onnx(latkit_names=True), run.precision)
        (array,) = model.arrays(seed).values()
        return self.load(plan, array)

    def _enter(self) -> None:
        tensorrt, cuda = import_tensorrt(), _import_cuda()
        with _cuda_errors():
            cuda.init()
            self._cuda_context = cuda.Device(0).retain_primary_context()
            self._cuda_context.push()
        try:
            with explained(tensorrt, "TensorRT does not start"):
                self._runtime = tensorrt.Runtime(get_log(tensorrt))
        except BaseException:
            self._leave_context()
            raise
        self._host = contextlib.ExitStack()
        self._host.enter_context(beside_torch(self.threads))

    def _exit(self) -> None:
        self._host.close()
        del self._runtime
        self._leave_context()

    def _leave_context(self) -> None:
        # While it is current: pycuda gives a primary context back only here, not when it is popped
        # and collected.
        self._cuda_context.detach()
        del self._cuda_context


@BACKENDS.register("tensorrt-graph")
class TensorrtGraphBackend(TensorrtBackend):
    """``tensorrt-graph``: the same engines, launched as one CUDA graph: less work for the host."""

    name = "tensorrt-graph"
    runner_class = TensorrtGraphRunner

    @classmethod
    def probe(cls) -> Probe:
        probe = super().probe()
        if not probe.usable:
            return probe
        from latkit.backends.torch_cuda import TorchCudaBackend

        capturing = TorchCudaBackend.probe()
        if not capturing.usable:
            return Probe(
                capturing.status,
                f"PyTorch, which captures the graph, cannot use the GPU: {capturing.reason}",
                f"{capturing.fix}, or use --backend tensorrt",
            )
        return probe


def torch_capability() -> tuple[int, int] | None:
    """Of the GPU that PyTorch can use, if there is one."""
    try:
        return torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    except RuntimeError:  # a GPU that is busy or broken
        return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _last(enumerator: Any) -> str:
    """``TensorIOMode.INPUT`` as ``INPUT``."""
    return str(enumerator).rpartition(".")[2]


def _gpu_facts(cuda: Any) -> Facts:
    """What decides how fast the GPU is, as far as it and its management library report it."""
    gpu = cuda.Device(0)
    major, minor = gpu.compute_capability()
    facts: Facts = {
        "gpu": str(gpu.name()),
        "gpu_capability": f"{major}.{minor}",
        "gpu_memory_mb": int(gpu.total_memory()) // 2**20,
        "gpu_multiprocessors": int(gpu.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)),
        "cuda_driver": int(cuda.get_driver_version()),
    }
    try:
        nvml = load_nvml()
        return {**facts, **gpu_facts(nvml, find_gpu(nvml, gpu.pci_bus_id()))}
    except BackendError:  # driver, clocks and limits are known only to the management library
        return facts


@contextlib.contextmanager
def _cuda_errors() -> Iterator[None]:
    """Make RuntimeErrors of pycuda's exceptions, which derive from Exception alone."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("pycuda"):
            raise RuntimeError(str(error)) from error
        raise


def _import_cuda() -> Any:
    return importlib.import_module("pycuda.driver")
