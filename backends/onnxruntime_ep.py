"""ONNX Runtime with any plug-in execution provider: ``onnxruntime-ep:PROVIDER``.

A provider of this kind is a shared library of its vendor's. Nothing is known of it beforehand: not
whether it takes a whole network, nor its precision, nor its threads; options that it does not know
it may ignore. So the backend lets nothing run on the CPU's provider, and looks at a first network:
its logits must be those of fp32, and no more threads may have worked than were requested.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import Self

from latkit.backends.base import Clock, Probe
from latkit.backends.onnxruntime import OnnxRuntimeBackend, find_runtime
from latkit.backends.onnxruntime_gpu import loaded_cudnn
from latkit.backends.onnxruntime_session import CPU, ON_CUDA, import_runtime
from latkit.backends.provider_packages import (
    STEM,
    NotInstalledError,
    ProviderPackage,
    backend_name,
    find_package,
    provider_slug,
)
from latkit.backends.registry import BACKENDS
from latkit.backends.threads import working_threads
from latkit.backends.timing import cpu_clock
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError, InputError
from latkit.meters.energy import EnergyMeter, open_meter
from latkit.meters.nvml import known_facts
from latkit.networks.inputs import Array
from latkit.spaces import get_preset
from latkit.spaces.build import random_input, random_network
from latkit.spaces.darts.zoo import get_genotype

# Of logits, relative to the largest: measured 4e-7 in fp32 and 3e-3 where OpenVINO takes bf16;
# 7e-4 with operands rounded to the 10 bits of TF32 and fp16.
FP32_ERROR = 5e-5
NVIDIA = 0x10DE  # the vendor's number on the PCI bus
# ONNX Runtime has these as backends with options of their own.
_CLASSIC = {
    CPU: "onnxruntime-cpu", ON_CUDA[0]: "onnxruntime-cuda", ON_CUDA[1]: "onnxruntime-tensorrt"
}  # fmt: skip
_REFUSED = "fallback to CPU EP has been explicitly disabled"
# The library that a provider was registered from, by the name it was registered under.
_registered: dict[str, Path] = {}


def _openvino_options(device: Any, threads: int) -> dict[str, str]:
    """fp32 pinned, because OpenVINO takes bf16 or fp16 by itself, and the number of threads."""
    kind = device.ep_metadata.get("ov_device", "CPU")
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    if kind == "CPU":
        options["INFERENCE_NUM_THREADS"] = str(threads)
    return {"load_config": json.dumps({kind: options})}


# Options that pin precision and threads, of the providers that have them.
_PINNED: dict[str, Callable[[Any, int], dict[str, str]]] = {
    "OpenVINOExecutionProvider": _openvino_options
}


def device_labels(devices: Sequence[Any]) -> dict[str, Any]:
    """A provider's devices by the names that tell them apart: ``CPU``, ``GPU0``, ``GPU1``."""
    kinds = [device.device.type.name for device in devices]
    count = Counter(kinds)
    labels: dict[str, Any] = {}
    for kind, device in zip(kinds, devices, strict=True):
        number = sum(label.startswith(kind) for label in labels)
        labels[kind if count[kind] == 1 else f"{kind}{number}"] = device
    return labels


def choose_device(name: str, devices: Sequence[Any]) -> tuple[str, Any]:
    """The device that a backend's name in files means, with its label.

    Args:
        name: ``onnxruntime-ep-PROVIDER`` or ``onnxruntime-ep-PROVIDER-DEVICE``.
        devices: ``onnxruntime.get_ep_devices()``.

    Raises:
        BackendError: the provider finds none here, or several, of which the name means none.
    """
    of_providers: dict[str, list[Any]] = {}
    for device in devices:
        # Virtual ones are there to compile for hardware that is not.
        if device.device.metadata.get("is_virtual") != "1":
            of_providers.setdefault(device.ep_name, []).append(device)
    for provider, its_devices in of_providers.items():
        slug, labels = f"{STEM}-{provider_slug(provider)}", device_labels(its_devices)
        if name == slug and len(its_devices) == 1:
            return next(iter(labels.items()))
        for label, device in labels.items():
            if name == f"{slug}-{label.lower()}":
                return label, device
        if name == slug or name.startswith(f"{slug}-"):
            known = [f"{STEM}:{provider}:{label}" for label in labels]
            raise BackendError(
                f"{provider} has the devices {', '.join(labels)} here",
                f"use --backend {' or '.join(known)}",
            )
    others = sorted({f"{d.device.vendor} {d.device.type.name}" for d in devices})
    raise BackendError(
        f"its library loads, and finds no device of its own here (there is: {', '.join(others)})",
        "use it on a machine with its vendor's hardware and drivers, or another --backend",
    )


