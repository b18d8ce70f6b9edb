"""What the workers of ``latkit profile --fleet`` do: measure architectures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from latkit.backends.base import Backend, fingerprint
from latkit.profiling.fleet.pool import Ready
from latkit.profiling.protocol import Measurement
from latkit.profiling.protocol import Protocol as MeasuringProtocol
from latkit.profiling.session import Session
from latkit.spaces import Setting, get_space


@dataclass(frozen=True)
class MeasuringJob:
    """Measures architectures by their identifiers.

    Attributes:
        open: makes the backend where the worker runs; it can be pickled.
        setting: of all architectures; its text, of which each worker makes its own.
        protocol: of every measurement.
        energy: whether that of a run is measured too.
        cores: how many CPU cores a worker takes for itself; 0: it is not kept to any.
    """

    open: Callable[[], Backend]
    setting: Setting
    protocol: MeasuringProtocol
    energy: bool
    cores: int

    def start(self) -> Ready[int, Measurement]:
        """Open backend and session.

        Raises:
            LatkitError: they do not work here.
        """
        with contextlib.ExitStack() as stack:
            backend = stack.enter_context(self.open())
            meter = backend.open_meter() if self.energy else None
            session = stack.enter_context(Session(backend, self.setting, self.protocol, meter))
            # They stay open; the function keeps them.
            opened = stack.pop_all()
        space, network = get_space(self.setting.space), self.setting.network

        def measure(arch_id: int, _opened: contextlib.ExitStack = opened) -> Measurement:
            return session.measure(space.architecture(space.unrank(arch_id)[0], network))

        facts = {**fingerprint(backend), **({"energy_meter": meter.name} if meter else {})}
        metrics = ("energy_mj", *backend.metrics) if meter else backend.metrics
        return Ready(measure, backend.gpu_identity(), backend.hardware_name(), facts, metrics)
