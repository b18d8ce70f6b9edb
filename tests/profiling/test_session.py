"""One definition of latency: a session at a search's end, a dataset, and every report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from latkit.backends.base import Backend, Clock, Facts, Probe, Runner, Samples
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import check_dataset
from latkit.dataset.flags import is_gpu_flag
from latkit.dataset.statistics import faster_half_mean
from latkit.profiling.anchor import anchor_setting
from latkit.profiling.loop import profile
from latkit.profiling.protocol import PRESETS, Measurement
from latkit.profiling.session import Replicates, measure
from latkit.spaces import Architecture, Setting
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.zoo import ZOO

ANCHOR_MS = (5.0, 4.4, 5.6, 5.1, 4.9)


class ScriptedRunner(Runner):
    """A network whose runs take given times."""

    clock: Clock = "wall"

    def __init__(self, times: Iterator[float]) -> None:
        super().__init__()
        self.times = times

    def _run(self, n: int) -> Samples:
        times = tuple(itertools.islice(self.times, n))
        return Samples(times, times)

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.zeros((1, 10), dtype=np.float32)

    def _close(self) -> None:
        pass


class ScriptedBackend(Backend):
    """Candidates take 20 ms, a millisecond more or less; the anchor is noisier than they are."""

    name = "scripted"
    setting: Setting
    clock: Clock = "wall"

    @classmethod
    def probe(cls) -> Probe:
        return Probe("ok", "always")

    def fingerprint(self) -> Facts:
        return {"threads": self.threads}

    def hardware_name(self) -> str:
        return "none"

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        is_anchor = setting == anchor_setting(self.setting)
        return ScriptedRunner(itertools.cycle(ANCHOR_MS if is_anchor else (19.0, 21.0)))

    def _enter(self) -> None:
        pass

    def _exit(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> tuple[ScriptedBackend, Setting]:
    setting = Setting(DartsConfig(macro="cifar", cells=20, channels=4, resolution=8, classes=10))
    monkeypatch.setattr(ScriptedBackend, "setting", setting, raising=False)
    return ScriptedBackend(), setting


def test_the_papers_latency_does_not_depend_on_the_anchor(scripted: Any) -> None:
    backend, setting = scripted
    with backend:
        (done,) = measure(backend, [ZOO["darts_v2"]], setting, PRESETS["paper"], replicates=5)
    assert done.latency_ms == pytest.approx(20.0)
    assert done.latency_at_ms(3.0) == done.latency_at_ms(7.0) == pytest.approx(20.0)
    assert done.relative_std == pytest.approx(0.0, abs=1e-12)
    # The anchor is still measured, and recorded beside it.
    assert len({one.anchor_samples_ms for one in done.measurements}) > 1


def test_an_anchored_latency_is_the_ratio_at_an_anchors_time(scripted: Any) -> None:
    backend, setting = scripted
    with backend:
        (done,) = measure(backend, [ZOO["darts_v2"]], setting, PRESETS["standard"], replicates=5)
    assert isinstance(done, Replicates)
    ratios = [
        faster_half_mean(one.samples_ms) / faster_half_mean(one.anchor_samples_ms)
        for one in done.measurements
    ]
    assert done.latency_at_ms(7.0) == pytest.approx(7.0 * np.mean(ratios))
    assert done.relative_std == pytest.approx(np.std(ratios, ddof=1) / np.mean(ratios))


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_a_dataset_has_the_same_latencies(scripted: Any, tmp_path: Path, preset: str) -> None:
    backend, setting = scripted
    protocol = PRESETS[preset]
    with backend:
        target = Target("darts", "this", "scripted", setting)
        profile(backend, target, protocol, 3, 0, tmp_path / "d")
    dataset = LatencyDataset.open(tmp_path / "d")
    assert dataset.anchor_median_ms is not None
    for row in dataset.table.to_pylist():
        samples, anchor, wall = (
            tuple(row[name]) for name in ("samples_ms", "anchor_samples_ms", "samples_ms")
        )
        one = Measurement("wall", samples, anchor, wall, anchored=protocol.anchored)
        replicates = Replicates(dataset.anchor_median_ms, (one,))
        assert row["latency_ms"] == pytest.approx(replicates.latency_ms)
        if preset == "paper":
            assert row["latency_ms"] == pytest.approx(20.0)


class ScriptedWatch:
    """A GPU that others use and that is slowed, for a while."""

    def __init__(self) -> None:
        self.looks = 0

    def look(self) -> tuple[tuple[str, ...], int]:
        self.looks += 1
        return ((), 0) if self.looks < 3 else (("power cap",), 2)


def test_what_a_gpu_was_slowed_by_is_in_its_rows(
    scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, setting = scripted
    watch, watched = ScriptedWatch(), []
    monkeypatch.setattr(type(backend), "gpu_identity", lambda self: "GPU-1")
    monkeypatch.setattr(
        "latkit.profiling.session.watch_gpu", lambda identity: watched.append(identity) or watch
    )
    target = Target("darts", "this", "scripted", setting)
    with backend:
        profile(backend, target, PRESETS["fast"], 3, 0, tmp_path / "d")
    dataset = LatencyDataset.open(tmp_path / "d")
    rows = dataset.table.to_pylist()
    assert watched == ["GPU-1"], "found once in a session"
    assert watch.looks == len(rows)
    told = ["throttled: power cap", "other-processes: 2"]
    gpu = [list(filter(is_gpu_flag, row["flags"])) for row in rows]
    assert gpu == [[], [], *[told] * (len(rows) - 2)]
    report = check_dataset(dataset)
    listed = sum(bool(f) and not p for f, p in zip(gpu, dataset.in_panel.tolist(), strict=True))
    assert report.rows_by_gpu_state == {told[0]: listed, "other-processes": listed}
    assert set(report.rows_by_reason) <= {"spread"}
