"""Training and publishing from Python: what is refused, reported and returned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latkit.core.errors import DatasetError, InputError
from latkit.dataset.writer import DatasetWriter
from latkit.registry import (
    Registry,
    TrainRequest,
    load_lpm,
    load_transfer_prior,
    train_and_publish,
)
from latkit.registry.listing import compare_lpms, list_lpms
from tests.support.commands import RunLatkit
from tests.support.listeners import Kept
from tests.support.synthetic import SPACE, made_dataset, made_lpm, made_manifest, made_row


def without_times(card: dict[str, Any]) -> dict[str, Any]:
    """A card as JSON without what differs between two trainings on the same data."""
    card["metrics"].pop("fit_seconds")
    for point in card["learning_curve"] or ():
        point.pop("fit_seconds")
    return {k: v for k, v in card.items() if k not in ("created_at", "reference", "location")}


def test_it_is_what_the_command_prints(latkit: RunLatkit) -> None:
    made_dataset(Path("datasets/d"), 60)
    done = latkit("train-lpm", "--kind", "op-count", "--learning-curve", "--json")
    assert done.returncode == 0, done.stderr
    recorder = Kept()
    request = TrainRequest(kind="op-count", learning_curve=True)  # the only dataset below
    result = train_and_publish(request, recorder)
    printed = json.loads(done.stdout)
    assert without_times(json.loads(json.dumps(result.to_dict()))) == without_times(printed)
    assert result.entry is not None
    assert result.entry.version == 2
    assert result.location in recorder.notes[-1]  # type: ignore[operator]
    assert [step.done for step in recorder.steps] == [1, 2, 3]
    assert recorder.ends == 1
    assert load_lpm("formula").reference == result.entry.reference


def test_progress_of_epochs(tmp_path: Path) -> None:
    made_dataset(tmp_path / "d", 30)
    recorder = Kept()
    request = TrainRequest(tmp_path / "d", "paper", options={"epochs": 3}, publish=False)
    result = train_and_publish(request, recorder)
    assert [(step.done, step.total) for step in recorder.steps] == [(1, 3), (2, 3), (3, 3)]
    assert result.card.training["epochs"] == 3
    assert result.entry is None
    assert "reference" not in result.to_dict()
    assert Registry().entries() == []


def test_a_kind_that_cannot_be_published_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        train_and_publish(TrainRequest(tmp_path / "nothing", "gradient-boosting"))


def test_which_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError):
        train_and_publish(TrainRequest())
    for name in ("a", "b"):
        made_dataset(Path("datasets", name), 20)
    with pytest.raises(DatasetError):
        train_and_publish(TrainRequest())


def test_an_unfit_dataset_is_trained_on_with_a_warning(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", made_manifest(30)) as writer:
        for k, arch_id in enumerate(SPACE.sample(30, 0).tolist()):
            for visit in range(2):  # which repeat to some 35 %
                latency = (5.0 + k) * (1 + 0.5 * visit * (k % 2))
                at = 1_700_000_000_000_000 + (visit * 30 + k) * 1_000_000
                writer.append(made_row(arch_id, latency, visit, measured_at=at))
    recorder = Kept()
    request = TrainRequest(tmp_path / "d", "macs-only", publish=False)
    train_and_publish(request, recorder)
    assert len(recorder.warnings) == 1


class TestTransferPrior:
    def test_source_devices_of_source_devices_count(self, tmp_path: Path) -> None:
        first = made_lpm(tmp_path / "a", "a")
        Registry().publish(first.lpm, first.card)
        made_dataset(tmp_path / "b", 60, "b", 2.0)
        second = train_and_publish(TrainRequest(tmp_path / "b", from_devices=("a",), n_train=5))
        assert second.lpm.source_devices() == {"a"}
        assert load_lpm("b").lpm.source_devices() == {"a"}
        with pytest.raises(InputError):  # b was trained with measurements of a
            load_transfer_prior(["b"], first.card.target)

    def test_of_one_kind(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "a", 60, "a")
        train_and_publish(TrainRequest(tmp_path / "a", "op-count"))
        target = made_dataset(tmp_path / "b", 60, "b").manifest.target
        with pytest.raises(InputError):
            load_transfer_prior(["a"], target)
        with pytest.raises(InputError):
            load_transfer_prior(["a"], target, kind="op-count")


def test_what_is_listed_and_compared(tmp_path: Path, latkit: RunLatkit) -> None:
    trained = made_lpm(tmp_path / "made")
    registry = Registry()
    entry = registry.publish(trained.lpm, trained.card)
    listed = list_lpms(registry)
    assert [(lpm.entry.device, lpm.entry.version) for lpm in listed] == [
        ("formula", 1),
        ("p100", 0),
    ]
    printed = json.loads(latkit("lpms", "list", "--json").stdout)
    assert printed["lpms"] == [lpm.to_dict() for lpm in listed]
    recorder = Kept()
    compared = compare_lpms(["p100", entry.reference], listener=recorder)
    printed = json.loads(latkit("lpms", "compare", "p100", entry.reference, "--json").stdout)
    assert printed == [lpm.to_dict() for lpm in compared]
    assert len(recorder.warnings) == 1
    # One that cannot be read is left out, and named.
    (tmp_path / "registry" / entry.folder / "lpm.json").write_text("{")
    assert [lpm.entry.device for lpm in list_lpms(registry, recorder)] == ["p100"]
    assert len(recorder.warnings) == 2