@dataclass(frozen=True)
class FoundDevice:
    """A provider's device on this machine.

    Attributes:
        label: ``CPU``, ``GPU``, ``NPU``, with a number where there are several.
        device: ONNX Runtime's ``OrtEpDevice``.
        package: that holds the library; None: the user named a library.
    """

    label: str
    device: Any
    package: ProviderPackage | None

    @property
    def on_cpu(self) -> bool:
        return bool(self.device.device.type.name == "CPU")

    @property
    def hardware(self) -> str:
        """The marketing name, as far as the provider or the system knows it."""
        if self.on_cpu:
            return cpu_name()
        hardware = self.device.device
        named = self.device.ep_metadata.get("FULL_DEVICE_NAME")
        return str(
            named
            or hardware.metadata.get("Description")
            or f"{hardware.vendor} {hardware.type.name} {hardware.device_id:#06x}"
        )


class OnnxRuntimeEpBackend(OnnxRuntimeBackend):
    """A plug-in execution provider on one of its devices, in fp32.

    Inputs and outputs lie in the host's memory, so that a run has the copies from and to a device.

    Attributes:
        parameter: what the user wrote after ``onnxruntime-ep:``.
        library: the user's; None: the installed package's.
    """

    parameter: ClassVar[str]
    library: ClassVar[Path | None] = None

    @classmethod
    def with_library(cls, library: Path) -> type[Self]:
        if not library.is_file():
            raise InputError(f"there is no file {library}", "name the provider's shared library")
        return type(cls.__name__, (cls,), {"library": library.resolve()})

    @classmethod
    def probe(cls) -> Probe:
        broken = find_runtime("pip install 'latkit[onnxruntime]'")
        if broken is not None:
            return broken
        try:
            found = cls._find()
        except BackendError as error:
            missing = isinstance(error, NotInstalledError)
            return Probe("missing" if missing else "unusable", error.cause, error.fix)
        except Exception as error:  # a vendor's library can raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return Probe("unusable", f"its devices are not known: {reason}", "install it again")
        version = found.device.ep_metadata.get("version", "of an unknown version")
        source = found.package or cls.library
        return Probe(
            "ok",
            f"{found.device.ep_name} {version} ({source}) on {found.label} ({found.hardware}); "
            f"in files: {cls.name}",
        )

    @classmethod
    def _find(cls) -> FoundDevice:
        """The device that the name means.

        Raises:
            BackendError: the library or the device is not here.
        """
        ort = import_runtime()
        if not hasattr(ort, "get_ep_devices") or not hasattr(
            ort.SessionOptions, "add_provider_for_devices"
        ):
            raise BackendError(
                f"ONNX Runtime {ort.__version__} has no plug-in execution providers",
                "pip install 'onnxruntime>=1.23'",
            )
        for provider, backend in _CLASSIC.items():
            if cls.library is None and cls.name == f"{STEM}-{provider_slug(provider)}":
                raise BackendError(f"{provider} is no plug-in", f"use --backend {backend}")
        library, package, registered_as = cls.library, None, cls.parameter.partition(":")[0]
        if library is None:
            package = find_package(cls.name)
            library, registered_as = package.library, package.providers[0]
        _register(registered_as, library)
        devices = [
            device
            for device in ort.get_ep_devices()
            if device.ep_metadata.get("library_path", str(library)) == str(library)
        ]
        return FoundDevice(*choose_device(cls.name, devices), package)

    @cached_property
    def _found(self) -> FoundDevice:
        return self._find()

    @property
    def clock(self) -> Clock:
        """The thread's CPU time only where the calling thread is known to do all the work."""
        pinned = self._found.on_cpu and self._found.device.ep_name in _PINNED
        return cpu_clock(self.threads) if pinned else "wall"

    def hardware_name(self) -> str:
        return self._found.hardware

    def gpu_identity(self) -> str | None:
        """The PCI bus id of one of NVIDIA's, if ONNX Runtime knows it (1.31 does on Linux)."""
        hardware = self._found.device.device
        nvidias = hardware.type.name == "GPU" and hardware.vendor_id == NVIDIA
        return hardware.metadata.get("pci_bus_id") if nvidias else None

    def open_meter(self) -> EnergyMeter:
        if self._found.on_cpu:
            return super().open_meter()
        gpu = self.gpu_identity()
        if gpu is not None:
            return open_meter("gpu", gpu)
        raise BackendError(f"latkit has no meter for {self._found.hardware}", "leave out --energy")

    def fingerprint(self) -> Facts:
        found = self._found
        metadata: Mapping[str, str] = found.device.ep_metadata
        facts: Facts = {
            **super().fingerprint(),
            "provider_version": metadata.get("version"),
            "provider_package": None if found.package is None else str(found.package),
            "provider_device": found.label,
            "provider_options": json.dumps(self._provider_options(), sort_keys=True),
        }
        if not found.on_cpu:
            facts[found.device.device.type.name.lower()] = found.hardware
        gpu = self.gpu_identity()
        return facts if gpu is None else {**facts, "cudnn": loaded_cudnn(), **known_facts(gpu)}

    def _provider_options(self) -> dict[str, Any]:
        options = _PINNED.get(self.provider)
        return {} if options is None else options(self._found.device, self.threads)

    def _session_options(self, weights: dict[str, Array], profile: Path | None) -> Any:
        options = super()._session_options(weights, profile)
        options.log_severity_level = 4  # what is refused comes as an error, and once
        return options

    def _start(self, model: bytes, options: Any) -> Any:
        options.add_provider_for_devices([self._found.device], self._provider_options())
        return import_runtime().InferenceSession(model, options, enable_fallback=0)

    def _session(self, model: bytes, weights: dict[str, Array], profile: Path | None = None) -> Any:
        try:
            return super()._session(model, weights, profile)
        except RuntimeError as error:
            if _REFUSED not in str(error):
                raise
            left = self._left_over(model, weights)
        raise BackendError(
            f"{self.provider} does not take the whole network: {left}",
            "use another --backend, a newer release of the provider, or networks without these",
        )

    def _left_over(self, model: bytes, weights: dict[str, Array]) -> str:
        """The operators that a provider leaves to the CPU's, counted by name."""
        options = self._session_options(weights, None)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = self._start(model, options)
        if not hasattr(session, "get_provider_graph_assignment_info"):
            return "it leaves operators to the CPU"
        counts = {True: Counter[str](), False: Counter[str]()}
        for part in session.get_provider_graph_assignment_info():
            taken = part.ep_name == self.provider
            counts[taken].update(node.op_type for node in part.get_nodes())
        left, total = counts[False], sum(sum(count.values()) for count in counts.values())
        named = ", ".join(f"{n} {operator}" for operator, n in left.most_common(6))
        return f"it leaves {sum(left.values())} of {total} operators to the CPU ({named})"

    def _active_providers(self) -> list[str]:
        return [self.provider]  # nothing runs on another, or there is no session

    def _enter(self) -> None:
        self.provider = self._found.device.ep_name
        self.inexact = "nothing" if self.provider in _PINNED else "not known"
        super()._enter()
        try:
            self._width = self._check_first_network()
        except BaseException:
            self._exit()
            raise

    def _parallel_width(self) -> int | None:
        return self._width

    def _check_first_network(self) -> int | None:
        """The threads that a first network runs on, if those are too many.

        Raises:
            BackendError: it does not compute in fp32, or is not wholly taken.
        """
        setting = get_preset("tiny").replace(memory_format="nchw")
        genotype = get_genotype("darts_v2")
        with torch.inference_mode():
            wanted = random_network(genotype, setting, 0)(random_input(setting, 0)).numpy()
        with self._compile(genotype, setting, 0) as runner:
            error = float(np.abs(runner.logits() - wanted).max() / np.abs(wanted).max())
            if not error <= FP32_ERROR:
                raise BackendError(
                    f"{self.provider} computes in less than fp32 (logits differ by {error:.0e})",
                    "use another --backend: latkit has no option of this provider against it",
                )
            # Twice, for a thread of the compiler may still be ending its work.
            counts = [working_threads(lambda: runner.run(20)) or 1 for _ in range(2)]
        # Fewer may be a matter of a small network on a busy machine.
        too_many = self._found.on_cpu and min(counts) > self.threads
        return min(counts) if too_many else None


