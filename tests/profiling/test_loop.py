"""The profile loop with real measurements: content, extension, interruption, kill."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.cores import usable_cores
from latkit.core.errors import BackendError, DatasetError, InputError
from latkit.core.events import Listener, Progress
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.flags import DISTURBED
from latkit.dataset.format import part_paths
from latkit.dataset.statistics import faster_half_mean
from latkit.meters.energy import POWERCAP, EnergyMeter
from latkit.profiling import loop
from latkit.profiling.anchor import anchor_setting
from latkit.profiling.loop import profile
from latkit.profiling.plan import panel, schedule
from latkit.profiling.protocol import PRESETS as PROTOCOLS
from latkit.profiling.protocol import Protocol
from latkit.profiling.rows import ProfileProgress
from latkit.profiling.session import Session, measure
from latkit.spaces import Setting, get_preset, get_space
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.zoo import ZOO

SPACE = get_space("darts")


def run(
    out: Path,
    setting: Setting,
    n: int,
    seed: int = 0,
    protocol: Protocol = Protocol(),  # noqa: B008
    **more: object,
) -> LatencyDataset:
    target = Target("darts", "this-cpu", "torch-cpu", setting)
    with TorchCpuBackend() as backend:
        profile(backend, target, protocol, n, seed, out, **more)  # type: ignore[arg-type]
    return LatencyDataset.open(out)


class Kept(Listener):
    """Keeps what the loop reports."""

    def __init__(self) -> None:
        self.progresses: list[ProfileProgress] = []
        self.ended = 0

    def progress(self, now: Progress) -> None:
        assert isinstance(now, ProfileProgress)
        self.progresses.append(now)

    def end_progress(self) -> None:
        self.ended += 1


def keys(dataset: LatencyDataset, count: int | None = None) -> list[tuple[int, int]]:
    """(architecture, visit) of the rows of the list.

    With ``count``, of so many: this machine is not quiet, and disturbed visits are made up later.
    """
    rows = listed(dataset)
    if count is not None:
        assert len(rows) >= count
        made_up = rows[count:]
        assert len(made_up) <= 16 + count // 4
        assert bool(made_up) == any(DISTURBED in row["flags"] for row in rows[:count])
    return [(row["arch_id"], row["visit"]) for row in rows[:count]]


def listed(dataset: LatencyDataset) -> list[dict[str, Any]]:
    """The rows of the list, without the panel's."""
    return [r for r, p in zip(dataset.table.to_pylist(), dataset.in_panel, strict=True) if not p]


def planned(n: int, seed: int = 0) -> list[tuple[int, int]]:
    ids = SPACE.sample(n, seed).tolist()
    return [(ids[i], visit) for i, visit in schedule(n, seed, Protocol().replicate_every)]


def test_rows(tmp_path: Path, micro: Setting) -> None:
    dataset = run(tmp_path / "d", micro, 25)
    assert keys(dataset, len(planned(25))) == planned(25)
    # On a machine so busy that everything is disturbed, all rows count.
    quiet = dataset.table.filter(pa.array(~dataset.flagged | dataset.flagged.all()))
    median = float(np.median(np.concatenate(quiet["anchor_samples_ms"].to_pylist())))
    assert dataset.anchor_median_ms == pytest.approx(median)
    for row in dataset.table.to_pylist():
        matrix = SPACE.unrank(row["arch_id"])
        assert row["arch"] == SPACE.format(matrix[0])
        cost = architecture_cost(SPACE.genotype(matrix[0], ZOO["darts_v2"]), micro)
        assert (row["macs"], row["params"]) == (cost.macs, cost.params)
        assert (len(row["samples_ms"]), len(row["anchor_samples_ms"])) == (6, 6)
        ratio = faster_half_mean(row["samples_ms"]) / faster_half_mean(row["anchor_samples_ms"])
        assert row["ratio_to_anchor"] == pytest.approx(ratio)
        assert row["latency_ms"] == pytest.approx(ratio * median)
        spread = np.std(row["samples_ms"]) / np.mean(row["samples_ms"]) * row["latency_ms"]
        assert row["latency_std_ms"] == pytest.approx(spread)
        assert row["clock"] == "cpu"
        assert row["wall_ms"] > 0
        assert abs(row["measured_at"].timestamp() - time.time()) < 600


