"""Energy meters, replayed: no test here needs a GPU or a CPU that tells its energy."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.errors import BackendError
from latkit.meters.energy import (
    POWERCAP,
    EnergyMeter,
    NvmlCounter,
    NvmlPower,
    RaplMeter,
    counter_advance,
    energy_per_run_mj,
    find_rapl_zones,
    integrate_power_mj,
    open_gpu_meter,
)


class NVMLError(Exception):
    pass


def refuse(gpu: Any) -> float:
    raise NVMLError("Not Supported")


class Constant(EnergyMeter):
    """Uses a fixed power; time is moved by the runs."""

    name = "constant"

    def __init__(self, watts: float) -> None:
        self.watts, self.seconds = watts, 0.0

    def begin(self) -> None:
        self.before = self.seconds

    def end_mj(self) -> float:
        return (self.seconds - self.before) * self.watts * 1000

    def run(self, n: int) -> None:
        self.seconds += 0.02 * n


class TestBurst:
    def test_energy_over_runs(self) -> None:
        meter = Constant(50.0)
        meter.seconds = 7.0  # what was used before does not count
        per_run = energy_per_run_mj(meter, meter.run, run_ms=20, clock=lambda: meter.seconds)
        assert per_run == pytest.approx(50.0 * 0.02 * 1000)
        assert meter.seconds - 7.0 >= 1.0

    def test_a_meter_that_stands_still(self) -> None:
        meter = Constant(0.0)
        with pytest.raises(BackendError, match=r"\(constant\) did not advance.*Fix:.*--energy"):
            energy_per_run_mj(meter, meter.run, run_ms=20, clock=lambda: meter.seconds)

    def test_a_failing_run_stops_the_meter(self) -> None:
        calls: list[str] = []

        class Watched(Constant):
            def end_mj(self) -> float:
                calls.append("end")
                return 1.0

        def fail(n: int) -> None:
            raise BackendError("no", "none")

        with pytest.raises(BackendError, match="no"):
            energy_per_run_mj(Watched(1.0), fail, run_ms=20)
        assert calls == ["end"]


class TestNvml:
    def test_the_counter_where_there_is_one(self) -> None:
        readings = iter([100.0, 1000.0, 1750.0])
        nvml: Any = SimpleNamespace(
            NVMLError=NVMLError, nvmlDeviceGetTotalEnergyConsumption=lambda gpu: next(readings)
        )
        meter = open_gpu_meter(nvml, "gpu")
        assert isinstance(meter, NvmlCounter)
        meter.begin()
        assert meter.end_mj() == 750.0

    def test_integrated_power_on_older_cards(self) -> None:
        nvml: Any = SimpleNamespace(
            NVMLError=NVMLError,
            nvmlDeviceGetTotalEnergyConsumption=refuse,
            nvmlDeviceGetPowerUsage=lambda gpu: 30_000,
        )
        meter = open_gpu_meter(nvml, "gpu")
        assert isinstance(meter, NvmlPower)
        threads = threading.active_count()
        started = time.perf_counter()
        meter.begin()
        assert threading.active_count() == threads + 1
        time.sleep(0.1)
        used_mj = meter.end_mj()
        elapsed = time.perf_counter() - started
        assert threading.active_count() == threads
        # 30 W over 0.1 s and a little more.
        assert 3000 <= used_mj <= 30_000 * elapsed

    def test_neither(self) -> None:
        nvml: Any = SimpleNamespace(
            NVMLError=NVMLError,
            nvmlDeviceGetTotalEnergyConsumption=refuse,
            nvmlDeviceGetPowerUsage=refuse,
        )
        with pytest.raises(BackendError, match=r"nvml-power.*Not Supported.*Fix:"):
            open_gpu_meter(nvml, "gpu")

    def test_the_trapezoid_rule(self) -> None:
        assert integrate_power_mj([(0, 10), (1, 10), (3, 30)]) == 10 + 40
        assert integrate_power_mj([(0, 10)]) == 0


def make_zone(
    powercap: Path, folder: str, energy_uj: int, wrap: int = 1000, name: str = "package-0"
) -> Path:
    zone = powercap / folder
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "max_energy_range_uj").write_text(f"{wrap}\n")
    return zone


class TestRapl:
    def test_sums_the_packages_and_not_their_parts(self, tmp_path: Path) -> None:
        packages = [
            make_zone(tmp_path, f"intel-rapl:{i}", 500, name=f"package-{i}") for i in range(2)
        ]
        make_zone(tmp_path, "intel-rapl:0:0", 400, name="core")
        (tmp_path / "intel-rapl").mkdir()
        assert find_rapl_zones(tmp_path) == packages
        meter = RaplMeter(find_rapl_zones(tmp_path))
        meter.begin()
        (packages[0] / "energy_uj").write_text("900")
        (packages[1] / "energy_uj").write_text("100")  # it started again after 1000
        assert meter.end_mj() == pytest.approx((400 + 600) / 1000)

    def test_the_platform_contains_the_package_and_is_not_added(self, tmp_path: Path) -> None:
        package = make_zone(tmp_path, "intel-rapl:0", 0)
        platform = make_zone(tmp_path, "intel-rapl:1", 0, name="psys")
        meter = RaplMeter(find_rapl_zones(tmp_path))
        meter.begin()
        (package / "energy_uj").write_text("400")
        (platform / "energy_uj").write_text("700")
        assert meter.end_mj() == pytest.approx(0.4)

    def test_memory_mapped_zones_alone_are_a_meter(self, tmp_path: Path) -> None:
        zone = make_zone(tmp_path, "intel-rapl-mmio:0", 0)
        make_zone(tmp_path, "intel-rapl-mmio:0:0", 0, name="dram")
        assert find_rapl_zones(tmp_path) == [zone]

    def test_a_package_that_is_there_twice_counts_once(self, tmp_path: Path) -> None:
        zone = make_zone(tmp_path, "intel-rapl:0", 0)
        make_zone(tmp_path, "intel-rapl-mmio:0", 0)
        other = make_zone(tmp_path, "intel-rapl-mmio:1", 0, name="package-1")
        assert find_rapl_zones(tmp_path) == [zone, other]

    def test_each_die_of_a_package_counts(self, tmp_path: Path) -> None:
        dies = [
            make_zone(tmp_path, f"intel-rapl:{i}", 0, name=f"package-0-die-{i}") for i in range(2)
        ]
        assert find_rapl_zones(tmp_path) == dies

    def test_a_platform_alone_is_no_meter_of_the_package(self, tmp_path: Path) -> None:
        make_zone(tmp_path, "intel-rapl:0", 0, name="psys")
        (make_zone(tmp_path, "intel-rapl:1", 0) / "name").unlink()
        with pytest.raises(BackendError, match="psys"):
            find_rapl_zones(tmp_path)

    @given(st.integers(0, 10**9), st.integers(0, 10**9 - 1))
    def test_a_counter_that_starts_again(self, before: int, advance: int) -> None:
        wrap = 10**9
        after = before + advance
        assert counter_advance(before, after - wrap if after > wrap else after, wrap) == advance

    def test_no_meter(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match=r"no energy meter.*Fix: profile without --energy"):
            find_rapl_zones(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
    def test_a_meter_that_may_not_be_read(self, tmp_path: Path) -> None:
        zone = make_zone(tmp_path, "intel-rapl:0", 1)
        (zone / "energy_uj").chmod(0)
        with pytest.raises(BackendError, match=r"may not be read.*chmod.*intel-rapl:0/energy_uj"):
            find_rapl_zones(tmp_path)

    def test_a_meter_that_is_no_number(self, tmp_path: Path) -> None:
        zone = make_zone(tmp_path, "intel-rapl:0", 1)
        meter = RaplMeter([zone])
        (zone / "energy_uj").write_text("x")
        with pytest.raises(BackendError, match=r"\(rapl\) does not answer"):
            meter.end_mj()


@pytest.mark.skipif(any(POWERCAP.glob("intel-rapl:*")), reason="this CPU has an energy meter")
def test_a_cpu_backend_without_a_meter_says_so() -> None:
    with TorchCpuBackend() as backend, pytest.raises(BackendError, match="no energy meter"):
        backend.open_meter()
