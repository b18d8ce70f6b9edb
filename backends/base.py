"""The interface of every backend.

The public methods own all checks; a subclass writes only the underscored ones. A backend
returns raw samples: warm-up, pairing, stopping and statistics belong to ``latkit.profiling``.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import Self

from latkit.backends.failures import model_errors, no_models, runtime_errors
from latkit.backends.runner import Clock, Runner, Samples
from latkit.core.cores import check_threads
from latkit.core.device import Facts, machine_facts
from latkit.core.environment import environment_facts
from latkit.core.errors import BackendError, InputError
from latkit.core.memory import memory_ran_out
from latkit.meters.energy import EnergyMeter, open_meter
from latkit.spaces import Architecture, RunConfig, Setting
from latkit.spaces.setting import MEMORY_FORMATS

if TYPE_CHECKING:  # a PyTorch that does not import is one backend's trouble, and doctor's to tell
    from latkit.networks.models import Kind, Model

__all__ = ["Backend", "Clock", "Probe", "Runner", "Samples", "fingerprint"]


@dataclass(frozen=True)
class Probe:
    """Whether a backend works here, why, and what would mend it.

    Attributes:
        status: ``ok``; ``missing`` (not installed, no device); ``unusable`` (present, but this
            combination cannot run).
        reason: one line.
        fix: what to do; empty when ``ok``.
    """

    status: Literal["ok", "missing", "unusable"]
    reason: str
    fix: str = ""

    @property
    def usable(self) -> bool:
        return self.status == "ok"

    def to_dict(self) -> dict[str, str]:
        return {"status": self.status, "reason": self.reason, "fix": self.fix}


class Backend(ABC):
    """A runtime on this machine. Use it as a context manager: global state is restored at exit.

    Args:
        threads: CPU threads of a run, at most as many as fit on the cores this process may use;
            backends whose work is on another device run them only on the host.

    Attributes:
        name: the backend's name in files and on the command line.
        metrics: names of what its runners measure beside times (``peak_memory_mb``).
        memory_formats: settings it can run; the first is used where a user names none. A runtime
            that chooses its layouts itself takes ``nchw``, the layout of its input.
        precisions: settings it can run.
        thread_limits: variables of the environment by which it runs on fewer threads.
        model_kinds: what it takes beside architectures, ``module`` and ``onnx`` (see
            :meth:`compile_model`); by default nothing.
    """

    name: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ()
    memory_formats: ClassVar[tuple[str, ...]] = MEMORY_FORMATS
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    thread_limits: ClassVar[tuple[str, ...]] = ()
    model_kinds: ClassVar[tuple[Kind, ...]] = ()

    def __init__(self, threads: int = 1) -> None:
        if threads < 1:
            raise BackendError(f"threads={threads} is too small", "use at least one thread")
        self.threads = threads

    @classmethod
    @abstractmethod
    def probe(cls) -> Probe:
        """Whether the backend works here. Never raises."""

    @classmethod
    def with_library(cls, library: Path) -> type[Self]:
        """The backend with a shared library of the user's, where it loads one.

        Raises:
            InputError: it loads none, or there is no such file.
        """
        raise InputError(
            f"{cls.name} loads no provider library",
            "leave out --provider-library, or use --backend onnxruntime-ep:NAME",
        )

    @abstractmethod
    def fingerprint(self) -> Facts:
        """Facts that two comparable measurements share: hardware, versions, modes."""

    @property
    @abstractmethod
    def clock(self) -> Clock:
        """The clock of its runners (see :attr:`Runner.clock`)."""

    @abstractmethod
    def hardware_name(self) -> str:
        """The marketing name of the hardware the networks run on."""

    def open_meter(self) -> EnergyMeter:
        """A meter of the energy of the hardware the networks run on; the CPU's by default.

        Raises:
            BackendError: there is none here, or it may not be read.
        """
        return open_meter("cpu")

    def gpu_identity(self) -> str | None:
        """UUID or PCI bus id of the GPU that networks run on; None where it is none of NVIDIA's."""
        return None

    def check_setting(self, setting: Setting) -> None:
        """Refuse a setting that the backend can never run.

        Raises:
            BackendError: names what it can run.
        """
        self.check_run(setting.run)

    def check_run(self, run: RunConfig) -> None:
        """Refuse a way of running that the backend does not have, of whatever network.

        Raises:
            BackendError: names what it can run.
        """
        if run.memory_format not in self.memory_formats:
            raise BackendError(
                f"{self.name} cannot run networks in {run.memory_format}",
                f"use a setting with memory_format={self.memory_formats[0]}",
            )
        if run.precision not in self.precisions:
            raise BackendError(
                f"{self.name} cannot run networks in {run.precision}",
                f"use a setting with precision={' or '.join(self.precisions)}",
            )

    def compile(self, architecture: Architecture, setting: Setting, seed: int = 0) -> Runner:
        """Build the network with random weights and make it ready to run.

        Raises:
            BackendError: the backend is unusable here, or cannot run this network.
            InputError: the architecture does not fit the setting's macro.
        """
        if not self._entered:
            raise BackendError(f"{self.name} is not open", "use the backend in a with statement")
        self.check_setting(setting)
        try:
            with runtime_errors(f"{self.name} cannot build a network"):
                return self._compile(architecture, setting, seed)
        except BaseException as error:
            _release_frames(error)
            raise

    def compile_model(self, model: Model, run: RunConfig, seed: int = 0) -> Runner:
        """Make a model of no space ready to run, with random inputs.

        Args:
            model: with the shapes of its inputs, the batch among them.
            run: how it is run; its batch does not count.
            seed: of the inputs.

        Raises:
            BackendError: the backend takes no such model, or cannot run this one.
            InputError: the model cannot be brought into the form that the runtime reads.
        """
        if not self._entered:
            raise BackendError(f"{self.name} is not open", "use the backend in a with statement")
        if model.kind not in self.model_kinds:
            raise no_models(self.name, model, self.model_kinds)
        self.check_run(run)
        try:
            with model_errors(self.name, model.name):
                return self._compile_model(model, run, seed)
        except BaseException as error:
            _release_frames(error)
            raise

    _entered = False

    def __enter__(self) -> Self:
        """Open the backend.

        Raises:
            InputError: more threads than fit on the cores this process may use.
            BackendError: it is unusable here, does not start, or runs on too few threads.
        """
        probe = self.probe()
        if not probe.usable:
            raise BackendError(f"backend {self.name} is {probe.status}: {probe.reason}", probe.fix)
        check_threads(self.threads)
        with self._start_errors():
            self._enter()
        try:
            with self._start_errors():
                self._check_width()
        except BaseException:
            self._exit()
            raise
        self._entered = True
        return self

    @contextlib.contextmanager
    def _start_errors(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            reason = " ".join((str(error) or type(error).__name__).split())[:300]
            fix = "check that its libraries are those it was built for, and latkit doctor"
            if memory_ran_out(error):
                fix = "memory ran out: end other programs that use this device"
            raise BackendError(f"{self.name} does not start ({reason})", fix) from error

    def _check_width(self) -> None:
        """Refuse to record a number of threads that do not run."""
        width = self._parallel_width()
        if width is not None and width != self.threads:
            limits = [name for name in self.thread_limits if os.environ.get(name)]
            unset = f"unset {' and '.join(limits)}, or " if limits else ""
            raise BackendError(
                f"{self.name} runs on {width} of the {self.threads} threads requested",
                f"{unset}use --threads {width}",
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered = False
        _release_frames(error)
        self._exit()

    def _parallel_width(self) -> int | None:
        """Threads that the runtime's work really runs on; None where it cannot be read back.

        Called once while the backend opens, after :meth:`_enter`.
        """
        return None

    @abstractmethod
    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        """Called by :meth:`compile` while the backend is open."""

    def _compile_model(self, model: Model, run: RunConfig, seed: int) -> Runner:
        """Called by :meth:`compile_model` while the backend is open, with a kind it takes."""
        raise NotImplementedError(f"{type(self).__name__} names model_kinds and takes none")

    @abstractmethod
    def _enter(self) -> None:
        """Set process-wide modes the measurements need (threads, precision), if any.

        If it raises, it has restored what it had changed.
        """

    @abstractmethod
    def _exit(self) -> None:
        """Restore what :meth:`_enter` changed."""


def fingerprint(backend: Backend) -> Facts:
    """The facts of the machine, of the environment and of the backend, as one flat mapping.

    A fact that is not known is None; so is a variable of the environment that is unset.
    """
    return {
        **machine_facts(),
        **environment_facts(os.environ),
        **backend.fingerprint(),
    }


def _release_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: networks must not outlive their runtime."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