def test_each_row_times_its_own_network(tmp_path: Path) -> None:
    """A cell of skips and one of 5x5 convolutions are told apart by their times and MACs."""
    setting = get_preset("tiny").replace(cells=3)
    with TorchCpuBackend() as backend:
        cells = [
            SPACE.genotype(SPACE.parse(text)[0], ZOO["darts_v2"])
            for text in (
                "+".join(f"|{op}~0|{op}~1|" for _ in range(4))
                for op in ("skip_connect", "sep_conv_5x5")
            )
        ]
        light, heavy = measure(backend, cells, setting, Protocol(), replicates=5)
    assert heavy.ratio_to_anchor > 1.5 * light.ratio_to_anchor
    dataset = run(tmp_path / "d", setting, 30)
    macs, latency = (dataset.table[name].to_numpy() for name in ("macs", "latency_ms"))
    assert len(set(macs.tolist())) > 10
    # By the ends of the list: on a busy machine single times say little.
    order = np.argsort(macs)
    assert np.median(latency[order[-10:]]) > np.median(latency[order[:10]])


def test_a_finished_dataset_is_left_as_it_is(tmp_path: Path, micro: Setting) -> None:
    before = run(tmp_path / "d", micro, 5, protocol=PROTOCOLS["paper"])
    files = {p.name: p.read_bytes() for p in part_paths(tmp_path / "d")}
    after = run(tmp_path / "d", micro, 5, protocol=PROTOCOLS["paper"])
    assert after.digest() == before.digest()
    assert {p.name: p.read_bytes() for p in part_paths(tmp_path / "d")} == files


def test_a_larger_n_extends(tmp_path: Path, micro: Setting) -> None:
    first = run(tmp_path / "d", micro, 10)
    more = run(tmp_path / "d", micro, 30)
    kept = first.table.num_rows
    assert more.table["samples_ms"][:kept].equals(first.table["samples_ms"])
    assert keys(more)[:10] == planned(30)[:10]
    assert sorted({key for key in keys(more) if key[1] == 0}) == sorted(
        {key for key in planned(30) if key[1] == 0}
    )
    # One anchor time for both sessions, in the files as they lie.
    raw = LatencyDataset.open(tmp_path / "d").table
    ratio = raw["latency_ms"].to_numpy() / raw["ratio_to_anchor"].to_numpy()
    np.testing.assert_allclose(ratio, more.anchor_median_ms)


def test_every_backend_setting_measures_the_same_list(tmp_path: Path, micro: Setting) -> None:
    other = micro.replace(memory_format="nchw")
    first, second = run(tmp_path / "a", micro, 8, 3), run(tmp_path / "b", other, 8, 3)
    assert keys(first, 8) == keys(second, 8) == planned(8, 3)


