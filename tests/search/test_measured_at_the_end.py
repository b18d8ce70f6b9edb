"""What a search found is measured only where the measurement compares with the LPM's dataset."""

from __future__ import annotations

import dataclasses

import pytest

from latkit.backends.base import fingerprint
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.environment import VARIABLES
from latkit.dataset import Target
from latkit.lpm.measuring import measure_as_profiled
from latkit.lpm.store import LPMCard
from latkit.profiling.protocol import PRESETS
from latkit.spaces import Setting
from latkit.spaces.darts.zoo import ZOO


@pytest.fixture
def card(micro: Setting, monkeypatch: pytest.MonkeyPatch) -> LPMCard:
    """Of an LPM of this machine, in an environment where nothing is set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return LPMCard(
        kind="linear",
        cost="latency_ms",
        target=Target("darts", "this-cpu", "torch-cpu", micro),
        fingerprint=dict(fingerprint(TorchCpuBackend())),
        dataset={"protocol": PRESETS["paper"].to_dict()},
        metrics={},
        baselines={},
        training={},
        hyper_parameters={},
        latkit_version="0",
        created_at="2026-01-01T00:00:00+00:00",
    )


def test_in_the_same_environment(card: LPMCard) -> None:
    measured, reason = measure_as_profiled([ZOO["darts_v2"]], card)
    assert reason is None
    assert measured is not None
    (done,) = measured
    samples = [t for visit in done.measurements for t in visit.samples_ms]
    assert done.latency_ms == pytest.approx(sum(samples) / len(samples))


def test_not_in_an_environment_of_other_kernels(
    card: LPMCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    measured, reason = measure_as_profiled([ZOO["darts_v2"]], card)
    assert measured is None
    assert "ONEDNN_MAX_CPU_ISA" in str(reason)


def test_not_on_another_kind_of_cpu_of_the_same_name(card: LPMCard) -> None:
    other = {**card.fingerprint, "cpu_id": "GenuineIntel-6-1"}
    measured, reason = measure_as_profiled(
        [ZOO["darts_v2"]], dataclasses.replace(card, fingerprint=other)
    )
    assert measured is None
    assert "cpu_id" in str(reason)
