"""``latkit search --method one-shot --fleet``: the same numbers by workers that come and go."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import InputError, Interrupted, SearchError
from latkit.core.events import Listener
from latkit.profiling.fleet import address
from latkit.profiling.fleet.dispatch import MOST_LOST
from latkit.profiling.fleet.pool import Failed, Finished, Hired, Lost
from latkit.search.distributed import ALONE, Processes
from latkit.search.oneshot.evaluation import EVALUATION
from latkit.search.oneshot.fleet import (
    SubnetDispatcher,
    SubnetItem,
    SubnetJob,
    SubnetNumbers,
    check_fleet,
)
from latkit.search.oneshot.initial import INITIAL, InitialNetwork
from latkit.search.oneshot.subnets import Finding, find_all
from latkit.spaces import get_space
from tests.search.oneshot.micro import CPU, config_of, digits, options, training
from tests.support.commands import RunLatkit, check
from tests.support.fleets import kill_worker_and_driver, needs_ray

SPACE = get_space("nasbench201")
COUNT = 40


def numbers_of(item: SubnetItem) -> SubnetNumbers:
    """What made workers find: a function of the sub-network."""
    file, row = item
    width = len((EVALUATION if file == EVALUATION.file else INITIAL).columns)
    return [float(np.dot(row, 7.0 ** np.arange(len(row)))) + column for column in range(width)]


class MadePool:
    """Workers that answer by formula, the last one that was given something first.

    Args:
        workers: that start, one after another; one beyond them does not.
        events: what happens instead of the answer of this number.
    """

    def __init__(self, workers: str, events: dict[int, Callable[[str], object]] | None = None):
        self.names, self.events = deque(workers), events or {}
        self.queue: deque[tuple[str | None, SubnetItem | None]] = deque()
        self.given: list[SubnetItem] = []

    def hire(self) -> None:
        self.queue.append((None, None))

    def give(self, worker: str, item: SubnetItem) -> None:
        assert worker not in [name for name, _ in self.queue]
        self.queue.append((worker, item))

    def dismiss(self, worker: str) -> None:
        raise AssertionError("every worker is wanted")

    def next(self) -> object:
        # Every third time out of order, so that there are gaps.
        worker, item = self.queue.pop() if len(self.given) % 3 == 1 else self.queue.popleft()
        if worker is None:
            return Hired(self.names.popleft(), "", {}, ()) if self.names else Lost(None, "no room")
        assert item is not None
        self.given.append(item)
        event = self.events.get(len(self.given))
        return Finished(worker, numbers_of(item)) if event is None else event(worker)


class Warnings(Listener):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def dispatcher(pool: MadePool, listener: Listener | None = None) -> SubnetDispatcher:
    return SubnetDispatcher(pool, 2, listener or Warnings())  # type: ignore[arg-type]


def find(
    folder: Path, fleet: SubnetDispatcher, finding: Finding = EVALUATION, count: int = COUNT,
    stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, object]]:  # fmt: skip
    folder.mkdir(exist_ok=True)
    return find_all(
        finding, fleet.find, SPACE, count, 0, folder, ALONE, lambda *_: None, stop,
    )  # fmt: skip


def expected(finding: Finding = EVALUATION, count: int = COUNT) -> list[list[float]]:
    matrix = SPACE.unrank(SPACE.sample(count, 0))
    return [numbers_of((finding.file, row)) for row in matrix]


def check_rows(rows: list[dict[str, object]], finding: Finding = EVALUATION) -> None:
    """Check that rows are those of the list, in its order, and what the formula gives."""
    assert [row["arch_id"] for row in rows] == SPACE.sample(len(rows), 0).tolist()
    found = [[row[name] for name in finding.columns] for row in rows]
    assert found == expected(finding, len(rows))


def test_workers_that_are_lost(tmp_path: Path) -> None:
    """Their sub-networks are handed out again; the same workers find what comes next."""
    warnings = Warnings()
    pool = MadePool("abc", {9: lambda worker: Lost(worker, "killed")})
    fleet = dispatcher(pool, warnings)
    check_rows(find(tmp_path / "s", fleet))
    assert len(pool.given) == COUNT + 1
    assert ["killed" in text for text in warnings.texts] == [True]
    check_rows(find(tmp_path / "s", fleet, INITIAL), INITIAL)
    assert not pool.names
    assert len(pool.given) == 2 * COUNT + 1
    check_rows(pq.read_table(tmp_path / "s" / EVALUATION.file).to_pylist())
    # Nothing is left to be found, or little of a longer list.
    later = MadePool("a")
    assert len(find(tmp_path / "s", dispatcher(later), count=COUNT - 5)) == COUNT - 5
    assert later.given == []
    check_rows(find(tmp_path / "s", dispatcher(later), count=COUNT + 1))
    assert len(later.given) == 1


def test_what_is_found_out_of_order_is_kept(tmp_path: Path) -> None:
    """Wherever it ends, the same call goes on; also a shorter one, which keeps the others."""
    done = 0
    for run in range(4):
        pool = MadePool("ab")
        answers = 5 + run

        def stop(pool: MadePool = pool, answers: int = answers) -> bool:
            return len(pool.given) == answers

        with pytest.raises(Interrupted):
            find(tmp_path / "s", dispatcher(pool), stop=stop)
        done += answers
        rows = pq.read_table(tmp_path / "s" / EVALUATION.file).to_pylist()
        assert len(rows) == done
    places = [SPACE.sample(COUNT, 0).tolist().index(row["arch_id"]) for row in rows]
    assert places == sorted(places)
    assert places != list(range(done))
    pool = MadePool("ab")
    check_rows(find(tmp_path / "s", dispatcher(pool), count=done))
    assert len(pool.given) == done - sum(place < done for place in places)
    pool = MadePool("ab")
    check_rows(find(tmp_path / "s", dispatcher(pool)))
    kept = done + sum(place >= done for place in places)
    assert len(pool.given) == COUNT - kept


def test_nobody_is_left(tmp_path: Path) -> None:
    events = {n: lambda worker: Lost(worker, "killed") for n in range(7, 40)}
    pool = MadePool("abcdefghijkl", events)
    with pytest.raises(SearchError):
        find(tmp_path / "s", dispatcher(pool))
    assert len(pool.given) <= 6 + MOST_LOST + 3
    check_rows(find(tmp_path / "s", dispatcher(MadePool("a"))))


def test_memory_that_runs_out_and_numbers_that_are_not_finite(tmp_path: Path) -> None:
    failure = SearchError("memory ran out", "use less")
    pool = MadePool("ab", {8: lambda worker: Failed(worker, failure)})
    with pytest.raises(SearchError, match="memory ran out"):
        find(tmp_path / "s", dispatcher(pool))
    pool = MadePool("ab", {8: lambda worker: Finished(worker, [float("nan"), 1.0])})
    with pytest.raises(SearchError, match="not finite"):
        find(tmp_path / "s", dispatcher(pool))
    check_rows(find(tmp_path / "s", dispatcher(MadePool("ab"))))


def test_a_job_finds_what_this_process_finds(tmp_path: Path, one_thread: None) -> None:
    """To the bit, after it was pickled; of weights that were trained, and of initial ones."""
    config = config_of(eval_images=26, eval_batch=12)
    made = training(tmp_path / "s", config)
    made.run(lambda _: None, lambda: False)
    weights = made.net.mixture.state_dict()
    job = SubnetJob("nasbench201", config, made.held_out(26), weights, "cpu", 1)
    ready = pickle.loads(pickle.dumps(job)).start()
    evaluator = made.evaluator(26)
    initial = InitialNetwork(SPACE, digits(), config.seed, CPU)
    for row in SPACE.unrank(SPACE.sample(3, 0)):
        assert ready.do((EVALUATION.file, row)) == evaluator(row).tolist()
        assert ready.do((INITIAL.file, row)) == initial(row).tolist()


COMMAND = ("search", "--method", "one-shot", "--space", "nasbench201", "--preset", "cpu")


def test_refused(latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
    check(latkit, "search", "--device", "p100", "--fleet", "auto", says=("--fleet",), code=2)
    with pytest.raises(InputError, match="torchrun"):
        check_fleet("auto", dataclasses.replace(Processes(), world=2))
    given = (*COMMAND, *options(), "--out", "s", "--fleet")
    monkeypatch.setattr(address, "find_spec", lambda name: name)
    check(latkit, *given, "nonsense", says=("nonsense",), code=2)
    monkeypatch.setattr(address, "find_spec", lambda name: None)
    check(latkit, *given, "auto", says=("Ray is not installed",), code=2)
    assert not Path("s").exists()


@needs_ray
class TestRay:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        # Ray keeps a token there.
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def test_a_killed_worker_and_a_killed_driver(self) -> None:
        """Then the same command: the numbers are those of one process without a fleet."""
        slow = options(epochs=1, limit=1700, batch=400, eval_batch=800, channels=16)
        command = [sys.executable, "-m", "latkit", *COMMAND, *slow, "--out", "s"]
        many = [*command, "--subnets", "5000", "--fleet", "auto"]
        told = kill_worker_and_driver(many, lambda: len(rows_of("s")), 1)
        assert " is lost " in told
        kept = rows_of("s")
        shutil.copytree("s", "alone")
        for name in (EVALUATION.file, INITIAL.file):
            Path("alone", name).unlink(missing_ok=True)
        count = str(max(20, len(kept) + 3))
        for folder, more in (("s", ("--fleet", "auto")), ("alone", ())):
            command[-1] = folder
            done = subprocess.run(
                [*command, "--subnets", count, *more], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        for name in (EVALUATION.file, INITIAL.file, "lpm/weights.safetensors"):
            assert Path("s", name).read_bytes() == Path("alone", name).read_bytes()
        assert rows_of("s")[: len(kept)] == kept


def rows_of(folder: str) -> list[dict[str, object]]:
    path = Path(folder, EVALUATION.file)
    return pq.read_table(path).to_pylist() if path.exists() else []
