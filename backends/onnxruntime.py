"""ONNX Runtime: on the CPU, on CUDA, and through TensorRT.

The three wheels of ONNX Runtime share one import name, and a session that cannot have its
provider silently becomes a CPU session. So a backend requests one provider and fails unless the
session really has it: no CPU times under a CUDA name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.hardware import BACKEND_SUPPORT, gpu_generation
from latkit.backends.onnxruntime_gpu import (
    TF32_OVERRIDE,
    cuda_options,
    decide_gpu,
    decide_tf32,
    loaded_cudnn,
    tensorrt_options,
)
from latkit.backends.onnxruntime_int8 import int8_network
from latkit.backends.onnxruntime_session import (
    CPU,
    OnnxRuntimeRunner,
    check_active,
    check_int8,
    import_runtime,
    own_errors,
    session_facts,
    session_options,
    start_session,
)
from latkit.backends.registry import BACKENDS
from latkit.backends.tensorrt_engine import timing_folder
from latkit.backends.timing import cpu_clock
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError, from_os_error
from latkit.meters.energy import EnergyMeter, open_meter
from latkit.networks.inputs import Array
from latkit.networks.models import Model
from latkit.networks.onnx_model import INPUT, OnnxNetwork
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.build import random_input, random_onnx


def decide_provider(provider: str, available: Sequence[str], version: str) -> Probe:
    """Whether an installed ONNX Runtime was built with a provider.

    Args:
        provider: e.g. ``CUDAExecutionProvider``.
        available: ``onnxruntime.get_available_providers()``.
        version: of ONNX Runtime, for the reason.
    """
    if provider in available:
        return Probe("ok", f"ONNX Runtime {version} with {provider}")
    return Probe(
        "missing",
        f"the installed ONNX Runtime {version} was built without {provider} "
        f"(it has {', '.join(available)})",
        "one environment holds one of its wheels: pip uninstall onnxruntime, then "
        f"{BACKEND_SUPPORT['onnxruntime-cuda'].install}",
    )


def find_runtime(install: str) -> Probe | None:
    """What keeps ONNX Runtime from being used, if anything.

    Args:
        install: how to install it.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return Probe("missing", "onnxruntime is not installed", install)
    try:
        import_runtime()
    except Exception as error:  # a broken binary can raise anything
        reason = " ".join(str(error).split())[:200]
        return Probe("unusable", f"onnxruntime does not import: {reason}", "install it again")
    return None


class OnnxRuntimeBackend(Backend):
    """What the backends of ONNX Runtime have in common.

    Attributes:
        provider: the execution provider that must run the network.
        inexact: what is not ruled out in fp32.
    """

    provider: str
    inexact: str = "nothing"
    memory_formats = ("nchw",)
    model_kinds = ("module", "onnx")

    @classmethod
    def probe(cls) -> Probe:
        broken = find_runtime(BACKEND_SUPPORT[cls.name].install)
        if broken is not None:
            return broken
        ort = import_runtime()
        return decide_provider(cls.provider, ort.get_available_providers(), ort.__version__)

    @property
    def clock(self) -> Clock:
        return "wall"

    def fingerprint(self) -> Facts:
        return session_facts(self._active_providers(), self.threads, self.inexact)

    def hardware_name(self) -> str:
        return cpu_name()

    def _provider_options(self) -> dict[str, Any]:
        """Options of the provider; every one that matters is set and not left to a default."""
        return {}

    def _session(self, model: bytes, weights: dict[str, Array], profile: Path | None = None) -> Any:
        """A session that runs on the provider.

        Args:
            model: an ONNX file.
            weights: of its initialisers those that it does not hold; they are used where they lie.
            profile: where its profile is to be written, if anywhere.
        """
        options = self._session_options(weights, profile)
        if self.provider != CPU:
            # What the provider cannot run must be an error and not run on the CPU.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        with own_errors():
            session = self._start(model, options)
        check_active(self.provider, session.get_providers())
        return session

    def _start(self, model: bytes, options: Any) -> Any:
        """A session of these options on the provider."""
        return start_session(model, options, self.provider, self._provider_options())

    def _session_options(self, weights: dict[str, Array], profile: Path | None) -> Any:
        return session_options(weights, self.threads, profile)

    def _compile(
        self, architecture: Architecture, setting: Setting, seed: int
    ) -> OnnxRuntimeRunner:
        network = self._network(architecture, setting, seed)
        load = partial(self._session, network.content, network.weights)
        return OnnxRuntimeRunner(load, {INPUT: random_input(setting, seed).numpy()}, self.clock)

    def _network(self, architecture: Architecture, setting: Setting, seed: int) -> OnnxNetwork:
        return random_onnx(architecture, setting, seed, merged=True)

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        if run.precision != "fp32":
            raise BackendError(
                f"{self.name} runs {model.name} in the types of its ONNX file, not in "
                f"{run.precision}",
                "use a setting with precision=fp32, or a file whose types are others",
            )
        # The content is made anew where it is needed again: it is as large as the network.
        return OnnxRuntimeRunner(
            lambda profile: self._session(model.onnx(), {}, profile), model.arrays(seed), self.clock
        )

    def _active_providers(self) -> list[str]:
        """What a session of this backend really runs on."""
        from latkit.spaces import get_preset
        from latkit.spaces.darts.zoo import get_genotype

        network = random_onnx(get_genotype("darts_v2"), get_preset("tiny"), 0)
        session = self._session(network.content, network.weights)
        return list(session.get_providers())

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        self._host.enter_context(beside_torch(self.threads))
        try:
            self._active_providers()
        except BaseException:
            self._exit()
            raise

    def _exit(self) -> None:
        self._host.close()


