"""Every wrong use gives one line that names the cause and the fix, and a non-zero exit."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.support.commands import MICRO_TEXT, RunLatkit, check
from tests.support.synthetic import made_dataset

PROFILE = ("profile", "--backend", "torch-cpu", "--setting", MICRO_TEXT, "--n", 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("profil",), ("no command 'profil'", "Did you mean profile?")),
        (("profile", "--nn", "3"), ("No such option", "--help")),
        (("profile", "--n", "zero"), ("'zero' is not a valid integer",)),
        (("profile", "--n", "0"), ("--n",)),
        (("profile", "--backend", "torch-cdua"), ("unknown backend", "did you mean torch-cuda")),
        (("profile", "--space", "mobile"), ("unknown search space 'mobile'", "darts")),
        (("profile", "--device", "My GPU"), ("cannot be a device name", "e.g. p100")),
        (("profile", "--setting", "huge"), ("unknown setting 'huge'", "imagenet")),
        (("profile", "--setting", "tiny,cells=2"), ("no normal cell", "at least 3")),
        (("profile", "--seed", str(2**64)), ("--seed",)),
        (("search", "--device", "x", "--cells", "2"), ("cells=2 is too small", "at least 3")),
        (("search",), ("--device", "--method one-shot")),
        (("search", "--device", "nope"), ("no LPM for device 'nope'", "latkit profile")),
        (("search", "--device", "@@"), ("is not an LPM reference",)),
        (("search", "--device", "x", "--lambda", "-1"), ("lambda=-1.0",)),
        (("lpms", "show", "nope"), ("no LPM for device 'nope'",)),
        (("train-lpm",), ("./datasets holds none", "latkit profile")),
        (("train-lpm", "nothing"), ("nothing is not a dataset", "latkit profile --out nothing")),
    ],
)  # fmt: skip
def test_wrong_arguments(
    latkit: RunLatkit, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    check(latkit, *arguments, says=says)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_cuda_without_a_gpu(latkit: RunLatkit) -> None:
    check(
        latkit, "profile", "--backend", "torch-cuda", "--n", 3, "--out", "d",
        says=("backend torch-cuda is missing", "Fix: ", "--backend torch-cpu"), code=1,
    )  # fmt: skip
    assert not Path("d").exists()


def test_a_batch_that_no_memory_holds(latkit: RunLatkit) -> None:
    check(
        latkit, "profile", "--backend", "torch-cpu", "--setting", "tiny,batch=1000000000", "--n", 1,
        says=("torch-cpu cannot", "memory ran out", "batch=1"), code=1,
    )  # fmt: skip


def test_no_command_prints_the_help(latkit: RunLatkit) -> None:
    for arguments in ((), ("lpms",)):
        done = latkit(*arguments)
        assert done.returncode == 0
        assert "Commands:" in done.stdout
        assert len(done.stdout.splitlines()) > 5


def test_an_unwritable_folder(latkit: RunLatkit) -> None:
    Path("file").touch()
    check(latkit, *PROFILE, "--out", "file/d", says=("Cannot write the dataset", "file/d", "Fix:"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_the_system_refuses(latkit: RunLatkit) -> None:
    check(
        latkit, *PROFILE, "--out", "/proc/d", says=("Cannot write the dataset in /proc/d", "Fix:")
    )


def test_a_corrupt_part_file(latkit: RunLatkit) -> None:
    arguments = (*PROFILE, "--device", "this-cpu", "--out", "d")
    assert latkit(*arguments).returncode == 0
    part = Path("d/part-000000.parquet")
    part.write_bytes(part.read_bytes()[:100])
    says = ("part file d/part-000000.parquet is corrupt", "Fix: restore it", "delete it")
    check(latkit, "train-lpm", "d", says=says, code=1)
    check(latkit, *arguments, says=says, code=1)
    # The fix it names works.
    part.unlink()
    assert latkit(*arguments).returncode == 0


def test_a_dataset_of_another_space(latkit: RunLatkit) -> None:
    made_dataset(Path("d"), 25)
    manifest = Path("d/dataset.json")
    content = json.loads(manifest.read_text())
    content["target"]["space"] = "nasbench"
    manifest.write_text(json.dumps(content))
    says = ("the space 'nasbench' is unknown", "Fix: use a file of one of these spaces: darts")
    check(latkit, "train-lpm", "d", says=says, code=1)
    check(latkit, *PROFILE, "--out", "d", says=says, code=1)


def test_an_lpm_of_another_space(latkit: RunLatkit, registry_url: str) -> None:
    made_dataset(Path("d"), 25)
    assert latkit("train-lpm", "d", "--epochs", 5).returncode == 0
    (Path(registry_url) / "darts").rename(Path(registry_url) / "nasbench")
    check(
        latkit, "search", "--device", "formula",
        says=("no LPM for device 'formula' and space darts", "Fix:"),
    )  # fmt: skip


def test_latencies_that_are_not_numbers(latkit: RunLatkit) -> None:
    made_dataset(Path("d"), 25)
    part = Path("d/part-000000.parquet")
    table = pq.ParquetFile(part).read()
    index = table.schema.get_field_index("ratio_to_anchor")
    ratios = table["ratio_to_anchor"].to_pylist()
    ratios[3] = float("nan")
    pq.write_table(table.set_column(index, "ratio_to_anchor", pa.array(ratios)), part)
    check(
        latkit, "train-lpm", "d",
        says=("d/part-000000.parquet holds 1 rows", "not positive numbers", "Fix:"), code=1,
    )  # fmt: skip


def test_a_corrupt_lpm(latkit: RunLatkit, registry_url: str) -> None:
    made_dataset(Path("d"), 25)
    assert latkit("train-lpm", "d", "--epochs", 5).returncode == 0
    (weights,) = Path(registry_url).glob("**/weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    check(
        latkit, "search", "--device", "formula",
        says=("weights.safetensors is corrupt", "Fix:"), code=1,
    )  # fmt: skip


def test_an_unwritable_registry(latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
    made_dataset(Path("d"), 25)
    Path("file").touch()
    monkeypatch.setenv("LATKIT_REGISTRY", "file/registry")
    check(
        latkit, "train-lpm", "d", "--epochs", 5,
        says=("Cannot write the registry", "LATKIT_REGISTRY"), code=1,
    )  # fmt: skip


def test_wrong_search_data(latkit: RunLatkit) -> None:
    made_dataset(Path("d"), 25)
    assert latkit("train-lpm", "d", "--epochs", 5).returncode == 0
    search = ("search", "--device", "formula", "--preset", "cpu", "--out", "s")
    check(latkit, *search, "--data", "cifar11", says=("no data at 'cifar11'", "digits"))
    check(latkit, *search, "--batch", 4000, says=("batch of 4000 is larger", "--batch 898"))
    assert not Path("s/checkpoint.safetensors").exists()


def test_the_demo_does_not_delete_what_it_did_not_make(latkit: RunLatkit) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("all my work")
    check(latkit, "demo", "--out", "mine", says=("was not made by the demo", "--out"))
    assert Path("mine/thesis.txt").read_text() == "all my work"
