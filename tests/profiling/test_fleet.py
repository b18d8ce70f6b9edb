"""Fleets: who measures what when workers come, go and lie; one run by Ray itself."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import pytest

from latkit.core.errors import BackendError, DatasetError
from latkit.core.events import Listener
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.flags import DISTURBED
from latkit.profiling.fleet import address, dispatch
from latkit.profiling.fleet.dispatch import MOST_LOST
from latkit.profiling.fleet.driver import Fleet, FleetPlan
from latkit.profiling.fleet.merging import QUARANTINE
from latkit.profiling.fleet.pool import Failed, Finished, Hired, Lost
from latkit.profiling.protocol import Measurement, Protocol
from latkit.spaces import Setting
from tests.support.commands import MICRO_TEXT, RunLatkit, check, refused
from tests.support.fleets import kill_worker_and_driver, needs_ray
from tests.support.synthetic import formula_ms

ANCHOR_MS = 4.0


class Stop(Exception):
    """The driver dies."""


class Told(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class MadePool:
    """Workers that measure by formula, in turn.

    Args:
        facts: of each worker that is hired, in order; a worker beyond them does not start.
        events: what happens instead of the measurement of this number.
    """

    def __init__(
        self,
        facts: list[dict[str, object]],
        events: dict[int, Callable[[str], object]] | None = None,
    ) -> None:
        self.facts, self.events = deque(facts), events or {}
        self.queue: deque[tuple[str | None, int]] = deque()
        self.slower: dict[str, tuple[float, float]] = {}
        self.measured: list[tuple[str, int]] = []
        self.dismissed: list[str] = []

    def hire(self) -> None:
        self.queue.append((None, 0))

    def give(self, worker: str, arch_id: int) -> None:
        assert worker not in [name for name, _ in self.queue]
        self.queue.append((worker, arch_id))

    def dismiss(self, worker: str) -> None:
        self.dismissed.append(worker)

    def next(self) -> object:
        worker, arch_id = self.queue.popleft()
        if worker is None:
            if not self.facts:
                return Lost(None, "no room")
            facts = self.facts.popleft()
            name = str(facts.pop("worker"))
            self.slower[name] = facts.pop("ratio", 1.0), facts.pop("anchor", 1.0)  # type: ignore[assignment]
            return Hired(name, "hardware", {"cpu": "made", "affinity": name, **facts}, ())  # type: ignore[dict-item]
        self.measured.append((worker, arch_id))
        if (event := self.events.get(len(self.measured))) is not None:
            return event(worker)
        ratio, level = self.slower[worker]
        ms = float(formula_ms([arch_id])[0]) * ratio * level
        flags = (DISTURBED, "spread") if len(self.measured) % 17 == 0 else ()
        anchor = (ANCHOR_MS * level,) * 2
        return Finished(worker, Measurement("wall", (ms, ms), anchor, (ms, ms), flags=flags))


def fleet(
    out: Path, micro: Setting, pool: MadePool, size: int = 2, n: int = 60
) -> tuple[tuple[str, ...], Told]:
    plan = FleetPlan(Target("darts", "made", "torch-cpu", micro), Protocol(), n, 3, out)
    told = Told()
    return Fleet(plan, pool, size, told).run(), told


TWO = [{"worker": "a"}, {"worker": "b"}]


def two() -> list[dict[str, object]]:
    return [dict(facts) for facts in TWO]


def whole(out: Path, n: int = 60) -> LatencyDataset:
    """Check that a dataset has the whole list, nothing twice, and what the formula gives."""
    dataset = LatencyDataset.open(out)
    usable = dataset.usable()
    ids = usable["arch_id"].to_pylist()
    assert len(set(ids)) == n
    rows = zip(*(dataset.table[name].to_pylist() for name in ("arch_id", "visit")), strict=True)
    assert len(set(rows)) == dataset.table.num_rows
    assert usable["latency_ms"].to_numpy() == pytest.approx(formula_ms(ids), rel=1e-3)
    return dataset


def test_both_measure_and_each_has_a_panel(tmp_path: Path, micro: Setting) -> None:
    pool = MadePool(two())
    warnings, told = fleet(tmp_path / "d", micro, pool)
    dataset = whole(tmp_path / "d")
    counts = Counter(worker for worker, _ in pool.measured)
    assert min(counts.values()) > 30
    assert dataset.table.num_rows == len(pool.measured)
    assert (dataset.in_panel.sum(), warnings, told.warnings) == (8, (), [])
    assert "affinity" not in dataset.manifest.fingerprint
    again = MadePool(two())
    fleet(tmp_path / "d", micro, again)
    assert again.measured == []
    fleet(tmp_path / "d", micro, MadePool(two()), n=80)
    whole(tmp_path / "d", 80)


def test_what_a_lost_worker_was_measuring_is_measured_by_others(
    tmp_path: Path, micro: Setting
) -> None:
    facts = [*two(), {"worker": "b"}]
    pool = MadePool(facts, {20: lambda worker: Lost(worker, "killed")})
    _, told = fleet(tmp_path / "d", micro, pool)
    dataset = whole(tmp_path / "d")
    assert dataset.table.num_rows == len(pool.measured) - 1
    (lost,) = told.warnings
    assert "killed" in lost
    assert len(pool.facts) == 0


def test_the_same_request_goes_on_after_any_event(tmp_path: Path, micro: Setting) -> None:
    def die(worker: str) -> object:
        raise Stop

    rows = 0
    for run in range(5):
        pool = MadePool(two(), {15 + 2 * run: die})
        with pytest.raises(Stop):
            fleet(tmp_path / "d", micro, pool, n=150)
        rows += len(pool.measured) - 1
        assert not (tmp_path / "d").exists()
    pool = MadePool(two())
    fleet(tmp_path / "d", micro, pool, n=150)
    assert whole(tmp_path / "d", 150).table.num_rows == rows + len(pool.measured)


def test_no_worker_is_left(tmp_path: Path, micro: Setting) -> None:
    events = {5: lambda worker: Lost(worker, "x"), 9: lambda worker: Lost(worker, "y")}
    pool = MadePool(two(), events)
    with pytest.raises(BackendError):
        fleet(tmp_path / "d", micro, pool)
    assert len(pool.dismissed) == 0
    _, told = fleet(tmp_path / "d", micro, MadePool([{"worker": "a"}]))
    whole(tmp_path / "d")
    assert 1 <= len(told.warnings) <= MOST_LOST + 1


def test_a_worker_that_never_comes_is_not_waited_for(tmp_path: Path, micro: Setting) -> None:
    """In place of a lost one, on a host that is gone: of it nothing is heard any more."""

    class Gone(MadePool):
        def hire(self) -> None:
            if self.facts:
                super().hire()

    pool = Gone(two(), {20: lambda worker: Lost(worker, "the host is gone")})
    fleet(tmp_path / "d", micro, pool)
    whole(tmp_path / "d")


def test_a_long_run_outlasts_more_losses(
    tmp_path: Path, micro: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "FINISHED_FOR_ONE", 20)
    pool = MadePool(two())

    def lose(worker: str) -> Lost:
        pool.facts.append({"worker": worker})  # it comes back under its name
        return Lost(worker, "killed")

    losses = MOST_LOST + 4
    pool.events = {25 * (number + 1): lose for number in range(losses)}
    _, told = fleet(tmp_path / "d", micro, pool, n=200)
    whole(tmp_path / "d", 200)
    assert len(told.warnings) == losses
    assert len(pool.facts) == 0


def test_a_network_that_fails_ends_it(tmp_path: Path, micro: Setting) -> None:
    failure = BackendError("memory ran out", "use less")
    pool = MadePool(two(), {12: lambda worker: Failed(worker, failure)})
    with pytest.raises(BackendError, match="memory ran out"):
        fleet(tmp_path / "d", micro, pool)
    fleet(tmp_path / "d", micro, MadePool(two()))
    whole(tmp_path / "d")


def test_a_worker_whose_panel_disagrees_is_put_in_quarantine(
    tmp_path: Path, micro: Setting
) -> None:
    """Its ratios are 30 % off, and its anchor slower: its rows are not used, now and later."""
    facts: list[dict[str, object]] = [{"worker": "a"}, {"worker": "b", "ratio": 1.3, "anchor": 1.2}]
    pool = MadePool(facts)
    warnings, told = fleet(tmp_path / "d", micro, pool, n=200)
    whole(tmp_path / "d", 200)
    assert pool.dismissed == ["b"]
    assert [("b" in text, "quarantine" in text) for text in told.warnings] == [(True, True)]
    (left_out,) = warnings
    assert "worker b is left out" in left_out
    assert json.loads((tmp_path / "d.fleet" / "b" / QUARANTINE).read_text())["reason"]
    later = MadePool(two())
    fleet(tmp_path / "d", micro, later, n=220)
    assert {worker for worker, _ in later.measured} == {"a"}
    whole(tmp_path / "d", 220)


def test_a_slower_anchor_is_told_and_ratios_hold(tmp_path: Path, micro: Setting) -> None:
    facts: list[dict[str, object]] = [{"worker": "a"}, {"worker": "b", "anchor": 1.08}]
    warnings, _ = fleet(tmp_path / "d", micro, MadePool(facts), n=100)
    (slow,) = warnings
    assert "worker b was 8 % slower" in slow
    # Latencies are those of one machine, of a speed in between.
    usable = LatencyDataset.open(tmp_path / "d").usable()
    level = usable["latency_ms"].to_numpy() / formula_ms(usable["arch_id"].to_pylist())
    assert 1 <= level[0] <= 1.08
    assert level == pytest.approx(level[0])


def test_other_hardware_is_left_out(tmp_path: Path, micro: Setting) -> None:
    facts: list[dict[str, object]] = [{"worker": "a"}, {"worker": "b", "cpu": "another"}]
    pool = MadePool(facts)
    warnings, _ = fleet(tmp_path / "d", micro, pool)
    assert {worker for worker, _ in pool.measured} == {"a"}
    assert len(warnings) == 1
    whole(tmp_path / "d")


def test_what_no_fleet_made_is_not_replaced(tmp_path: Path, micro: Setting) -> None:
    out = tmp_path / "d"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(DatasetError):
        fleet(out, micro, MadePool(two()))
    assert (out / "mine.txt").read_text() == "x"


ARGUMENTS = (
    "profile", "--fleet", "auto", "--backend", "torch-cpu", "--device", "here", "--setting",
    MICRO_TEXT, "--protocol", "fast", "--out", "d",
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--cores", "0"), ("--cores",)),
        (("--choose", "active"), ("--choose",)),
        (("--energy",), ("--energy",)),
        (("--n", 0), ("--n",)),
    ],
)
def test_refused(latkit: RunLatkit, more: tuple[object, ...], says: tuple[str, ...]) -> None:
    check(latkit, *ARGUMENTS, *more, says=says)


@pytest.mark.parametrize(
    "place",
    ["", "nonsense", "127.0.0.1", "127.0.0.1:", "h:port", "h:0", "h:1/x", "u@h:1", "http://h:1",
     "ray://", "ray://h", "[::1:6379", "..:6379", f"{'h' * 70}:6379"],
)  # fmt: skip
def test_no_address(latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(address, "find_spec", lambda name: name)
    refused(latkit, *ARGUMENTS, "--fleet", place, code=2)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nothing_listens(
    latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Ray itself is never called: it would try for half a minute, and print each attempt."""
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails
    monkeypatch.setattr(address, "find_spec", lambda name: name)  # and yet it is installed
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        check(latkit, *ARGUMENTS, "--fleet", place, says=(place, "refused"), code=1)


