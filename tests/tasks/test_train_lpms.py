"""``latkit train-lpm`` of several datasets: here, by workers that come and go, and by Ray."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import DatasetError, InputError, LPMError
from latkit.profiling.fleet import address
from latkit.profiling.fleet.pool import Finished, Hired, Lost
from latkit.registry import Entry, Registry, TrainRequest, train_and_publish
from latkit.registry.training import LPMTraining
from latkit.tasks import train_fleet
from latkit.tasks.train_fleet import MOST_TRIES, TrainingJob
from latkit.tasks.train_lpms import train_lpms
from latkit.tasks.trainings import TrainedDataset
from tests.support.commands import RunLatkit, check, ok
from tests.support.fleets import kill_worker_and_driver, needs_ray
from tests.support.listeners import Kept
from tests.support.synthetic import made_dataset

COUNTS = TrainRequest(kind="op-count")


class Stop(Exception):
    """The driver dies."""


def weights(*datasets: str) -> list[str]:
    """Digests of all versions of the devices that are called as their datasets."""
    registry = Registry()
    return [registry.weights_digest(entry) for entry in versions(*datasets)]


def versions(*devices: str) -> list[Entry]:
    return [entry for entry in Registry().entries() if not devices or entry.device in devices]


def states(rows: tuple[TrainedDataset, ...]) -> list[tuple[str, bool, bool]]:
    """Of each dataset: its name, whether it is trained on now, and whether it has an LPM."""
    return [(row.dataset.name, row.is_new, row.entry is not None) for row in rows]


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the devices a, b and c, and one that has too few rows."""
    monkeypatch.chdir(tmp_path)
    for device, scale in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        made_dataset(Path(device), 60, device, scale)
    made_dataset(Path("few"), 10, "few")


class TestHere:
    def test_one_bad_dataset_among_others(self, latkit: RunLatkit) -> None:
        done = latkit("train-lpm", "a", "few", "nothing", "b", "--kind", "op-count", "--json")
        rows = json.loads(done.stdout)
        assert [row["dataset"] for row in rows] == ["a", "few", "nothing", "b"]
        assert [row["lpm"] is None for row in rows] == [False, True, True, False]
        assert [row["error"] and row["error"]["code"] for row in rows] == [
            None, "dataset", "dataset", None,
        ]  # fmt: skip
        assert done.returncode == DatasetError.exit_code
        assert len([line for line in done.stderr.splitlines() if "not trained on" in line]) == 2
        assert [entry.device for entry in versions()] == ["a", "b"]
        assert rows[3]["lpm"]["reference"] == versions("b")[0].reference

    def test_the_same_command_skips_what_is_published(self, latkit: RunLatkit) -> None:
        assert latkit("train-lpm", "a", "b", "--kind", "op-count").returncode == 0
        done = latkit("train-lpm", "b", "a", "c", "a", "--kind", "op-count")
        assert done.returncode == 0
        assert [f"already published as {versions(of)[0].reference}" in done.stderr
                for of in "abc"] == [True, True, False]  # fmt: skip
        assert [entry.version for entry in versions()] == [1, 1, 1]
        # One dataset is trained on whenever it is named, and prints what it always did.
        assert ok(latkit, "train-lpm", "a", "--kind", "op-count")["reference"][-2:] == "@2"
        assert len(set(weights("a"))) == 1

    @pytest.mark.parametrize(
        "changed",
        [
            TrainRequest(kind="lookup-table"),
            TrainRequest(kind="op-count", seed=1),
            TrainRequest(kind="op-count", n_train=40),
            TrainRequest(kind="paper", options={"epochs": 2}),
            TrainRequest(kind="paper", options={"epochs": 3}),
        ],
    )
    def test_what_is_trained_in_another_way_is_another_lpm(self, changed: TrainRequest) -> None:
        train_lpms("a", COUNTS)
        train_lpms("a", TrainRequest(kind="paper", options={"epochs": 2}))
        before = len(versions("a"))
        (row,) = train_lpms("a", changed)
        assert row.is_new == (changed.options.get("epochs") != 2)
        assert len(versions("a")) == before + row.is_new
        assert train_lpms("a", changed)[0].entry == row.entry

    def test_more_measurements_are_trained_on(self) -> None:
        train_lpms("a", COUNTS)
        made_dataset(Path("more"), 80, "a")
        assert states(train_lpms(["a", "more"], COUNTS)) == [
            ("a", False, True), ("more", True, True),
        ]  # fmt: skip
        assert [entry.version for entry in versions("a")] == [1, 2]

    def test_source_devices_are_part_of_the_way(self) -> None:
        train_lpms(["a", "b"])
        way = TrainRequest(from_devices=("a",), n_train=10)
        told = Kept()
        rows = train_lpms(["a", "b", "c"], way, listener=told)
        assert states(rows) == [("a", False, False), ("b", True, True), ("c", True, True)]
        assert isinstance(rows[0].error, InputError)  # a is no source device of itself
        assert not any(row.is_new for row in train_lpms(["b", "c"], way))
        train_and_publish(TrainRequest("a"))
        assert all(row.is_new for row in train_lpms(["b", "c"], way))

    def test_another_lpm_of_the_same_number_is_another_source(self) -> None:
        train_lpms(["a"])
        way = TrainRequest(from_devices=("a",), n_train=10)
        train_lpms(["b"], way)
        Registry().remove(versions("a")[0])
        made_dataset(Path("a2"), 70, "a", 5.0)
        train_lpms(["a2"])
        assert [entry.version for entry in versions("a")] == [1]
        assert train_lpms(["b"], way)[0].is_new

    def test_which_rows_count_is_part_of_the_way(self) -> None:
        train_lpms(["a"], COUNTS)
        (part,) = Path("a").glob("part-*.parquet")
        table = pq.ParquetFile(part).read()
        flags = [["disturbed"] if row < 5 else [] for row in range(table.num_rows)]
        place = table.schema.get_field_index("flags")
        pq.write_table(
            table.set_column(
                place,
                table.schema.field("flags"),
                pa.array(flags, table.schema.field("flags").type),
            ),
            part,
        )
        assert train_lpms(["a"], COUNTS)[0].is_new

    def test_a_quantity_that_was_not_measured(self, latkit: RunLatkit) -> None:
        done = latkit("train-lpm", "a", "b", "--cost", "energy_mj")
        assert done.returncode == DatasetError.exit_code
        assert "Traceback" not in done.stderr
        assert done.stderr.count("has no energy_mj") == 2

    def test_nothing_is_published_or_skipped_without_a_registry(self) -> None:
        way = TrainRequest(kind="gradient-boosting", publish=False)
        for _ in range(2):
            assert states(train_lpms(["a", "few"], way)) == [
                ("a", True, False), ("few", False, False),
            ]  # fmt: skip
        assert versions() == []

    def test_progress(self) -> None:
        train_lpms("b", COUNTS)
        told = Kept()
        train_lpms(["a", "b", "few", "c"], COUNTS, listener=told)
        steps = [(step.done, step.total, step.done_before) for step in told.steps]
        assert steps == [(0, 4, 0), (1, 4, 0), (2, 4, 1), (3, 4, 1), (4, 4, 1)]

    def test_refused(self, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError):
            train_lpms(["a"], TrainRequest("b"))
        with pytest.raises(InputError):  # before a dataset is looked at
            train_lpms(["nothing", "a"], TrainRequest(kind="nothing"))
        monkeypatch.setattr(address, "find_spec", lambda name: None)
        check(latkit, "train-lpm", "a", "--fleet", "auto", says=("latkit[fleet]",), code=2)
        assert versions() == []