def test_ctrl_c_in_the_loop_loses_nothing(tmp_path: Path, micro: Setting) -> None:
    class Interrupting(Listener):
        def progress(self, now: Progress) -> None:
            if now.done == 7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "d", micro, 15, listener=Interrupting())
    kept = LatencyDataset.open(tmp_path / "d")
    assert keys(kept) == planned(15)[:7]
    whole = run(tmp_path / "d", micro, 15)
    assert keys(whole, 15) == planned(15)
    assert whole.table["samples_ms"][: kept.table.num_rows].equals(kept.table["samples_ms"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed 0"),
        ({"setting": {"channels": 8}}, "channels: 8 / 4"),
        ({"device": "other-cpu"}, "device: other-cpu / this-cpu"),
        ({"threads": 2}, "threads: 2 / 1"),
    ],
)
def test_another_command_does_not_mix_into_a_dataset(
    tmp_path: Path, micro: Setting, change: dict[str, object], named: str
) -> None:
    before = run(tmp_path / "d", micro, 3)
    setting = micro.replace(**change.get("setting", {}))  # type: ignore[arg-type]
    threads = int(change.get("threads", 1))  # type: ignore[call-overload]
    target = Target("darts", str(change.get("device", "this-cpu")), "torch-cpu", setting)
    seed = int(change.get("seed", 0))  # type: ignore[call-overload]
    with TorchCpuBackend(threads) as backend, pytest.raises(DatasetError, match=named):
        profile(backend, target, Protocol(threads=threads), 3, seed, tmp_path / "d")
    assert LatencyDataset.open(tmp_path / "d").digest() == before.digest()


class TestWhatRanIsRecorded:
    def test_a_target_that_names_another_backend_is_refused(
        self, tmp_path: Path, micro: Setting
    ) -> None:
        target = Target("darts", "this-cpu", "torch-cuda", micro)
        with (
            TorchCpuBackend() as backend,
            pytest.raises(InputError, match=r"torch-cuda.*torch-cpu"),
        ):
            profile(backend, target, Protocol(), 3, 0, tmp_path / "d")
        assert not (tmp_path / "d").exists()

    @pytest.mark.parametrize(("threads", "claimed"), [(1, 7), (2, 1)])
    def test_the_threads_are_the_backends(
        self, tmp_path: Path, micro: Setting, threads: int, claimed: int
    ) -> None:
        if usable_cores() < threads:
            pytest.skip("this machine has too few cores")
        target = Target("darts", "this-cpu", "torch-cpu", micro)
        # As few runs as can be: two threads that wait for a busy core take both cores' time.
        protocol = Protocol(runs=1, warmup_runs=0, anchored=False, threads=claimed)
        with TorchCpuBackend(threads) as backend:
            profile(backend, target, protocol, 1, 0, tmp_path / "d")
        manifest = LatencyDataset.open(tmp_path / "d").manifest
        assert manifest.protocol["threads"] == manifest.fingerprint["threads"] == threads

    def test_threads_that_do_not_fit_on_the_protocols_cores(
        self, tmp_path: Path, micro: Setting
    ) -> None:
        if usable_cores() < 2:
            pytest.skip("two threads need two cores")
        target = Target("darts", "this-cpu", "torch-cpu", micro)
        with TorchCpuBackend(threads=2) as backend, pytest.raises(InputError, match="2 threads"):
            profile(backend, target, Protocol(cores=(0,)), 2, 0, tmp_path / "d")


def test_too_many_architectures(tmp_path: Path, micro: Setting) -> None:
    with pytest.raises(InputError, match="from 1 to 1037664180"):
        run(tmp_path / "d", micro, SPACE.size + 1)


def test_the_anchor_measured_as_a_candidate_has_ratio_one(micro: Setting) -> None:
    """The protocol has no bias of position."""
    micro = anchor_setting(micro)
    assert anchor_setting(micro) == micro
    with TorchCpuBackend() as backend:
        (done,) = measure(backend, [ZOO["darts_v2"]], micro, Protocol(), replicates=15)
    ratios = [one.ratio_to_anchor for one in done.measurements]
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert done.ratio_to_anchor == pytest.approx(np.mean(ratios), rel=0.1)
    assert done.latency_ms == pytest.approx(done.ratio_to_anchor * done.anchor_median_ms)