def test_without_rays_client(latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "find_spec", lambda name: None if name == "grpc" else name)
    place = "ray://127.0.0.1:10001"
    check(latkit, *ARGUMENTS, "--fleet", place, says=("grpcio", "latkit[fleet]"), code=2)


def test_without_ray(latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "find_spec", lambda name: None)
    check(latkit, *ARGUMENTS, says=("Ray is not installed", "latkit[fleet]"))


@needs_ray
class TestRay:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        # Ray keeps a token there.
        monkeypatch.setenv("HOME", str(tmp_path))

    def test_a_killed_worker_and_a_killed_driver(self) -> None:
        """Then the same command: the list is whole, and nothing is in it twice."""
        command = [sys.executable, "-m", "latkit", *map(str, ARGUMENTS), "--n", "400"]
        told = kill_worker_and_driver(command, lambda: rows_of(Path("d.fleet")), 10)
        assert " is lost " in told
        rows = rows_of(Path("d.fleet"))
        command[-1] = "60"  # of 400, to end soon
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        dataset = LatencyDataset.open("d")
        assert dataset.table.num_rows >= rows
        moments = dataset.table.select(["arch_id", "measured_at"]).to_pylist()
        assert len({tuple(row.values()) for row in moments}) == len(moments)


def rows_of(folder: Path) -> int:
    """Rows that workers' datasets have not put into parts yet."""
    return sum(len(path.read_text().splitlines()) for path in folder.glob("*/journal.jsonl"))
