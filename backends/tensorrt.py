"""TensorRT: engines built from latkit's ONNX models, timed by device events.

The device code is kept thin: versions are decided on in ``tensorrt_api``, engines built in
``tensorrt_engine``, and CUDA is called in ``tensorrt_cuda``.
"""

from __future__ import annotations

import contextlib
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
from latkit.backends.hardware import GPU_GENERATIONS, dotted, gpu_generation
from latkit.backends.layers import LayerTimes, from_tensorrt
from latkit.backends.registry import BACKENDS
from latkit.backends.tensorrt_api import (
    NO_GPU,
    OPTIMIZATION_LEVEL,
    WORKSPACE_MB,
    check_tensors,
    decide_tensorrt,
    explain,
    explain_driver,
    explain_import,
    missing_names,
    strongly_typed,
)
from latkit.backends.tensorrt_cuda import (
    Cuda,
    CudaGpu,
    NoCudaPackageError,
    installed_version,
    open_cuda,
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
from latkit.meters.nvml import known_facts
from latkit.networks.models import Model
from latkit.networks.onnx_model import INPUT, OUTPUT
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_onnx


class TensorrtRunner(EventRunner):
    """An engine with its input and output in device memory, on a stream of its own.

    Args:
        tensorrt: the package.
        cuda: of the GPU.
        engine: deserialised.
        images: the input, fp32.
    """

    def __init__(
        self, tensorrt: Any, cuda: Cuda, engine: Any, images: npt.NDArray[np.float32]
    ) -> None:
        super().__init__(cuda.stream())
        self._tensorrt, self._cuda, self._engine = tensorrt, cuda, engine
        self._buffers: dict[str, int] = {}
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
        with self._cuda.errors():
            for name, nbytes in (
                (INPUT, images.nbytes),
                (OUTPUT, 4 * math.prod(self._output_shape)),
            ):
                self._buffers[name] = self._cuda.allocate(nbytes)
                if not self._context.set_tensor_address(name, self._buffers[name]):
                    raise explain(f"TensorRT does not take the buffer of {name}", log.take())
            self._cuda.to_device(self._buffers[INPUT], images)

    def _enqueue(self) -> None:
        """Start one run on the stream."""
        if not self._launch():
            raise self._explain()

    def _launch(self) -> bool:
        return bool(self._context.execute_async_v3(self._stream.handle))

    def _explain(self) -> BackendError:
        return explain("TensorRT cannot run the network", get_log(self._tensorrt).take())

    def _modes(self) -> AbstractContextManager[None]:
        return self._cuda.errors()

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
            for name, address in self._buffers.items():
                self._context.set_tensor_address(name, address)
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
        return self._cuda.event()

    def _elapsed_ms(self, start: Any, end: Any) -> float:
        return self._cuda.elapsed_ms(start, end)

    def _logits(self) -> npt.NDArray[np.float32]:
        logits = np.empty(self._output_shape, np.float32)
        self._bind()()
        self._stream.synchronize()
        self._cuda.to_host(logits, self._buffers[OUTPUT])
        return logits

    def _close(self) -> None:
        # The context uses the engine and the buffers: it goes first.
        self._context = self._engine = None
        for address in self._buffers.values():
            self._cuda.free(address)
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
        with self._cuda.errors(), torch.cuda.stream(self._torch_stream):
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
            self._cuda.to_device(self._buffers[OUTPUT], nothing)
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
        try:
            if importlib.util.find_spec("tensorrt") is None:
                return Probe("missing", "tensorrt is not installed", _install())
            tensorrt, cuda = import_tensorrt(), open_cuda()
        except NoCudaPackageError as error:
            return Probe("missing", error.cause, _install())
        except Exception as error:  # a broken binary can raise anything
            reason = error.cause if isinstance(error, BackendError) else str(error)
            reason = " ".join(reason.split())[:200]
            return Probe(
                "unusable", f"its packages do not import: {reason}", explain_import(reason)
            )
        try:
            with cuda.errors():
                gpu = cuda.gpu()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            return Probe(
                "missing", f"no CUDA GPU or no working driver ({reason})", explain_driver(reason)
            )
        if gpu is None:
            return Probe("missing", "no CUDA GPU", NO_GPU)
        version = str(tensorrt.__version__)
        return decide_tensorrt(version, missing_names(tensorrt), gpu.name, gpu.capability)

    def fingerprint(self) -> Facts:
        tensorrt, cuda = import_tensorrt(), open_cuda()
        return {
            "tensorrt": str(tensorrt.__version__),
            "strongly_typed": strongly_typed(tensorrt),
            "tf32": False,
            "optimization_level": OPTIMIZATION_LEVEL,
            "workspace_mb": WORKSPACE_MB,
            "timing_cache": "kept",
            **cuda.facts(),
            "cudnn": installed_version("nvidia-cudnn-cu12"),  # TensorRT 8.6 computes with it
            **_gpu_facts(_gpu(cuda)),
        }

    @property
    def clock(self) -> Clock:
        return "event"

    def hardware_name(self) -> str:
        return _gpu(open_cuda()).name

    def gpu_identity(self) -> str:
        return _gpu(open_cuda()).pci_bus_id

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
        tensorrt, cuda = import_tensorrt(), open_cuda()
        cache = TimingCache(
            timing_folder(),
            str(tensorrt.__version__),
            _gpu_facts(_gpu(cuda)),
            builder_settings(precision),
        )
        with runtime_errors("TensorRT cannot build the network"), cuda.errors():
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
        with runtime_errors("TensorRT cannot run the network"), self._cuda.errors():
            return self.runner_class(tensorrt, self._cuda, engine, images)

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
        tensorrt, self._cuda = import_tensorrt(), open_cuda()
        with self._cuda.errors():
            self._cuda.enter()
        try:
            with explained(tensorrt, "TensorRT does not start"):
                self._runtime = tensorrt.Runtime(get_log(tensorrt))
        except BaseException:
            self._cuda.exit()
            raise
        self._host = contextlib.ExitStack()
        self._host.enter_context(beside_torch(self.threads))

    def _exit(self) -> None:
        self._host.close()
        del self._runtime
        self._cuda.exit()


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


def _install() -> str:
    """How to install what is missing, for the GPU that PyTorch knows, else for current ones."""
    return gpu_generation(torch_capability() or GPU_GENERATIONS[0].capability).tensorrt_install


def _last(enumerator: Any) -> str:
    """``TensorIOMode.INPUT`` as ``INPUT``."""
    return str(enumerator).rpartition(".")[2]


def _gpu(cuda: Cuda) -> CudaGpu:
    with cuda.errors():
        gpu = cuda.gpu()
    if gpu is None:
        raise BackendError("no CUDA GPU", NO_GPU)
    return gpu


def _gpu_facts(gpu: CudaGpu) -> Facts:
    """What decides how fast the GPU is, as far as it and its management library report it."""
    return {
        "gpu": gpu.name,
        "gpu_capability": dotted(gpu.capability),
        "gpu_memory_mb": gpu.memory_mb,
        "gpu_multiprocessors": gpu.multiprocessors,
        "cuda_driver": gpu.driver,
        **known_facts(gpu.pci_bus_id),
    }
