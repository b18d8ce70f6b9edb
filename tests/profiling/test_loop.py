"""The profile loop with real measurements: content, extension, interruption, kill."""

from __future__ import annotations

import dataclasses
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.dataset import LatencyDataset, Target, part_paths, read_journal
from latkit.errors import DatasetError, InputError
from latkit.networks import PRESETS, ZOO, Setting, network_cost
from latkit.profiling.loop import Progress, measure, profile
from latkit.profiling.protocol import Protocol, schedule
from latkit.spaces import get_space
from tests.conftest import MICRO_TEXT, start_latkit

SPACE = get_space("darts")


def run(out: Path, setting: Setting, n: int, seed: int = 0, **more: object) -> LatencyDataset:
    target = Target("darts", "this-cpu", "torch-cpu", setting)
    with TorchCpuBackend() as backend:
        profile(backend, target, Protocol(), n, seed, out, **more)  # type: ignore[arg-type]
    return LatencyDataset.open(out)


def keys(dataset: LatencyDataset) -> list[tuple[int, int]]:
    table = dataset.table
    return list(zip(table["arch_id"].to_pylist(), table["visit"].to_pylist(), strict=True))


def planned(n: int, seed: int = 0) -> list[tuple[int, int]]:
    ids = SPACE.sample(n, seed).tolist()
    return [(ids[i], visit) for i, visit in schedule(n, seed, Protocol().revisit_every)]


def test_rows(tmp_path: Path, micro: Setting) -> None:
    dataset = run(tmp_path / "d", micro, 25)
    assert keys(dataset) == planned(25)
    median = float(np.median(np.concatenate(dataset.table["anchor_samples_ms"].to_pylist())))
    assert dataset.anchor_median_ms == pytest.approx(median)
    for row in dataset.table.to_pylist():
        matrix = SPACE.unrank(row["arch_id"])
        assert row["arch"] == SPACE.format(matrix[0])
        cost = network_cost(SPACE.genotype(matrix[0], ZOO["darts_v2"]), micro)
        assert (row["macs"], row["params"]) == (cost.macs, cost.params)
        assert (len(row["samples_ms"]), len(row["anchor_samples_ms"])) == (6, 2)
        ratio = np.mean(row["samples_ms"]) / np.mean(row["anchor_samples_ms"])
        assert row["ratio_to_anchor"] == pytest.approx(ratio)
        assert row["latency_ms"] == pytest.approx(ratio * median)
        spread = np.std(row["samples_ms"]) / np.mean(row["samples_ms"]) * row["latency_ms"]
        assert row["latency_std_ms"] == pytest.approx(spread)
        assert row["clock"] == "cpu"
        assert row["wall_ms"] > 0
        assert abs(row["measured_at"].timestamp() - time.time()) < 600


def test_each_row_times_its_own_network(tmp_path: Path) -> None:
    """A cell of skips and one of 5x5 convolutions are told apart by their times and MACs."""
    setting = dataclasses.replace(PRESETS["tiny"], cells=3)
    with TorchCpuBackend() as backend:
        cells = [
            SPACE.genotype(SPACE.parse(text)[0], ZOO["darts_v2"])
            for text in (
                "+".join(f"|{op}~0|{op}~1|" for _ in range(4))
                for op in ("skip_connect", "sep_conv_5x5")
            )
        ]
        light, heavy = measure(backend, cells, setting, Protocol(), visits=5)
    assert heavy.ratio_to_anchor > 1.5 * light.ratio_to_anchor
    dataset = run(tmp_path / "d", setting, 30)
    macs, latency = (dataset.table[name].to_numpy() for name in ("macs", "latency_ms"))
    assert len(set(macs.tolist())) > 10
    assert spearmanr(macs, latency).statistic > 0.5


def test_a_finished_dataset_is_left_as_it_is(tmp_path: Path, micro: Setting) -> None:
    before = run(tmp_path / "d", micro, 5)
    files = {p.name: p.read_bytes() for p in part_paths(tmp_path / "d")}
    after = run(tmp_path / "d", micro, 5)
    assert after.digest() == before.digest()
    assert {p.name: p.read_bytes() for p in part_paths(tmp_path / "d")} == files


