"""Profiling as a program does it: what a request becomes, and what the dataset then records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from latkit.backends import BACKENDS, default_backend_name
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.device import suggest_device_name
from latkit.core.errors import InputError
from latkit.core.events import SILENT, Listener
from latkit.dataset import LatencyDataset
from latkit.profiling.protocol import PRESETS, Protocol
from latkit.spaces import Setting, get_space
from latkit.tasks.profile import ProfileRequest, ProfileResult, run_profile
from tests.support.commands import MICRO_TEXT, RunLatkit
from tests.support.listeners import Kept


def measure(out: Path, listener: Listener = SILENT, **more: Any) -> ProfileResult:
    """A few architectures, in the micro setting unless told otherwise."""
    values = {"n": 3, "setting": MICRO_TEXT, "backend": "torch-cpu", "device": "x", **more}
    return run_profile(ProfileRequest(out=out, **values), listener)


def test_it_measures_what_the_command_measures(latkit: RunLatkit, tmp_path: Path) -> None:
    done = latkit(
        "profile", "--backend", "torch-cpu", "--device", "x", "--setting", MICRO_TEXT, "--n", 3,
        "--protocol", "paper", "--runs-per-visit", 2, "--visits", 2, "--seed", 4, "--out", "a",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = measure(tmp_path / "b", protocol="paper", runs=2, replicates=2, seed=4)
    assert result.to_dict().keys() == json.loads(done.stdout).keys()
    assert result.dataset == tmp_path / "b"
    assert result.warnings == ()
    by_command, by_call = (LatencyDataset.open(tmp_path / name) for name in "ab")
    for column in ("arch_id", "visit", "clock", "macs"):
        assert by_command.table[column].equals(by_call.table[column])
    assert by_command.manifest.to_dict() == by_call.manifest.to_dict()


def test_what_is_left_open_is_chosen_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: Setting
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = Kept()
    result = run_profile(ProfileRequest(n=2, setting=micro), kept)
    name, reason = default_backend_name()
    with BACKENDS.get(name)() as backend:
        device = suggest_device_name(backend.hardware_name())
    assert result.dataset == Path("datasets", device, name, micro.slug)
    assert kept.notes[0] == reason
    assert device in kept.notes[1]
    target = LatencyDataset.open(result.dataset).manifest.target
    assert (target.device, target.backend, target.setting) == (device, name, micro)
    assert [now.done for now in kept.steps][:2] == [1, 2]
    assert kept.steps[0].unit == "measurements"


def test_a_second_call_goes_on(tmp_path: Path) -> None:
    measure(tmp_path / "d", n=2, protocol="paper")
    kept = Kept()
    measure(tmp_path / "d", kept, n=3, protocol="paper")
    assert any(note.startswith("going on: 2 of 3 ") for note in kept.notes)
    assert [(now.done_before, now.done) for now in kept.steps] == [(2, 3)]


def test_the_memory_format_is_the_backends_where_a_text_leaves_it_open(micro: Setting) -> None:
    nchw_only = BACKENDS.get("onnxruntime-cpu")
    assert micro.memory_format == "channels_last"
    for setting, wanted in (
        (MICRO_TEXT, "nchw"),
        (f"{MICRO_TEXT},memory_format=channels_last", "channels_last"),
        (micro, "channels_last"),
    ):
        request = ProfileRequest(setting=setting)
        assert request.get_setting(nchw_only).memory_format == wanted
        assert request.get_setting(TorchCpuBackend).memory_format == "channels_last"


class TestProtocol:
    def test_is_a_preset_with_changes(self) -> None:
        request = ProfileRequest(protocol="paper", runs=7, clock="auto", threads=2, cores=(0, 1))
        wanted = Protocol(7, 5, anchored=False, clock="auto", threads=2, cores=(0, 1))
        assert request.get_protocol() == wanted
        assert ProfileRequest().get_protocol() == PRESETS["standard"]

    def test_is_one_of_ones_own(self) -> None:
        own = Protocol(runs=4, warmup_runs=2, cores=(0,))
        assert ProfileRequest(protocol=own).get_protocol() == own

    def test_is_unknown(self) -> None:
        with pytest.raises(InputError):
            ProfileRequest(protocol="quick").get_protocol()


@pytest.mark.parametrize(
    "values",
    [
        {"replicates": 0}, {"replicates": 17}, {"target_error": 0.0}, {"target_error": 1.5},
        {"choose": "best"}, {"transfer_from": ("p100",)},
    ],
)  # fmt: skip
def test_values_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ProfileRequest(**values)


class TestActive:
    def test_measures_candidates_of_the_list(self, tmp_path: Path) -> None:
        result = measure(tmp_path / "d", choose="active", protocol="paper")
        dataset = LatencyDataset.open(result.dataset)
        ids = dataset.table.filter(pa.array(~dataset.in_panel))["arch_id"].to_pylist()
        assert len(set(ids)) == 3
        assert set(ids) <= set(get_space("darts").sample(4096, 0).tolist())
        assert ids != get_space("darts").sample(3, 0).tolist()

    def test_has_a_limit(self, tmp_path: Path) -> None:
        with pytest.raises(InputError):
            measure(tmp_path / "d", choose="active", n=4097)
        assert not (tmp_path / "d").exists()


def test_a_target_error_that_is_not_reached_is_a_warning(tmp_path: Path) -> None:
    (warning,) = measure(tmp_path / "d", protocol="paper", runs=1, target_error=1e-9).warnings
    assert "16" in warning