class MadePool:
    """Workers that do the fleet's job in this process; the last one given something is first.

    Args:
        workers: that start, one after another; one beyond them does not.
        events: what happens instead of the answer of this number.
    """

    size = 3

    def __init__(self, workers: str, events: dict[int, Callable[[str], object]] | None = None):
        self.names, self.events = deque(workers), events or {}
        self.queue: deque[tuple[str | None, Any]] = deque()
        self.given: list[str] = []
        self.job = pickle.loads(pickle.dumps(TrainingJob())).start()

    def __call__(self, *_: object) -> MadePool:
        return self

    def __enter__(self) -> MadePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def hire(self) -> None:
        self.queue.appendleft((None, None))

    def give(self, worker: str, item: LPMTraining) -> None:
        assert worker not in [name for name, _ in self.queue]
        self.queue.append((worker, pickle.loads(pickle.dumps(item))))

    def dismiss(self, worker: str) -> None:
        raise AssertionError("every worker is wanted")

    def next(self) -> object:
        starting = self.queue[0][0] is None
        worker, item = self.queue.popleft() if starting else self.queue.pop()
        if worker is None:
            return Hired(self.names.popleft(), "", {}, ()) if self.names else Lost(None, "no room")
        self.given.append(item.dataset.path.name)
        event = self.events.get(len(self.given))
        return Finished(worker, self.job.do(item)) if event is None else event(worker)


def lose(worker: str) -> Lost:
    return Lost(worker, "killed")


def die(worker: str) -> object:
    raise Stop


