"""TensorRT without a GPU: a simulation that is strict about the API and the order.

:func:`simulate_tensorrt` makes a module with exactly the names that a release has, as recorded from
the real package: using another, or giving a method other arguments, fails. What engines compute is
computed by ONNX Runtime on the CPU. The CUDA side is in ``simulated_cuda``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime

from latkit.backends.tensorrt_engine import get_log
from tests.backends.tensorrt.simulated_cuda import Cuda

VERSIONS = ("8.6.1", "10.0.1", "10.16.1.11", "11.4.0.106")


def load_api(version: str) -> dict[str, dict[str, list[str] | None]]:
    text = Path(__file__).with_name(f"api-{version}.json").read_text()
    api: dict[str, dict[str, list[str] | None]] = json.loads(text)
    return api


class Enumerator:
    def __init__(self, cls: str, name: str, value: int) -> None:
        self._text, self._value = f"{cls}.{name}", value

    def __str__(self) -> str:
        return self._text

    def __int__(self) -> int:
        return self._value


class Recorded:
    """Base of the simulated classes: has what the release has, and nothing more."""

    _api: ClassVar[dict[str, list[str] | None]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self._api:
            raise AttributeError(f"{type(self).__name__} has no {name} in this release")
        object.__setattr__(self, name, value)


def simulate_tensorrt(version: str, cuda: Cuda) -> Any:
    """The module ``tensorrt`` of a release."""
    api = load_api(version)
    module: Any = ModuleType("tensorrt")
    module.__version__ = version
    simulation = _Behaviour(version, module, cuda)
    module._simulation = simulation
    module.IProfiler = type("IProfiler", (), {})  # users derive from it; it has no more
    for cls, names in api.items():
        if cls:
            setattr(module, cls, _make_class(cls, names, simulation))
    return module


def _make_class(cls: str, names: dict[str, list[str] | None], simulation: _Behaviour) -> type:
    made: dict[str, Any] = {"_api": names}
    for index, (name, arguments) in enumerate(names.items()):
        behaviour = getattr(simulation, f"{cls}_{name}".replace("__init__", "init"), None)
        if name.isupper() or name[:-2].isupper():
            made[name] = Enumerator(cls, name, index)
        elif arguments is None:
            if behaviour is not None:
                made[name] = property(
                    behaviour, lambda self, value, n=name: self._set_properties.update({n: value})
                )
        else:
            made[name] = _make_method(f"{cls}.{name}", arguments, behaviour)
    if cls == "IHostMemory":  # stands for the buffer protocol, which pure Python cannot offer
        made["__bytes__"] = lambda self: self._content
    return type(cls, (Recorded,), made)


def _make_method(name: str, arguments: list[str], behaviour: Callable[..., Any] | None) -> Any:
    least = sum(not argument.endswith("=") for argument in arguments)

    def method(self: Any, *given: Any) -> Any:
        if not least <= len(given) <= len(arguments):
            raise TypeError(f"{name} takes {arguments}, not {len(given)} arguments")
        if behaviour is None:
            raise AssertionError(f"{name} is not simulated")
        return behaviour(self, *given)

    return method


class _Behaviour:
    """What the methods do; a method is ``Class_method``."""

    def __init__(self, version: str, module: Any, cuda: Cuda) -> None:
        self.version, self.module, self.cuda = version, module, cuda
        self.strong = not version.startswith("8.")
        self.built: list[Any] = []  # the configurations that engines were built with
        self.failing_build = ""
        self.failing_capture = False
        self.noise = ""
        self.has_driver = True
        self._sessions: dict[bytes, Any] = {}

    def make(self, cls: str, **state: Any) -> Any:
        made = object.__new__(getattr(self.module, cls))
        for name, value in state.items():
            object.__setattr__(made, f"_{name}", value)
        return made

    def ILogger_init(self, log: Any) -> None:
        log._alive = True

    def say(self, log: Any, text: str) -> None:
        assert log._alive, "ILogger.__init__ was not called"
        log.log(self.module.ILogger.ERROR, text)

    def need_driver(self, log: Any) -> None:
        assert self.cuda.has_context, "TensorRT would make a context of its own"
        if not self.has_driver:
            self.say(log, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def Builder_init(self, builder: Any, log: Any) -> None:
        self.need_driver(log)
        builder._log = log

    def Builder_create_network(self, builder: Any, flags: int = 0) -> Any:
        return self.make("INetworkDefinition", flags=flags, log=builder._log, model=None)

    def Builder_create_builder_config(self, builder: Any) -> Any:
        return self.make(
            "IBuilderConfig", set=set(), cleared=set(), pools={}, timings=None, set_properties={}
        )

    def Builder_build_serialized_network(self, builder: Any, network: Any, config: Any) -> Any:
        self.built.append(config)
        flag = self.module.NetworkDefinitionCreationFlag
        wanted = flag.STRONGLY_TYPED if self.strong else flag.EXPLICIT_BATCH
        assert network._flags == 1 << int(wanted)
        half = onnx.TensorProto.FLOAT16 in {i.data_type for i in network._model.graph.initializer}
        if half and not self.strong and self.module.BuilderFlag.FP16 not in config._set:
            self.say(builder._log, "Network has FP16 tensors but the FP16 flag is not set")
            return None
        if self.failing_build:
            self.say(builder._log, self.failing_build)
            return None
        if self.noise:
            self.say(builder._log, self.noise)
        config._timings._content += b"layer;"
        plan = f"plan {self.version}\n".encode() + network._model.SerializeToString()
        return self.make("IHostMemory", content=plan)

    def OnnxParser_init(self, parser: Any, network: Any, log: Any) -> None:
        parser._network, parser._errors = network, []

    def OnnxParser_parse(self, parser: Any, model: bytes, path: str = "") -> bool:
        try:
            parser._network._model = onnx.load_model_from_string(model)
            onnx.checker.check_model(parser._network._model)
        except Exception as error:
            parser._errors.append(f"Failed to parse the model: {error}")
            return False
        return True

    def OnnxParser_num_errors(self, parser: Any) -> int:
        return len(parser._errors)

    def OnnxParser_get_error(self, parser: Any, index: int) -> Any:
        return self.make("ParserError", text=parser._errors[index])

    def ParserError_desc(self, error: Any) -> Any:
        return error._text

    def IBuilderConfig_set_memory_pool_limit(self, config: Any, pool: Any, size: int) -> None:
        config._pools[str(pool)] = size

    def IBuilderConfig_builder_optimization_level(self, config: Any) -> int:
        return 3

    def IBuilderConfig_set_flag(self, config: Any, flag: Any) -> None:
        config._set.add(flag)

    def IBuilderConfig_clear_flag(self, config: Any, flag: Any) -> None:
        config._cleared.add(flag)

    def IBuilderConfig_create_timing_cache(self, config: Any, content: bytes) -> Any:
        start = f"timings {self.version}:".encode()
        if content and not content.startswith(b"timings "):
            return None
        return self.make("ITimingCache", content=content or start)

    def IBuilderConfig_set_timing_cache(self, config: Any, cache: Any, ignore: bool) -> bool:
        if not cache._content.startswith(f"timings {self.version}:".encode()):
            return False
        config._timings = cache
        return True

    def IBuilderConfig_get_timing_cache(self, config: Any) -> Any:
        return config._timings

    def ITimingCache_serialize(self, cache: Any) -> Any:
        return self.make("IHostMemory", content=cache._content)

    def Runtime_init(self, runtime: Any, log: Any) -> None:
        self.need_driver(log)
        self.cuda.alive.watch(runtime, "Runtime")
        runtime._log = log

    def Runtime_deserialize_cuda_engine(self, runtime: Any, plan: bytes) -> Any:
        start, _, model = plan.partition(b"\n")
        if start != f"plan {self.version}".encode():
            self.say(runtime._log, "Serialization assertion magicTagRead == kMAGIC_TAG failed")
            return None
        engine = self.make("ICudaEngine", model=onnx.load_model_from_string(model), bytes=model)
        self.cuda.alive.watch(engine, "ICudaEngine")
        return engine

    def _tensors(self, engine: Any) -> list[Any]:
        return [*engine._model.graph.input, *engine._model.graph.output]

    def _tensor(self, engine: Any, name: str) -> Any:
        return next(tensor for tensor in self._tensors(engine) if tensor.name == name)

    def ICudaEngine_num_io_tensors(self, engine: Any) -> int:
        return len(self._tensors(engine))

    def ICudaEngine_get_tensor_name(self, engine: Any, index: int) -> Any:
        return self._tensors(engine)[index].name

    def ICudaEngine_get_tensor_mode(self, engine: Any, name: str) -> Any:
        is_input = self._tensor(engine, name) in list(engine._model.graph.input)
        return getattr(self.module.TensorIOMode, "INPUT" if is_input else "OUTPUT")

    def ICudaEngine_get_tensor_dtype(self, engine: Any, name: str) -> Any:
        half = self._tensor(engine, name).type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
        return getattr(self.module.DataType, "HALF" if half else "FLOAT")

    def ICudaEngine_get_tensor_shape(self, engine: Any, name: str) -> Any:
        dims = self._tensor(engine, name).type.tensor_type.shape.dim
        return tuple(dim.dim_value for dim in dims)

    def ICudaEngine_create_execution_context(self, engine: Any, strategy: Any = None) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            engine._bytes, options, providers=["CPUExecutionProvider"]
        )
        context = self.make(
            "IExecutionContext", engine=engine, session=session, addresses={}, has_run=False
        )
        self.cuda.alive.watch(context, "IExecutionContext")
        self.cuda.executing.add(context)
        return context

    def IExecutionContext_set_tensor_address(self, context: Any, name: str, memory: int) -> bool:
        context._addresses[name] = memory
        return memory in self.cuda.buffers

    def IExecutionContext_execute_async_v3(self, context: Any, handle: int) -> bool:
        session, addresses = context._session, dict(context._addresses)

        def compute() -> None:
            started = time.perf_counter()
            (x,), (y,) = session.get_inputs(), session.get_outputs()
            buffer = self.cuda._buffer(addresses[x.name])
            images = np.frombuffer(bytes(buffer), np.float32).reshape(x.shape)
            (logits,) = session.run([y.name], {x.name: images})
            self.cuda._buffer(addresses[y.name])[:] = logits.tobytes()
            self.cuda.now_ms += (time.perf_counter() - started) * 1e3
            profiler = getattr(context, "profiler", None)
            if profiler is not None:
                profiler.report_layer_time("/0/Conv + /2/Clip", 0.25)

        stream = self.cuda.streams[handle]
        if stream.captured is not None and (self.failing_capture or not context._has_run):
            self.say(get_log(self.module), "operation not permitted when stream is capturing")
            return False
        context._has_run = True
        stream.add(compute)
        return True
