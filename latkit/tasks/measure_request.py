"""The request of ``latkit measure``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latkit.backends import Backend, Clock
from latkit.core.errors import InputError
from latkit.core.requests import check_seed, set_paths, set_tuples, several
from latkit.profiling.protocol import Protocol
from latkit.spaces import Setting
from latkit.tasks.choices import choose_protocol, choose_setting
from latkit.tasks.paper_tables import get_table

Table = Literal["cifar", "imagenet"]


@dataclass(frozen=True)
class MeasureRequest:
    """What to measure, on what, how, and where the results go.

    Attributes:
        what: ``torchvision:NAME?key=value``, ``FILE.onnx``, ``package.module:callable``,
            ``zoo:NAME``, or what any command takes as an architecture; one or several.
        table: a table of the paper whose networks are measured too: ``cifar`` or ``imagenet``.
        input: shapes of inputs, ``1x3x224x224`` or ``NAME=1x128``, of models alone.
        backend: the runtime; None: ``torch-cuda`` where a usable GPU is, else ``torch-cpu``.
        provider_library: see ``ProfileRequest``.
        device: a short name of the hardware; None: made of the hardware's own name.
        setting: how networks are run, and the network around architectures, or its text; the anchor
            network is of it too. None: the table's preset, else ``imagenet``.
        batch: samples a run, each a row; numbers, or texts like ``1,2,4``. None named: that of the
            setting, or of the shapes of a model's inputs.
        pause_ms: sleep before every run, each a row; numbers, or texts like ``0,50``.
        protocol: how one measurement is made, or its preset's name.
        measurements: undisturbed measurements of each row.
        runs: consecutive runs for p50, p90, p99 and the most.
        energy: measure the energy of a run too.
        per_layer: have the runtime's profiler say what each operator takes.
        clock, threads, cores: see ``ProfileRequest``.
        seed: of random weights and inputs.
        out: the folder, new or with an earlier run's rows; None: ``measurements/DEVICE/BACKEND``.

    Raises:
        InputError: a value is out of its range.
    """

    what: tuple[str, ...] = ()
    table: Table | None = None
    input: tuple[str, ...] = ()
    backend: str | None = None
    provider_library: Path | None = None
    device: str | None = None
    setting: Setting | str | None = None
    batch: tuple[int | str, ...] = ()
    pause_ms: tuple[float | str, ...] = (0,)
    protocol: Protocol | str = "standard"
    measurements: int = 5
    runs: int = 100
    energy: bool = False
    per_layer: bool = False
    clock: Clock | Literal["auto"] | None = None
    threads: int = 1
    cores: tuple[int, ...] = ()
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        set_paths(self, "out", "provider_library")
        set_tuples(self, "cores")
        for name in ("what", "input"):
            value = getattr(self, name)
            value = str(value) if isinstance(value, Path) else value
            object.__setattr__(self, name, tuple(map(str, several(value))))
        object.__setattr__(self, "batch", _numbers("batch", self.batch, 1))
        object.__setattr__(self, "pause_ms", _numbers("pause_ms", self.pause_ms, 0) or (0,))
        check_seed(self.seed)
        if not self.what and self.table is None:
            raise InputError("there is nothing to measure", "name a WHAT, or --table imagenet")
        if self.table is not None:
            get_table(self.table)
        for name in ("measurements", "runs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} is too small", "use at least 1")

    def get_protocol(self) -> Protocol:
        """The protocol with this request's changes.

        Raises:
            InputError: there is no preset of that name, or a value does not fit.
        """
        return choose_protocol(
            self.protocol, self.threads, clock=self.clock, cores=self.cores or None
        )

    def get_setting(self, backend_class: type[Backend]) -> Setting:
        """The setting as a backend runs it.

        Raises:
            InputError: the text is not one.
        """
        return choose_setting(self.setting or self.table or "imagenet", backend_class)


def _numbers(name: str, given: Any, least: float) -> tuple[Any, ...]:
    """Numbers, each once, of numbers and of texts with commas.

    Raises:
        InputError: a text is no number, or one is too small.
    """
    kind = int if name == "batch" else float
    values: Sequence[Any] = given if isinstance(given, (tuple, list)) else (given,)
    numbers: list[Any] = []
    for value in values:
        for part in str(value).split(","):
            try:
                number = kind(part)
            except ValueError:
                number = least - 1
            if not least <= number <= 1e9:
                raise InputError(
                    f"{name}={value!r} is no list of numbers from {least} on", "write e.g. 1,2,4"
                )
            numbers.append(number)
    return tuple(dict.fromkeys(numbers))