@BACKENDS.register("onnxruntime-cpu")
class OnnxRuntimeCpuBackend(OnnxRuntimeBackend):
    """``onnxruntime-cpu``: works wherever the package does; fp32, or int8."""

    name = "onnxruntime-cpu"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    provider = CPU
    _runs_int8 = False

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def _network(self, architecture: Architecture, setting: Setting, seed: int) -> OnnxNetwork:
        if setting.precision == "int8":
            return int8_network(architecture, setting, seed, self.threads)
        return super()._network(architecture, setting, seed)

    def _compile(
        self, architecture: Architecture, setting: Setting, seed: int
    ) -> OnnxRuntimeRunner:
        runner = super()._compile(architecture, setting, seed)
        if setting.precision == "int8" and not self._runs_int8:
            with contextlib.ExitStack() as failed:
                failed.enter_context(runner)
                check_int8(runner)
                failed.pop_all()
            self._runs_int8 = True
        return runner


@BACKENDS.register("onnxruntime-cuda")
class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """``onnxruntime-cuda``: fp32 without TF32, or fp16; exhaustive search of convolutions."""

    name = "onnxruntime-cuda"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16")
    provider = "CUDAExecutionProvider"
    tensorrt: ClassVar[bool] = False

    @classmethod
    def probe(cls) -> Probe:
        probe = super().probe()
        if not probe.usable:
            return dataclasses.replace(probe, fix=f"{probe.fix}{_older_wheel()}")
        if not torch.cuda.is_available():
            return Probe("missing", "no CUDA GPU or no working NVIDIA driver", "check nvidia-smi")
        capability = torch.cuda.get_device_capability()
        refused = decide_gpu(capability, import_runtime().__version__, cls.tensorrt)
        return refused or probe

    def hardware_name(self) -> str:
        return torch.cuda.get_device_name()

    def fingerprint(self) -> Facts:
        from latkit.backends.torch_cuda import gpu_fingerprint

        options = {
            f"provider_{name}": value
            for name, value in self._provider_options().items()
            if not name.endswith("_path")
        }
        facts = super().fingerprint()  # its session has loaded cuDNN
        return {**facts, **options, "cudnn": loaded_cudnn(), **gpu_fingerprint()}

    def gpu_identity(self) -> str:
        from latkit.backends.torch_cuda import current_gpu_uuid

        return current_gpu_uuid()

    def open_meter(self) -> EnergyMeter:
        return open_meter("gpu", self.gpu_identity())

    def _provider_options(self) -> dict[str, Any]:
        return cuda_options(import_runtime().__version__)


@BACKENDS.register("onnxruntime-tensorrt")
class OnnxRuntimeTensorrtBackend(OnnxRuntimeCudaBackend):
    """``onnxruntime-tensorrt``: TensorRT engines in fp32; building one takes seconds to minutes."""

    name = "onnxruntime-tensorrt"
    provider = "TensorrtExecutionProvider"
    tensorrt = True
    precisions = ("fp32",)

    @classmethod
    def probe(cls) -> Probe:
        probe = super().probe()
        if not probe.usable:
            return probe
        override = os.environ.get(TF32_OVERRIDE)
        return decide_tf32(torch.cuda.get_device_capability(), override) or probe

    def _provider_options(self) -> dict[str, Any]:
        cache = timing_folder()
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, f"make {cache}", "nothing was changed") from None
        return tensorrt_options(import_runtime().__version__, cache)


def _older_wheel() -> str:
    """What the advice needs where only older wheels have code for this machine's GPU."""
    if torch.cuda.is_available():
        generation = gpu_generation(torch.cuda.get_device_capability())
        if generation.onnxruntime is not None:
            requirement = generation.onnxruntime_requirement
            return f" '{requirement}' (later ones have no code for this GPU)"
    return ""