class TestPanel:
    def test_at_the_start_and_end_of_a_run_that_measures(
        self, tmp_path: Path, micro: Setting
    ) -> None:
        dataset = run(tmp_path / "d", micro, 68)  # and three replicates
        ids = panel(SPACE, 71).tolist()
        assert len(ids) == 3
        rows = dataset.table.to_pylist()
        assert [row["arch_id"] for row in rows[:3]] == ids
        assert [row["arch_id"] for row in rows[-3:]] == ids
        for part, flag in ((rows[:3], "panel-start"), (rows[-3:], "panel-end")):
            assert all(row["flags"][0] == flag for row in part)
        assert {row["visit"] for row in rows[-3:]} == {1}
        assert dataset.architectures == 68
        assert not set(ids) & set(dataset.usable()["arch_id"].to_pylist())

    def test_grows_with_what_the_run_measures(self, tmp_path: Path, micro: Setting) -> None:
        """It follows what is left to be measured, and not what was asked for."""
        paper = PROTOCOLS["paper"]  # flags nothing, so that nothing is re-measured
        first = run(tmp_path / "d", micro, 10, protocol=paper)
        assert int(first.in_panel.sum()) == 4
        assert first.table.num_rows == 14
        again = run(tmp_path / "d", micro, 11, protocol=paper)
        assert int(again.in_panel.sum()) == 8
        # Nothing to measure, nothing measured.
        assert int(run(tmp_path / "d", micro, 11, protocol=paper).in_panel.sum()) == 8

    def test_its_rows_do_not_answer_for_the_list(
        self, tmp_path: Path, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An architecture that is in both is measured for both, with visits of its own."""
        monkeypatch.setattr(loop, "panel", lambda space, measurements: space.sample(2, 0))
        dataset = run(tmp_path / "d", micro, 3)
        ids = SPACE.sample(3, 0).tolist()
        assert [row["arch_id"] for row in listed(dataset)][:3] == ids
        visits = [(r["arch_id"], r["visit"]) for r in dataset.table.to_pylist()]
        assert len(set(visits)) == len(visits) >= 7
        again = run(tmp_path / "d", micro, 3)
        if not dataset.flagged.any():
            assert again.digest() == dataset.digest()


class TestDisturbed:
    def test_rows_are_flagged_made_up_and_not_used(
        self, tmp_path: Path, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two architectures are disturbed at first sight, one for good."""
        ids = SPACE.sample(20, 0).tolist()
        seen: dict[int, int] = {}
        original = Session.measure

        def measure_flagged(self: Session, genotype: Any) -> Any:
            made = dataclasses.replace(original(self, genotype), flags=())
            arch_id = int(SPACE.rank(SPACE.from_genotype(genotype))[0])
            seen[arch_id] = seen.get(arch_id, 0) + 1
            if (arch_id in ids[2:4] and seen[arch_id] == 1) or arch_id == ids[7]:
                return dataclasses.replace(made, flags=(DISTURBED, "spread"))
            return made

        monkeypatch.setattr(Session, "measure", measure_flagged)
        kept = Kept()
        dataset = run(tmp_path / "d", micro, 20, listener=kept)
        plan = planned(20)
        made = [key[0] for key in keys(dataset)]
        assert made[: len(plan)] == [arch_id for arch_id, _ in plan]
        assert made[len(plan) :] == [ids[2], ids[3], ids[7], ids[7], ids[7]]
        assert len(set(keys(dataset))) == len(made)
        assert set(dataset.usable()["arch_id"].to_pylist()) == {*ids} - {ids[7]}
        assert kept.progresses[-1].done == kept.progresses[-1].total == len(made)
        assert kept.progresses[-1].disturbed == 6

    def test_the_papers_protocol_flags_nothing(self, tmp_path: Path, micro: Setting) -> None:
        target = Target("darts", "this-cpu", "torch-cpu", micro)
        with TorchCpuBackend() as backend:
            profile(backend, target, PROTOCOLS["paper"], 5, 0, tmp_path / "d")
        dataset = LatencyDataset.open(tmp_path / "d")
        assert keys(dataset) == planned(5)
        assert not dataset.flagged.any()
        for row in dataset.table.to_pylist():
            assert len(row["samples_ms"]) == 20
            assert row["clock"] == "wall"
            assert row["latency_ms"] == pytest.approx(np.mean(row["samples_ms"]))
            assert row["latency_ms"] == pytest.approx(row["wall_ms"])


def test_a_target_error_adds_passes(tmp_path: Path, micro: Setting) -> None:
    kept = Kept()
    # Without an anchor nothing is flagged, however busy the machine is.
    plain = {"protocol": Protocol(runs=2, anchored=False), "target_error": 0.02}
    run(tmp_path / "d", micro, 20, **plain, listener=kept)
    assert kept.ended == 1
    dataset = LatencyDataset.open(tmp_path / "d")
    retest = dataset.retest()
    assert retest.sd == pytest.approx(kept.progresses[-1].retest_sd)
    rounds = len(listed(dataset)) / 20
    assert kept.progresses[-1].error is not None
    assert kept.progresses[-1].error <= 0.02 or rounds >= 16
    # And it goes on from there without measuring anything again.
    before = dataset.digest()
    run(tmp_path / "d", micro, 20, **plain)
    assert LatencyDataset.open(tmp_path / "d").digest() == before


class TestEnergy:
    def test_is_a_column_where_it_is_measured(
        self, tmp_path: Path, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Meter(EnergyMeter):
            name = "made-up"

            def begin(self) -> None:
                pass

            def end_mj(self) -> float:
                return 500.0

        monkeypatch.setattr(TorchCpuBackend, "open_meter", lambda self: Meter())
        monkeypatch.setattr("latkit.profiling.session.energy_per_run_mj", lambda m, run, ms: 12.5)
        dataset = run(tmp_path / "d", micro, 3, energy=True)
        assert dataset.manifest.metrics == ("energy_mj",)
        assert dataset.manifest.fingerprint["energy_meter"] == "made-up"
        assert set(dataset.table["energy_mj"].to_pylist()) == {12.5}
        with pytest.raises(DatasetError, match=r"another kind.*metrics"):
            run(tmp_path / "d", micro, 3)

    def test_is_absent_where_it_is_not(self, tmp_path: Path, micro: Setting) -> None:
        dataset = run(tmp_path / "d", micro, 3)
        assert dataset.manifest.metrics == ()
        assert not {"energy_mj", "peak_memory_mb"} & set(dataset.table.column_names)

    @pytest.mark.skipif(any(POWERCAP.glob("intel-rapl:*")), reason="this CPU has a meter")
    def test_without_a_meter_nothing_is_begun(self, tmp_path: Path, micro: Setting) -> None:
        with pytest.raises(BackendError, match="no energy meter"):
            run(tmp_path / "d", micro, 3, energy=True)
        assert not (tmp_path / "d").exists()


def test_a_clock_that_is_not_there_begins_nothing(tmp_path: Path, micro: Setting) -> None:
    target = Target("darts", "this-cpu", "torch-cpu", micro)
    with TorchCpuBackend() as backend, pytest.raises(InputError, match="no clock 'event'"):
        profile(backend, target, Protocol(clock="event"), 3, 0, tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_pinned(tmp_path: Path, micro: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    core = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    seen = []
    original = Session.measure

    def measure_pinned(self: Session, genotype: Any) -> Any:
        seen.append(os.sched_getaffinity(0))
        return original(self, genotype)

    monkeypatch.setattr(loop.Session, "measure", measure_pinned)
    target = Target("darts", "this-cpu", "torch-cpu", micro)
    with TorchCpuBackend() as backend:
        profile(backend, target, Protocol(cores=(core,)), 3, 0, tmp_path / "d")
    assert set(map(frozenset, seen)) == {frozenset({core})}
    assert os.sched_getaffinity(0) == before
    manifest = LatencyDataset.open(tmp_path / "d").manifest
    assert manifest.protocol["cores"] == [core]
    assert manifest.fingerprint["affinity"] == str(core)
