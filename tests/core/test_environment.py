"""Variables of the environment in fingerprints, and who notices that they differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from latkit.backends.base import fingerprint
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.device import contradictions, differences, environment_differences
from latkit.core.environment import VARIABLES, environment_facts
from latkit.core.errors import DatasetError
from latkit.core.files import write_json_atomically
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import check_dataset
from latkit.dataset.compare import compare_datasets
from latkit.dataset.merge import merge_datasets
from latkit.profiling.loop import profile
from latkit.profiling.protocol import PRESETS
from latkit.spaces import Setting
from tests.support.commands import RunLatkit

ISA = "env.ONEDNN_MAX_CPU_ISA"


def measure(out: Path, setting: Setting, n: int = 3) -> LatencyDataset:
    target = Target("darts", "this-cpu", "torch-cpu", setting)
    with TorchCpuBackend() as backend:
        profile(backend, target, PRESETS["paper"], n, 0, out)
    return LatencyDataset.open(out)


def test_unset_and_empty_variables_are_null() -> None:
    facts = environment_facts({"DNNL_MAX_CPU_ISA": "", "HOME": "/root"})
    assert set(facts.values()) == {None}
    assert len(facts) == len(VARIABLES) == len(set(VARIABLES))


@pytest.mark.parametrize(
    "name",
    [
        "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS",
        "DNNL_DEFAULT_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE",
        "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "KMP_BLOCKTIME",
        "KMP_AFFINITY", "ATEN_CPU_CAPABILITY", "MALLOC_CONF", "NVIDIA_TF32_OVERRIDE",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "GLIBC_TUNABLES", "OPENBLAS_CORETYPE",
    ],
)  # fmt: skip
def test_what_changes_kernels_is_a_fact(name: str) -> None:
    facts = environment_facts({name: " x "})
    assert facts[f"env.{name}"] == "x"
    assert sum(value is not None for value in facts.values()) == 1


def test_preloaded_libraries_are_named_without_folders() -> None:
    ours = environment_facts({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2:/opt/libtcmalloc.so"})
    assert ours["env.LD_PRELOAD"] == "libjemalloc.so.2 libtcmalloc.so"
    theirs = environment_facts({"LD_PRELOAD": "/lib64/libjemalloc.so.2 libtcmalloc.so"})
    assert contradictions(ours, theirs) == []


def test_that_a_variable_is_unset_is_known() -> None:
    plain, slow = environment_facts({}), environment_facts({"ONEDNN_MAX_CPU_ISA": "SSE41"})
    assert environment_differences(plain, slow) == [f"{ISA}: None / SSE41"]
    assert contradictions(slow, plain) == differences(slow, plain) == [f"{ISA}: SSE41 / None"]
    # Of a fingerprint without the fact nothing is known.
    assert contradictions({"cpu": "x"}, slow) == environment_differences(slow, {}) == []


def test_the_fingerprint_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    facts = fingerprint(TorchCpuBackend())
    assert facts[ISA] == "SSE41"
    assert facts["env.OMP_WAIT_POLICY"] is None


def test_datasets_of_two_environments(
    tmp_path: Path, micro: Setting, monkeypatch: pytest.MonkeyPatch, latkit: RunLatkit
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    plain = measure(tmp_path / "plain", micro)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    # An unset variable is as much a part of a dataset as a set one: it is not continued.
    with pytest.raises(DatasetError, match="ONEDNN_MAX_CPU_ISA"):
        measure(tmp_path / "plain", micro, n=4)
    slow = measure(tmp_path / "slow", micro)
    with pytest.raises(DatasetError, match="ONEDNN_MAX_CPU_ISA"):
        merge_datasets([plain, slow], tmp_path / "both")
    merged = merge_datasets([plain, slow], tmp_path / "both", different_hardware=True)
    assert ISA not in merged.manifest.fingerprint
    assert merged.manifest.fingerprint["env.OMP_WAIT_POLICY"] is None
    report = compare_datasets(plain, slow).to_dict()
    assert report["differences"]["fingerprint"] == [f"{ISA}: None / SSE41"]
    assert check_dataset(plain).to_dict()["environment"] == {}
    report = check_dataset(slow).to_dict()
    assert report["environment"] == {"ONEDNN_MAX_CPU_ISA": "SSE41"}
    assert any("ONEDNN_MAX_CPU_ISA=SSE41" in found["text"] for found in report["findings"])
    # Shown where it is set.
    assert "ONEDNN_MAX_CPU_ISA" not in latkit("dataset", "show", "plain").stdout
    assert "ONEDNN_MAX_CPU_ISA" in latkit("dataset", "show", "slow").stdout


def test_an_earlier_dataset_without_the_facts_is_continued(tmp_path: Path, micro: Setting) -> None:
    made = measure(tmp_path / "d", micro)
    known = {k: v for k, v in made.manifest.fingerprint.items() if not k.startswith("env.")}
    earlier = dataclasses.replace(made.manifest, fingerprint=known)
    write_json_atomically(tmp_path / "d" / "dataset.json", earlier.to_dict())
    more = measure(tmp_path / "d", micro, n=4)
    assert more.architectures == 4
    assert ISA in more.manifest.fingerprint
