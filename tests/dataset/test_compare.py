"""Two datasets beside each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from latkit.core.errors import DatasetError
from latkit.dataset import LatencyDataset
from latkit.dataset.compare import compare_datasets
from latkit.dataset.writer import DatasetWriter
from tests.support.synthetic import SPACE, made_dataset, made_manifest, made_row


def write(folder: Path, latencies: dict[int, float], **manifest: Any) -> LatencyDataset:
    with DatasetWriter(folder, made_manifest(len(latencies), **manifest)) as writer:
        for arch_id, latency in latencies.items():
            writer.append(made_row(arch_id, latency))
    return LatencyDataset.open(folder)


def test_the_same_twice_as_slow(tmp_path: Path) -> None:
    first, second = made_dataset(tmp_path / "a", 50), made_dataset(tmp_path / "b", 50, scale=2.0)
    report = compare_datasets(first, second).to_dict()
    assert report["architectures"] == 50
    assert report["ratio"] == pytest.approx(2)
    assert report["deviation_percent"] == pytest.approx(0, abs=1e-9)
    assert report["spearman"] == pytest.approx(1)
    assert report["differences"] == {"target": [], "protocol": [], "fingerprint": []}
    assert report["panel"] is None


def test_against_scipy_on_the_common_architectures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = SPACE.sample(60, 0).tolist()
    ours = dict(zip(ids[:45], rng.uniform(5, 20, 45).tolist(), strict=True))
    theirs = {a: ours.get(a, 9.0) * float(rng.uniform(0.9, 1.3)) for a in reversed(ids[15:])}
    report = compare_datasets(write(tmp_path / "a", ours), write(tmp_path / "b", theirs)).to_dict()
    common = ids[15:45]
    x, y = np.array([ours[a] for a in common]), np.array([theirs[a] for a in common])
    logs = np.log(y / x)
    assert report["architectures"] == 30
    assert report["spearman"] == pytest.approx(spearmanr(x, y).statistic)
    assert report["kendall_tau"] == pytest.approx(kendalltau(x, y).statistic)
    assert report["ratio"] == pytest.approx(np.exp(np.median(logs)))
    deviation = np.expm1(np.median(np.abs(logs - np.median(logs))))
    assert report["deviation_percent"] == pytest.approx(100 * deviation)


def test_what_differs(tmp_path: Path) -> None:
    first = made_dataset(tmp_path / "a", 5)
    manifest = made_manifest(5)
    target = dataclasses.replace(manifest.target, device="other")
    second = write(
        tmp_path / "b", {a: 5.0 + a % 7 for a in SPACE.sample(5, 0).tolist()}, target=target,
        fingerprint={"cpu": "another", "cores": 8},
        protocol={**manifest.protocol, "runs_per_visit": 3},
    )  # fmt: skip
    assert compare_datasets(first, second).to_dict()["differences"] == {
        "target": ["device: formula / other"],
        "protocol": ["runs_per_visit: 6 / 3"],
        "fingerprint": ["cores: None / 8", "cpu: none: made by formula / another"],
    }


def test_by_the_panel_where_the_lists_differ(tmp_path: Path) -> None:
    panel = SPACE.sample(16, 5).tolist()

    def make(name: str, seed: int, factor: float) -> LatencyDataset:
        with DatasetWriter(tmp_path / name, made_manifest(3, seed=seed)) as writer:
            for k, arch_id in enumerate(panel):
                writer.append(made_row(arch_id, factor * (5 + k), flags=["panel-start"]))
            for arch_id in SPACE.sample(3, seed).tolist():
                writer.append(made_row(arch_id, 9.0))
        return LatencyDataset.open(tmp_path / name)

    report = compare_datasets(make("a", 0, 1.0), make("b", 1, 1.5)).to_dict()
    assert report["judged_by"] == "panel"
    assert report["architectures"] == 0
    assert report["ratio"] == pytest.approx(1.5)
    assert report["panel"]["architectures"] == 16


def test_nothing_in_common(tmp_path: Path) -> None:
    ids = SPACE.sample(8, 0).tolist()
    first = write(tmp_path / "a", dict.fromkeys(ids[:4], 5.0))
    second = write(tmp_path / "b", dict.fromkeys(ids[4:], 5.0))
    with pytest.raises(DatasetError, match=r"no usable architectures in common.*--seed"):
        compare_datasets(first, second)


def test_constant_latencies_have_no_rank_correlation(tmp_path: Path) -> None:
    ids = SPACE.sample(4, 0).tolist()
    first = write(tmp_path / "a", dict.fromkeys(ids, 5.0))
    report = compare_datasets(first, made_dataset(tmp_path / "b", 4)).to_dict()
    assert report["spearman"] is None
    assert report["kendall_tau"] is None


def test_the_deviation_to_expect_follows_from_the_retest_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = SPACE.sample(400, 0).tolist()
    truth = rng.uniform(5, 20, 400)

    def noisy(name: str) -> LatencyDataset:
        with DatasetWriter(tmp_path / name, made_manifest(400)) as writer:
            for visit in range(2):
                for arch_id, latency in zip(ids, truth, strict=True):
                    measured = float(latency * np.exp(rng.normal(0, 0.02)))
                    writer.append(made_row(arch_id, measured, visit))
        return LatencyDataset.open(tmp_path / name)

    report = compare_datasets(noisy("a"), noisy("b")).to_dict()
    # Here each latency is a mean of two visits, which deviates less by the root of two.
    assert report["expected_deviation_percent"] == pytest.approx(
        report["deviation_percent"] * 2**0.5, rel=0.2
    )