def _register(name: str, library: Path) -> None:
    """Have ONNX Runtime load a library, once in a process: its providers stay.

    Args:
        name: of the registration, which some libraries take for that of their provider.
        library: the file.

    Raises:
        BackendError: it does not load, or the name stands for another library.
    """
    if library in _registered.values():
        return
    if name in _registered:
        raise BackendError(
            f"{name} is loaded from {_registered[name]} already", "start another process"
        )
    try:
        import_runtime().register_execution_provider_library(name, str(library))
    except Exception as error:  # ONNX Runtime's own have no base class
        reason = " ".join(str(error).split())[:300]
        raise BackendError(
            f"the provider library {library} does not load: {reason}",
            "install the provider's release for this ONNX Runtime, with the libraries it needs",
        ) from None
    _registered[name] = library


_classes: dict[str, type[OnnxRuntimeEpBackend]] = {}


def provider_backend(text: str) -> type[OnnxRuntimeEpBackend]:
    """The backend of a provider, whether that is installed or not.

    Args:
        text: as the user wrote it, or a backend's name in files.

    Raises:
        InputError: it names no provider.
    """
    name = backend_name(text)
    if name not in _classes:
        _classes[name] = type(
            "OnnxRuntimeEpBackend",
            (OnnxRuntimeEpBackend,),
            {"name": name, "parameter": text[len(STEM) + 1 :]},
        )
    return _classes[name]


OPENVINO = f"{STEM}:OpenVINOExecutionProvider"
BACKENDS.register(OPENVINO)(provider_backend(OPENVINO))