class TestFleet:
    @pytest.fixture
    def fleet(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        def run(
            pool: MadePool, *folders: str, way: TrainRequest = COUNTS
        ) -> tuple[tuple[TrainedDataset, ...], Kept]:
            monkeypatch.setattr(train_fleet, "RayPool", pool)
            told = Kept()
            return train_lpms(folders, way, "auto", told), told

        monkeypatch.setattr(address, "find_spec", lambda name: name)
        return run

    def test_the_lpms_are_those_of_one_process(self, fleet: Callable[..., Any]) -> None:
        train_and_publish(TrainRequest("a"))
        way = TrainRequest(from_devices=("a",))
        rows, _ = fleet(MadePool("xy"), "b", "few", "c", way=way)
        assert states(rows) == [("b", True, True), ("few", False, False), ("c", True, True)]
        assert isinstance(rows[1].error, DatasetError)
        for dataset in "bc":
            train_and_publish(TrainRequest(dataset, from_devices=("a",)))
            assert len(weights(dataset)) == 2
            assert len(set(weights(dataset))) == 1
        again, _ = fleet(MadePool(""), "b", "c", way=way)  # nobody is needed for that
        assert states(again) == [("b", False, True), ("c", False, True)]

    def test_versions_have_the_order_of_the_datasets(self, fleet: Callable[..., Any]) -> None:
        made_dataset(Path("a2"), 70, "a")
        made_dataset(Path("a3"), 80, "a")
        made_dataset(Path("a-too"), 60, "a")  # is a
        pool = MadePool("xyz")
        rows, _ = fleet(pool, "a", "a2", "b", "a3", "a-too")
        assert pool.given.index("b") < pool.given.index("a2") < pool.given.index("a")
        places = [(row.entry.device, row.entry.version) for row in rows]
        assert places == [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("a", 1)]
        assert len(versions("a")) == 3

    def test_what_a_lost_worker_had_is_trained_by_others(self, fleet: Callable[..., Any]) -> None:
        pool = MadePool("xyz", {2: lose})
        rows, told = fleet(pool, "a", "b", "c")
        assert [row.is_new for row in rows] == [True] * 3
        assert len(pool.given) == 4
        assert len([line for line in told.warnings if "killed" in line]) == 1

    def test_what_its_workers_do_not_survive_is_given_up(self, fleet: Callable[..., Any]) -> None:
        class Deadly(MadePool):
            def next(self) -> object:
                event = super().next()
                if isinstance(event, Finished) and self.given[-1] == "b":
                    return lose(event.worker)
                return event

        pool = Deadly("xyzuvw")
        rows, _ = fleet(pool, "b", "a", "c")
        assert [row.is_new for row in rows] == [False, True, True]
        assert isinstance(rows[0].error, LPMError)
        assert pool.given.count("b") == MOST_TRIES
        assert pool.given[-1] == "b"  # after the others

    @pytest.mark.parametrize("workers", ["xy", "xyzu"])
    def test_nobody_is_waited_for_when_all_is_settled(
        self, fleet: Callable[..., Any], workers: str
    ) -> None:
        class Deadly(MadePool):
            size = 1

            def next(self) -> object:
                assert self.queue, "nothing will ever happen"
                event = super().next()
                is_deadly = isinstance(event, Finished) and self.given[-1] != "a"
                return lose(event.worker) if is_deadly and isinstance(event, Finished) else event

        deadly = ("b", "c")[: len(workers) // 2]
        rows, _ = fleet(Deadly(workers), "a", *deadly)
        assert [row.is_new for row in rows] == [True, *(False for _ in deadly)]

    def test_no_worker_is_left(self, fleet: Callable[..., Any]) -> None:
        pool = MadePool("x", {2: lose})
        with pytest.raises(LPMError):
            fleet(pool, "a", "b", "c")
        assert len(versions()) == 1

    def test_the_same_call_goes_on_where_a_driver_died(self, fleet: Callable[..., Any]) -> None:
        for run in range(2):
            with pytest.raises(Stop):
                fleet(MadePool("xy", {2: die}), "a", "b", "c")
            assert len(versions()) == run + 1
        rows, _ = fleet(MadePool("xy"), "a", "b", "c")
        assert [row.is_new for row in rows].count(True) == 1
        assert [entry.version for entry in versions()] == [1, 1, 1]


@needs_ray
class TestRay:
    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Ray keeps a token there.
        monkeypatch.setenv("HOME", str(tmp_path))

    def test_a_killed_worker_and_a_killed_driver(self) -> None:
        """Then the same command: every LPM is there once, and is that of a run without a fleet."""
        devices = [f"device-{number}" for number in range(7)]
        for number, device in enumerate(devices):
            made_dataset(Path(device), 60, device, 1 + number)
        slow = ("--kind", "paper", "--epochs", "400")
        command = [sys.executable, "-m", "latkit", "train-lpm", "--fleet", "auto", *slow]
        told = kill_worker_and_driver([*command, *devices], lambda: len(versions()), 1)
        assert " is lost " in told
        kept = versions()
        assert 2 <= len(kept) < len(devices)
        done = subprocess.run(
            [*command, *devices[:3], "few", *devices[3:], "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == DatasetError.exit_code, done.stderr
        rows = json.loads(done.stdout)
        assert [row["lpm"] is None for row in rows] == [False] * 3 + [True] + [False] * 4
        assert sum(row["is_new"] for row in rows) == len(devices) - len(kept)
        assert [(entry.device, entry.version) for entry in versions()] == [
            (device, 1) for device in devices
        ]
        way = TrainRequest(devices[-1], "paper", options={"epochs": 400})
        train_and_publish(way)
        assert len(set(weights(devices[-1]))) == 1
