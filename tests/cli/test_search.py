"""``latkit search`` in processes that are killed, stopped and wrongly used."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import safetensors

from latkit.registry import Registry
from latkit.search.checkpoint import CHECKPOINT, HEADER
from latkit.search.config import SearchConfig
from latkit.search.history import HISTORY
from tests.search.test_data import write_parquet
from tests.support.commands import RunLatkit, check
from tests.support.processes import check_interrupted, interrupt, start_latkit, wait_for
from tests.support.synthetic import made_lpm

SEARCH = (
    "search", "--device", "formula", "--preset", "cpu", "--cells", 3, "--channels", 2,
    "--batch", 16, "--epochs", 2, "--limit", 64,
)  # fmt: skip


@pytest.fixture(autouse=True)
def published(tmp_path: Path, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Children and this process sum in the same order only with the same threads.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = made_lpm(tmp_path / "made")
    Registry(registry_url).publish(made.lpm, made.card)


def begun(folder: Path) -> dict[str, Any] | None:
    """What the checkpoint of a folder tells of an unfinished epoch."""
    with safetensors.safe_open(folder / CHECKPOINT, "pt") as file:
        step: dict[str, Any] | None = json.loads(file.metadata()[HEADER]).get("begun")
        return step


def check_same_end(a: Path, b: Path) -> None:
    """Two searches ended in the same bytes, but for the times in their histories."""
    assert (a / CHECKPOINT).read_bytes() == (b / CHECKPOINT).read_bytes()
    histories = [pq.read_table(str(folder / HISTORY)).drop(["seconds"]) for folder in (a, b)]
    assert histories[0].equals(histories[1])


def test_killed_and_stopped_searches_end_in_the_same_bytes(
    latkit: RunLatkit, tmp_path: Path
) -> None:
    """kill -9 after the first epoch; SIGTERM in the first step of the first."""
    assert latkit(*SEARCH, "--out", "whole").returncode == 0

    process = start_latkit(*SEARCH, "--out", "killed", cwd=tmp_path)
    wait_for(process, tmp_path / "killed" / CHECKPOINT)
    process.kill()
    process.communicate()
    resumed = latkit(*SEARCH, "--out", "killed")
    assert "going on after epoch 1, step 0, of 2 epochs" in resumed.stderr
    check_same_end(tmp_path / "whole", tmp_path / "killed")

    folder = tmp_path / "stopped"
    process = start_latkit(*SEARCH, "--out", "stopped", cwd=tmp_path)
    # It stands when signals are already answered, and no step is done yet.
    wait_for(process, folder / "config.json")
    last = interrupt(process, signal.SIGTERM)  # Ctrl-C: tests/cli/test_path.py
    step = begun(folder)
    assert step is not None
    assert f"epoch 1, step {step['step']} is kept" in last
    assert not (folder / HISTORY).exists()
    resumed = latkit(*SEARCH, "--out", "stopped")
    assert f"going on after epoch 0, step {step['step']}, of 2" in resumed.stderr
    check_same_end(tmp_path / "whole", folder)


def test_a_sweep(latkit: RunLatkit, tmp_path: Path) -> None:
    """Two searches at a time; Ctrl-C reaches the whole group and loses nothing."""
    arguments = (*SEARCH, "--sweep-lambda", "0,0.5", "--jobs", 2, "--out", "sweep")
    names = ["lambda-0", "lambda-0.5"]
    folders = [tmp_path / "sweep" / name for name in names]
    process = start_latkit(*arguments, cwd=tmp_path, group=True)
    wait_for(process, *(folder / "config.json" for folder in folders))
    os.killpg(process.pid, signal.SIGINT)
    assert "every search is kept" in check_interrupted(process)
    # The first to begin may just have ended an epoch, and has no other step to tell of then.
    assert all((folder / CHECKPOINT).exists() for folder in folders)
    # One of the two goes on alone, by the command of a single search; then the rest.
    alone = latkit(*SEARCH, "--lambda", 0.5, "--out", "sweep/lambda-0.5")
    assert alone.returncode == 0, alone.stderr
    whole = latkit(*arguments, "--json")
    assert whole.returncode == 0, whole.stderr
    sweep = json.loads(whole.stdout)
    assert sweep == json.loads(Path("sweep/sweep.json").read_text())
    assert [row["name"] for row in sweep["searches"]] == names
    for row, folder in zip(sweep["searches"], folders, strict=True):
        result = json.loads((folder / "result.json").read_text())
        assert row["genotype"] == result["genotype"]
        assert row["lambda_per_ms"] == result["config"]["lambda_per_ms"]
        assert row["val_accuracy"] == result["epochs"][-1]["val_accuracy"]
        assert (folder / "cells.txt").read_text().startswith("normal cell\n")
    assert any(row["pareto"] for row in sweep["searches"])
    # Each is the search that a command of its own, never interrupted, makes.
    for value, folder in zip((0, 0.5), folders, strict=True):
        assert latkit(*SEARCH, "--lambda", value, "--out", f"whole-{value}").returncode == 0
        check_same_end(tmp_path / f"whole-{value}", folder)


def test_a_sweep_whose_parent_is_killed(tmp_path: Path) -> None:
    """The children notice, write a checkpoint and end."""
    arguments = (*SEARCH, "--epochs", 50, "--sweep-lambda", "0,0.5", "--jobs", 2, "--out", "s")
    process = start_latkit(*arguments, cwd=tmp_path, group=True)
    wait_for(process, *(tmp_path / "s" / f"lambda-{v}" / "config.json" for v in ("0", "0.5")))
    process.kill()
    process.communicate(timeout=60)  # the children held the same stderr: they have ended too
    assert begun(tmp_path / "s" / "lambda-0") or (tmp_path / "s" / "lambda-0" / HISTORY).exists()


def test_a_search_of_a_sweep_that_fails(latkit: RunLatkit) -> None:
    """It is named with its reason, the others are reported, and the exit code is not 0."""
    folder = Path("s/lambda-0.5")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"another": "search"}))
    done = latkit(*SEARCH, "--epochs", 1, "--sweep-lambda", "0,0.5", "--jobs", 2, "--out", "s")
    assert done.returncode == 1
    assert "warning: lambda-0.5: s/lambda-0.5 holds another search" in done.stderr
    assert "latkit: 1 of 2 searches failed (lambda-0.5)" in done.stderr.splitlines()[-1]
    assert "lambda-0: Genotype(" in done.stdout
    assert "error" in json.loads(Path("s/sweep.json").read_text())["searches"][1]


def test_what_is_told(latkit: RunLatkit) -> None:
    done = latkit(*SEARCH, "--epochs", 1, "--out", "s")
    assert done.returncode == 0, done.stderr
    assert "by every LPM of the registry" in done.stdout
    assert "p100/torch-cuda/" in done.stdout
    assert "warning: predictions of different settings" in done.stderr
    assert Path("s/cells.txt").read_text().strip() in done.stdout
    assert "not measured: this is other hardware than formula" in done.stderr


def test_what_became_of_a_target(latkit: RunLatkit, tmp_path: Path, registry_url: str) -> None:
    """Of the mean of two devices: the target, what was found, and what was moved away from."""
    slow = made_lpm(tmp_path / "slow", "slow", 2.0)
    Registry(registry_url).publish(slow.lpm, slow.card)
    arguments = (*SEARCH, "--limit", 96, "--epochs", 1, "--also-device", "slow", "--target-ms", 25)
    done = latkit(*arguments, "--out", "s")
    assert done.returncode == 0, done.stderr
    result = json.loads(Path("s/result.json").read_text())
    weighed = result["searched_for"]
    devices = [device["found"] for device in weighed["devices"]]
    assert weighed["found"] == pytest.approx(sum(devices) / 2)
    assert weighed["found"] == pytest.approx(25, rel=0.05001)
    assert weighed["on_target"] is True
    assert result["found"]["predicted_ms"] == pytest.approx(devices[0])
    line = next(line for line in done.stdout.splitlines() if line.startswith("target 25 ms: "))
    told = f"the found cell is predicted at {weighed['found']:.2f} ms, within 5 %"
    assert told in line
    # One epoch of three steps leaves the strongest cell where it was, far from the target.
    assert result["moved_from_ms"] is not None
    assert f"at {result['moved_from_ms']:.2f} ms, was moved away from" in line
    assert "weighted-sum (latency_ms)" in done.stdout
    for device, predicted in zip(weighed["devices"], devices, strict=True):
        assert device["lpm"] in done.stdout
        assert f"{predicted:.3f}" in done.stdout


def test_a_target_that_a_collapse_leaves(latkit: RunLatkit) -> None:
    """A collapse is waited for; when it comes, what is kept is told to be off the target."""
    for seed in range(6):
        done = latkit(*SEARCH, "--epochs", 4, "--target-ms", 17, "--stop-on-collapse",
                      "--seed", seed, "--out", seed, "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        weighed = result["searched_for"]
        assert weighed["on_target"] == (abs(weighed["found"] / 17 - 1) <= 0.05)
        warned = "ms, which is not within 5 %: choose a larger target" in done.stderr
        assert warned == (not weighed["on_target"])
        if warned:
            assert result["collapsed"]
            assert f"target 17 ms: the found cell is predicted at {weighed['found']:.2f}" in (
                done.stderr
            )
            return
    pytest.fail("none of the searches collapsed off the target")


def test_learning_rates_a_limit_of_skips_and_more_epochs(latkit: RunLatkit) -> None:
    """Then more of them, scaled: the batch is a quarter of the preset's 64."""
    asked = (*SEARCH, "--epochs", 1, "--weight-lr", 0.05, "--scale-lr", "--max-skips", 0)
    results = []
    for more in ((), ("--epochs", 2)):
        done = latkit(*asked, *more, "--out", "s", "--json")
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert [result["config"]["epochs"] for result in results] == [1, 2]
    first, second = (result["epochs"] for result in results)
    assert second[0] == first[0]
    assert [row["weight_lr"] for row in second] == pytest.approx([0.05, 0.025])
    optimizer = results[1]["config"]["optimizer"]
    assert optimizer["weight_lr"] == 0.05
    assert optimizer["arch_lr"] == pytest.approx(0.02 / 2)
    assert all("('skip_connect'" not in row["genotype"].split("reduce")[0] for row in second)
    # Another rate is another search.
    check(latkit, *asked, "--arch-lr", 0.02, "--out", "s", says=("another search",), code=1)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_tensorboard(latkit: RunLatkit) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = latkit(*SEARCH, "--out", "s", "--tensorboard")
    assert done.returncode == 0, done.stderr
    events = EventAccumulator("s/tensorboard").Reload()
    rows = pq.read_table("s/history.parquet").to_pylist()
    for name in ("val_loss", "skip_share_normal", "penalty_weight"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2]
        assert [scalar.value for scalar in scalars] == pytest.approx([row[name] for row in rows])


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--method", "enas"), ("method=enas is unknown", "darts")),
            (("--order", 3), ("order=3 is unknown",)),
            (("--estimator", "guess"), ("estimator=guess is unknown", "straight-through")),
            (("--weight-lr", 0), ("weight_lr=0.0 is not a learning rate",)),
            (("--arch-lr", "nan"), ("arch_lr=nan is not a learning rate",)),
            (("--max-skips", 2, "--stop-on-collapse"), ("leave out --stop-on-collapse",)),
            (("--precision", "fp8"), ("precision=fp8 is unknown", "bf16")),
            (("--warmup-epochs", 2), ("a warm-up of 2 of 2 epochs",)),
            (("--lambda", 0.1, "--sweep-lambda", "0,1"), ("exclude each other",)),
            (("--lambda", 0.1, "--target-ms", 9), ("exclude each other",)),
            (("--sweep-lambda", "0,x"), ("'0,x' is not a list of numbers",)),
            (("--sweep-lambda", "0,nan"), ("'0,nan' is not a list of numbers",)),
            (("--sweep-lambda", "0.1,0.1"), ("is there twice",)),
            (("--sweep-lambda", "0,-1"), ("lambda=-1.0",)),
            (("--jobs", 2), ("--jobs counts the searches of a sweep", "--sweep-lambda")),
            (("--data", "missing"), ("no data at 'missing'", "digits")),
            (("--batch", 64), ("a batch of 64 is larger", "use --batch 32")),
            (("--batch", 64, "--sweep-lambda", "0,1"), ("a batch of 64 is larger",)),
            (("--target-ms", 900), ("the target of 900 ms is outside", "choose one in between")),
            (("--cost", "macs", "--target-ms", 9), ("does not fit the cost macs",)),
            (("--cost", "macs"), ("the preset's lambda is per ms", "--lambda 0.005")),
            (("--sweep-target-ms", "20,900"), ("the target of 900 ms is outside",)),
            (("--sweep-target-ms", "20,nan"), ("'20,nan' is not a list of numbers",)),
            (("--lambda", "nan"), ("lambda=nan is not a coefficient",)),
            (("--target-ms", "nan"), ("target_ms=nan is not a latency",)),
            (("--lpm-noise", "nan"), ("nan is no standard deviation",)),
            (("--channels", 10**30), ("is too large",)),
            (("--cost", "worst-case"), ("is of several devices", "--also-device")),
            (("--also-device", "nope"), ("no LPM for device 'nope'",)),
            (("--method", "pc-darts", "--channels", 6), ("use a multiple of 4",)),
            (("--device", "nope"), ("no LPM for device 'nope' and space darts",)),
        ],
    )
    def test_arguments(
        self, latkit: RunLatkit, arguments: tuple[object, ...], says: tuple[str, ...]
    ) -> None:
        check(latkit, *SEARCH, "--out", "s", *arguments, says=says, code=2)
        assert not Path("s").exists()

    @pytest.mark.parametrize("more", [(), ("--sweep-lambda", "0,1"), ("--tensorboard",)])
    def test_a_folder_that_cannot_be_written(
        self, latkit: RunLatkit, more: tuple[str, ...]
    ) -> None:
        if more == ("--tensorboard",) and importlib.util.find_spec("tensorboard") is None:
            pytest.skip("tensorboard is not installed")
        Path("file").touch()
        check(latkit, *SEARCH, *more, "--out", "file/s", says=("file/s", "Fix:"), code=1)

    def test_three_images(self, latkit: RunLatkit) -> None:
        write_parquet(Path("d"), [0, 1, 2])
        says = ("larger than half of the 3 images", "use at least 4 images")
        check(latkit, *SEARCH, "--data", "d", says=says, code=2)
        write_parquet(Path("d"), [0, 1, 2, 0])
        done = latkit(*SEARCH, "--data", "d", "--batch", 2, "--epochs", 1)
        assert done.returncode == 0, done.stderr

    def test_a_history_that_is_missing(self, latkit: RunLatkit) -> None:
        assert latkit(*SEARCH, "--epochs", 1, "--out", "s").returncode == 0
        Path("s", HISTORY).unlink()
        check(
            latkit, *SEARCH, "--epochs", 1, "--out", "s",
            says=(f"s/{HISTORY} is missing, but 1 epochs are finished", "put it back"),
            code=1,
        )  # fmt: skip

    def test_data_of_one_class(self, latkit: RunLatkit) -> None:
        write_parquet(Path("d"), [3] * 8)
        check(latkit, *SEARCH, "--data", "d", says=("are of 1 class", "at least two"), code=2)

    def test_an_lpm_of_another_space(self, latkit: RunLatkit, registry_url: str) -> None:
        (Path(registry_url) / "darts").rename(Path(registry_url) / "nasbench201")
        check(
            latkit, *SEARCH,
            says=("no LPM for device 'formula' and space darts", "only of nasbench201", "Fix:"),
            code=2,
        )  # fmt: skip

    def test_an_lpm_in_the_folder_of_another_space(
        self, latkit: RunLatkit, registry_url: str
    ) -> None:
        (card,) = Path(registry_url).glob("darts/**/lpm.json")
        from latkit.lpm.store import card_text

        content = json.loads(card.read_text())
        content["target"]["space"] = "nasbench201"
        card.write_text(card_text(content))
        check(latkit, *SEARCH, says=("Fix:",), code=1)

    @pytest.mark.skipif(
        importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed"
    )
    def test_tensorboard_that_is_missing(self, latkit: RunLatkit) -> None:
        check(
            latkit, *SEARCH, "--tensorboard", "--out", "s",
            says=("TensorBoard is not installed", "latkit[tensorboard]"), code=2,
        )  # fmt: skip

    def test_a_corrupt_checkpoint(self, latkit: RunLatkit) -> None:
        assert latkit(*SEARCH, "--epochs", 1, "--out", "s").returncode == 0
        path = Path("s", CHECKPOINT)
        path.write_bytes(path.read_bytes()[:-50])
        check(
            latkit, *SEARCH, "--epochs", 1, "--out", "s",
            says=(f"checkpoint s/{CHECKPOINT} is corrupt", "delete it"), code=1,
        )  # fmt: skip


def test_every_value_of_a_configuration_can_be_asked_for(latkit: RunLatkit) -> None:
    """Options and configuration do not drift apart."""
    from latkit.cli.search import command

    options = {parameter.name for parameter in command.params}
    fields = set(SearchConfig.__dataclass_fields__) - {"optimizer", "start"}
    assert fields | {"start_from"} <= options


@pytest.mark.parametrize("module", ["latkit", "latkit.cli.main"])
def test_the_package_can_be_run(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("latkit, version ")
