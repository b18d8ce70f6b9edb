"""Energy per run, from whatever meter the machine has.

Meters are coarse (a GPU's counter moves every 20 to 100 ms), so a network runs in a burst of a
second or more and the energy is divided by the number of runs. It is the energy of the whole GPU
or CPU package, what it would have used idle included.
"""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from latkit.core.errors import BackendError
from latkit.meters.nvml import ask, find_gpu, load_nvml

BURST_SECONDS = 1.0
# As often as NVML's own reading changes.
POLL_SECONDS = 0.02
POWERCAP = Path("/sys/class/powercap")

Hardware = Literal["gpu", "cpu"]


class EnergyMeter(ABC):
    """Measures the energy used between two moments.

    Attributes:
        name: what it reads.
    """

    name: str

    @abstractmethod
    def begin(self) -> None:
        """Start to measure.

        Raises:
            BackendError: the meter does not answer.
        """

    @abstractmethod
    def end_mj(self) -> float:
        """Stop, and return the energy since :meth:`begin` in millijoules.

        Raises:
            BackendError: the meter does not answer.
        """


def energy_per_run_mj(
    meter: EnergyMeter,
    run: Callable[[int], object],
    run_ms: float,
    burst_seconds: float = BURST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Energy of one run of a network, in millijoules, averaged over a burst.

    Args:
        meter: started before and stopped after.
        run: runs the network so many times and waits for the end.
        run_ms: roughly how long one run takes, to size the chunks between looks at the clock.
        burst_seconds: the burst lasts at least so long.
        clock: seconds.

    Raises:
        BackendError: the meter did not advance, or a run failed.
    """
    chunk = max(1, round(100 / run_ms))
    runs = 0
    meter.begin()
    started = clock()
    try:
        while clock() - started < burst_seconds:
            run(chunk)
            runs += chunk
    finally:
        used_mj = meter.end_mj()
    if used_mj <= 0:
        raise BackendError(
            f"the energy meter ({meter.name}) did not advance in {burst_seconds:.1f} s",
            "profile without --energy: this meter does not work here",
        )
    return used_mj / runs


def open_meter(hardware: Hardware, gpu: str | None = None) -> EnergyMeter:
    """The best meter for the hardware the networks run on.

    Args:
        hardware: ``gpu`` or ``cpu``.
        gpu: which GPU: its UUID or PCI bus id.

    Raises:
        BackendError: there is none, or it may not be read; names the fix.
    """
    if hardware == "cpu":
        return RaplMeter(find_rapl_zones(POWERCAP))
    assert gpu is not None
    nvml = load_nvml()
    return open_gpu_meter(nvml, find_gpu(nvml, gpu))


def open_gpu_meter(nvml: ModuleType, gpu: Any) -> EnergyMeter:
    """The total-energy counter (Volta and newer), else integrated power (Pascal).

    Raises:
        BackendError: the GPU has neither.
    """
    for meter in (NvmlCounter, NvmlPower):
        try:
            return meter(nvml, gpu)
        except BackendError as error:
            refused = error
    raise refused


class NvmlCounter(EnergyMeter):
    """NVML's counter of millijoules since the driver was loaded."""

    name = "nvml-counter"

    def __init__(self, nvml: ModuleType, gpu: Any) -> None:
        self._nvml, self._gpu = nvml, gpu
        self.begin()

    def begin(self) -> None:
        self._before = self._read()

    def end_mj(self) -> float:
        return self._read() - self._before

    def _read(self) -> float:
        try:
            return float(ask(self._nvml, "nvmlDeviceGetTotalEnergyConsumption", self._gpu))
        except BackendError as error:
            raise _silent(self.name, error.cause) from None


class NvmlPower(EnergyMeter):
    """NVML's power reading, polled by a thread while measuring, and integrated."""

    name = "nvml-power"

    def __init__(self, nvml: ModuleType, gpu: Any) -> None:
        self._nvml, self._gpu = nvml, gpu
        self._read()

    def begin(self) -> None:
        self._readings = [self._read()]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def end_mj(self) -> float:
        self._stop.set()
        self._thread.join()
        self._readings.append(self._read())
        return integrate_power_mj(self._readings)

    def _read(self) -> tuple[float, float]:
        try:
            return time.perf_counter(), float(ask(self._nvml, "nvmlDeviceGetPowerUsage", self._gpu))
        except BackendError as error:
            raise _silent(self.name, error.cause) from None

    def _poll(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self._readings.append(self._read())
            except BackendError:  # end_mj raises it too, in the thread that measures
                return


def integrate_power_mj(readings: Sequence[tuple[float, float]]) -> float:
    """Energy in millijoules under (seconds, milliwatts) readings, by the trapezoid rule."""
    return sum(
        (later - earlier) * (a + b) / 2 for (earlier, a), (later, b) in itertools.pairwise(readings)
    )


class RaplMeter(EnergyMeter):
    """The CPU packages' counters in the Linux powercap tree.

    Args:
        zones: folders of package zones (see :func:`find_rapl_zones`).
    """

    name = "rapl"

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = list(zones)
        try:
            self._wraps = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
        except (OSError, ValueError) as error:
            raise _silent(self.name, error) from None
        self.begin()

    def begin(self) -> None:
        self._before = [self._read(zone) for zone in self._zones]

    def end_mj(self) -> float:
        after = [self._read(zone) for zone in self._zones]
        advances = map(counter_advance, self._before, after, self._wraps)
        return sum(advances) / 1000

    def _read(self, zone: Path) -> int:
        try:
            return int((zone / "energy_uj").read_text())
        except (OSError, ValueError) as error:
            raise _silent(self.name, error) from None


def find_rapl_zones(powercap: Path) -> list[Path]:
    """The zones of a powercap tree that are CPU packages, each package once.

    A zone's kind is its ``name``: beside the packages there is ``psys``, the platform, which
    contains them, and sub-zones are parts of them. The same package may be there by its registers
    (``intel-rapl:0``) and by memory-mapped ones (``intel-rapl-mmio:0``), or by either alone.

    Raises:
        BackendError: there are none, or they may not be read.
    """
    zones: dict[str, Path] = {}
    others = set()
    for kind in ("intel-rapl", "intel-rapl-mmio"):
        for zone in sorted(powercap.glob(f"{kind}:*")):
            if zone.name.count(":") == 1 and (zone / "energy_uj").exists():
                name = _zone_name(zone)
                if name.startswith("package"):
                    zones.setdefault(name, zone)
                else:
                    others.add(name or zone.name)
    if not zones:
        only = f", only {', '.join(sorted(others))}" if others else ""
        raise BackendError(
            f"this CPU has no energy meter ({powercap} has no zone of a package{only})",
            "profile without --energy; virtual machines usually hide the meter",
        )
    unreadable = [zone / "energy_uj" for zone in zones.values() if not _readable(zone)]
    if unreadable:
        raise BackendError(
            f"the CPU's energy meter {unreadable[0]} may not be read",
            f"run: sudo chmod a+r {' '.join(map(str, unreadable))}",
        )
    return list(zones.values())


def _zone_name(zone: Path) -> str:
    try:
        return (zone / "name").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _readable(zone: Path) -> bool:
    try:
        (zone / "energy_uj").read_bytes()
    except OSError:
        return False
    return True


def counter_advance(before: int, after: int, wrap: int) -> int:
    """How far a counter went that starts again at zero after ``wrap``."""
    return after - before if after >= before else after - before + wrap


def _silent(name: str, error: object) -> BackendError:
    return BackendError(
        f"the energy meter ({name}) does not answer ({error})", "profile without --energy"
    )