def test_a_larger_n_extends(tmp_path: Path, micro: Setting) -> None:
    first = run(tmp_path / "d", micro, 10)
    more = run(tmp_path / "d", micro, 30)
    assert keys(more) == planned(30)
    assert more.table["samples_ms"][:10].equals(first.table["samples_ms"])
    # One anchor time for both sessions, in the files as they lie.
    raw = LatencyDataset.open(tmp_path / "d").table
    ratio = raw["latency_ms"].to_numpy() / raw["ratio_to_anchor"].to_numpy()
    np.testing.assert_allclose(ratio, more.anchor_median_ms)


def test_every_backend_setting_measures_the_same_list(tmp_path: Path, micro: Setting) -> None:
    other = dataclasses.replace(micro, memory_format="nchw")
    first, second = run(tmp_path / "a", micro, 8, 3), run(tmp_path / "b", other, 8, 3)
    assert keys(first) == keys(second) == planned(8, 3)


def test_ctrl_c_in_the_loop_loses_nothing(tmp_path: Path, micro: Setting) -> None:
    def interrupt(now: Progress) -> None:
        if now.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "d", micro, 15, on_progress=interrupt)
    kept = LatencyDataset.open(tmp_path / "d")
    assert keys(kept) == planned(15)[:7]
    whole = run(tmp_path / "d", micro, 15)
    assert keys(whole) == planned(15)
    assert whole.table["samples_ms"][:7].equals(kept.table["samples_ms"])


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
    setting = dataclasses.replace(micro, **change.get("setting", {}))  # type: ignore[arg-type]
    threads = int(change.get("threads", 1))  # type: ignore[call-overload]
    target = Target("darts", str(change.get("device", "this-cpu")), "torch-cpu", setting)
    seed = int(change.get("seed", 0))  # type: ignore[call-overload]
    with TorchCpuBackend(threads) as backend, pytest.raises(DatasetError, match=named):
        profile(backend, target, Protocol(threads=threads), 3, seed, tmp_path / "d")
    assert LatencyDataset.open(tmp_path / "d").digest() == before.digest()


def test_too_many_architectures(tmp_path: Path, micro: Setting) -> None:
    with pytest.raises(InputError, match="from 1 to 1037664180"):
        run(tmp_path / "d", micro, SPACE.size + 1)


def test_measure_agrees_with_the_anchor_on_itself(micro: Setting) -> None:
    """The anchor measured as a candidate has ratio 1: the protocol has no bias of position."""
    with TorchCpuBackend() as backend:
        (done,) = measure(backend, [ZOO["darts_v2"]], micro, Protocol(), visits=15)
    ratios = [visit.ratio_to_anchor for visit in done.visits]
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert done.ratio_to_anchor == pytest.approx(np.mean(ratios), rel=0.1)
    assert done.latency_ms == done.ratio_to_anchor * done.anchor_median_ms


def test_kill_9_loses_no_finished_row_and_measures_none_twice(tmp_path: Path) -> None:
    """Three kills at different moments; then the same command completes the undisturbed list."""
    out = tmp_path / "d"
    n = 150
    arguments = (
        "profile", "--backend", "torch-cpu", "--device", "this-cpu", "--setting", MICRO_TEXT,
        "--n", n, "--out", out,
    )  # fmt: skip
    kept: list[dict[str, object]] = []
    for more in (3, 20, 40):
        process = start_latkit(*arguments, cwd=tmp_path)
        deadline = time.monotonic() + 120
        while len(rows_on_disk(out)) < len(kept) + more:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after = rows_on_disk(out)
        assert after[: len(kept)] == kept
        kept = after
    assert 63 <= len(kept) < len(planned(n))
    process = start_latkit(*arguments, cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"going on: {len(kept)} of {len(planned(n))}" in err
    whole = LatencyDataset.open(out)
    assert keys(whole) == planned(n)
    finished = [(row["arch_id"], row["samples_ms"]) for row in whole.table.to_pylist()]
    assert finished[: len(kept)] == [(row["arch_id"], row["samples_ms"]) for row in kept]


def rows_on_disk(out: Path) -> list[dict[str, object]]:
    """Rows that a dead process has left, read while none or one is writing."""
    if not (out / "dataset.json").exists():
        return []
    from latkit.dataset import read_part

    rows = [row for part in part_paths(out) for row in read_part(part).to_pylist()]
    seen = {(row["arch_id"], row["visit"]) for row in rows}
    rows += [r for r in read_journal(out) if (r["arch_id"], r["visit"]) not in seen]
    # latency_ms is recomputed when a session ends; what was measured is not.
    for row in rows:
        del row["latency_ms"], row["latency_std_ms"]
    return rows
