"""The profile loop in the space of NAS-Bench-201, with real measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.errors import InputError
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.format import part_paths
from latkit.profiling.anchor import anchor_architecture, anchor_name, anchor_setting
from latkit.profiling.loop import profile
from latkit.profiling.plan import panel
from latkit.profiling.protocol import PRESETS as PROTOCOLS
from latkit.profiling.protocol import Protocol
from latkit.profiling.session import measure
from latkit.spaces import Setting, get_preset, get_space
from latkit.spaces.architecture import architecture_costs
from latkit.spaces.nasbench201.config import NasBench201Config
from tests.support.commands import RunLatkit, refused
from tests.support.table_space import add_table_space

SPACE = get_space("nasbench201")
MICRO = Setting(NasBench201Config(cells=3, channels=4, resolution=8))


def run(out: Path, n: int, protocol: Protocol) -> LatencyDataset:
    target = Target("nasbench201", "this-cpu", "torch-cpu", MICRO)
    with TorchCpuBackend() as backend:
        profile(backend, target, protocol, n, 0, out)
    return LatencyDataset.open(out)


def listed(dataset: LatencyDataset) -> list[dict[str, Any]]:
    """The rows of the list, without the panel's."""
    return [r for r, p in zip(dataset.table.to_pylist(), dataset.in_panel, strict=True) if not p]


def test_rows_and_panel(tmp_path: Path) -> None:
    dataset = run(tmp_path / "d", 3, PROTOCOLS["fast"])
    assert dataset.manifest.anchor == anchor_name(MICRO)
    assert [row["arch_id"] for row in listed(dataset)][:3] == SPACE.sample(3, 0).tolist()
    ids = panel(SPACE, 3).tolist()
    rows = dataset.table.to_pylist()
    assert [row["arch_id"] for row in rows[:2]] == ids == [row["arch_id"] for row in rows[-2:]]
    matrix = SPACE.unrank([row["arch_id"] for row in rows])
    for row, choices, cost in zip(
        rows, matrix, architecture_costs(SPACE, matrix, MICRO), strict=True
    ):
        assert row["arch"] == SPACE.format(choices)
        assert (row["macs"], row["params"]) == (cost.macs, cost.params)
        assert row["latency_ms"] > 0


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    quiet = PROTOCOLS["paper"]  # flags nothing, so that nothing is made up for
    first = run(tmp_path / "d", 3, quiet)
    files = {p.name: p.read_bytes() for p in part_paths(tmp_path / "d")}
    assert run(tmp_path / "d", 3, quiet).digest() == first.digest()
    assert {p.name: p.read_bytes() for p in part_paths(tmp_path / "d")} == files
    more = run(tmp_path / "d", 5, quiet)
    assert [row["arch_id"] for row in listed(more)] == SPACE.sample(5, 0).tolist()
    kept = first.table.num_rows
    assert more.table["samples_ms"][:kept].equals(first.table["samples_ms"])


def test_the_anchor_measured_as_a_candidate_has_ratio_one() -> None:
    setting = MICRO.replace(channels=16, resolution=32)
    assert anchor_setting(setting) == setting
    with TorchCpuBackend() as backend:
        (done,) = measure(
            backend, [anchor_architecture(setting)], setting, Protocol(), replicates=9
        )
    assert np.median([v.ratio_to_anchor for v in done.measurements]) == pytest.approx(1, abs=0.1)


def test_a_space_without_networks_is_refused_before_anything_is_written(
    tmp_path: Path, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_table_space(monkeypatch)
    target = Target("tables", "this-cpu", "torch-cpu", get_preset("tables"))
    with (
        TorchCpuBackend() as backend,
        pytest.raises(InputError, match="builds no networks of the space tables"),
    ):
        profile(backend, target, Protocol(), 3, 0, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    command = ("profile", "--space", "tables", "--backend", "torch-cpu", "--out", "e")
    assert "builds no networks of the space tables" in refused(latkit, *command, code=2)
    assert not Path("e").exists()


def test_the_command_takes_the_spaces_own_setting(latkit: RunLatkit) -> None:
    done = latkit(
        "profile", "--space", "nasbench201", "--backend", "torch-cpu", "--device", "this-cpu",
        "--protocol", "paper", "--n", 1, "--out", "d", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert LatencyDataset.open(Path("d")).manifest.target.setting == get_preset("nasbench201")
    done = latkit("profile", "--space", "nasbench201", "--setting", "tiny", "--out", "e")
    assert done.returncode != 0
    assert "--setting nasbench201" in done.stderr.splitlines()[-1]
