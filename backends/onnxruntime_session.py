"""A session of ONNX Runtime on one provider, and its runner, here and on a board.

This module is part of every bundle of ONNX graphs: it needs nothing but NumPy, ONNX Runtime and
Python 3.8.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from latkit.backends.layers import from_onnxruntime
from latkit.backends.timing import CpuRunner
from latkit.core.errors import BackendError

if TYPE_CHECKING:
    import numpy.typing as npt

    from latkit.backends.layers import LayerTimes
    from latkit.backends.runner import Clock
    from latkit.core.device import Facts
    from latkit.networks.inputs import Array

CPU = "CPUExecutionProvider"
# Their inputs and outputs lie in the memory of the GPU.
ON_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def check_active(requested: str, active: Sequence[str]) -> None:
    """Fail unless a session runs on the provider that was requested.

    Raises:
        BackendError: ONNX Runtime fell back to another.
    """
    if not active or active[0] != requested:
        others = ", ".join(active) or "nothing"
        raise BackendError(
            f"ONNX Runtime did not start {requested} and fell back to {others}",
            "check that its CUDA, cuDNN and TensorRT libraries are the ones this wheel was built "
            "for (see the warnings above)",
        )


def session_facts(providers: Sequence[str], threads: int, inexact: str = "nothing") -> Facts:
    """What a fingerprint has of ONNX Runtime.

    Args:
        providers: that a session really has.
        threads: of a session.
        inexact: what is not ruled out in fp32.
    """
    return {
        "onnxruntime": import_runtime().__version__,
        "providers": ",".join(providers),
        "graph_optimization": "all",
        "threads": threads,
        "inexact_fp32": inexact,
    }


def session_options(weights: Mapping[str, Array], threads: int, profile: Path | None) -> Any:
    """Options of every session.

    Args:
        weights: of the model's initialisers those that it does not hold; they are used where they
            lie.
        threads: of a run.
        profile: where its profile is to be written, if anywhere.
    """
    ort = import_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if weights:
        # The arrays themselves: nothing is copied into the model or written to a file.
        values = [ort.OrtValue.ortvalue_from_numpy(w) for w in weights.values()]
        options.add_external_initializers(list(weights), values)
    return options


def start_session(
    model: bytes, options: Any, provider: str, provider_options: dict[str, Any]
) -> Any:
    """A session on one of the providers that ONNX Runtime was built with, if that starts."""
    return import_runtime().InferenceSession(
        model, options, providers=[(provider, provider_options)], enable_fallback=0
    )


def cpu_session(
    model: bytes, weights: Mapping[str, Array], threads: int, profile: Path | None = None
) -> Any:
    """A session on the CPU; for the arguments see :func:`session_options`.

    Raises:
        BackendError: ONNX Runtime fell back to another provider.
        RuntimeError: it cannot make the session.
    """
    with own_errors():
        session = start_session(model, session_options(weights, threads, profile), CPU, {})
    check_active(CPU, session.get_providers())
    return session


class OnnxRuntimeRunner(CpuRunner):
    """A session with its inputs and outputs bound in the memory of its device.

    Args:
        load: makes the session; with a path, one that writes its profile there.
        inputs: by name.
        clock: of the samples.
    """

    def __init__(
        self, load: Callable[[Path | None], Any], inputs: dict[str, Array], clock: Clock
    ) -> None:
        super().__init__(clock)
        self._load: Any = load
        # ONNX Runtime may use these arrays where they lie for as long as the session lives.
        self._inputs = inputs
        self._session = load(None)
        self._binding = self._make_binding(self._session)

    def _make_binding(self, session: Any) -> Any:
        binding = session.io_binding()
        device = "cuda" if session.get_providers()[0] in ON_CUDA else "cpu"
        ort = import_runtime()
        for name, array in self._inputs.items():
            value = ort.OrtValue.ortvalue_from_numpy(array, device, 0)
            binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name, device)
        return binding

    def _layer_times(self, runs: int) -> LayerTimes:
        with tempfile.TemporaryDirectory() as folder:
            session = self._load(Path(folder, "profile"))
            binding = self._make_binding(session)
            for _ in range(runs + 1):
                session.run_with_iobinding(binding)
            with open(session.end_profiling(), encoding="utf-8") as file:
                return from_onnxruntime(json.load(file), runs)

    def _modes(self) -> AbstractContextManager[None]:
        return own_errors()

    def _bind(self) -> Callable[[], object]:
        binding = self._binding
        start, wait = self._session.run_with_iobinding, binding.synchronize_outputs

        def run() -> None:
            start(binding)
            wait()

        return run

    def _logits(self) -> npt.NDArray[np.float32]:
        self._session.run_with_iobinding(self._binding)
        return np.asarray(self._binding.copy_outputs_to_cpu()[0], dtype=np.float32)

    def _close(self) -> None:
        self._session = self._binding = self._load = None
        self._inputs = {}


def check_int8(runner: OnnxRuntimeRunner) -> None:
    """Fail unless a network's convolutions and products of matrices really run in integers.

    ONNX Runtime's own profiler counts the kernels of a run.

    Raises:
        BackendError: some run in fp32.
    """
    layers = runner.layer_times(1)
    counts = {layer.operator: round(layer.count) for layer in layers.layers} if layers else {}
    integer = sum(counts.get(operator, 0) for operator in _INTEGER)
    floating = sum(counts.get(operator, 0) for operator in _FLOATING)
    if floating or not integer:
        raise BackendError(
            f"precision=int8 is not run by ONNX Runtime {import_runtime().__version__}: {floating} "
            f"of {floating + integer} convolutions and products of matrices run in fp32",
            "use a setting with precision=fp32, or another release of onnxruntime",
        )


_INTEGER = ("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger")
_FLOATING = ("Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Make RuntimeErrors of ONNX Runtime's exceptions, which have no base class of their own."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            raise RuntimeError(str(error)) from error
        raise


def import_runtime() -> ModuleType:
    return importlib.import_module("onnxruntime")
