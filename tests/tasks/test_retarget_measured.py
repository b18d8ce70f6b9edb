"""Candidates that are measured on this machine, kept, and what becomes of the LPM."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest

import latkit
from latkit.backends.base import fingerprint
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.dataset import LatencyDataset
from latkit.dataset.writer import DatasetWriter
from latkit.lpm.measuring import NotHereError
from latkit.lpm.recipe import Recipe
from latkit.lpm.training import train_lpm
from latkit.profiling import protocol
from latkit.profiling.anchor import anchor_name
from latkit.profiling.protocol import Protocol
from latkit.registry import Registry
from latkit.search.retarget import explore
from latkit.tasks import retarget_measuring
from tests.support.accuracy import write_run
from tests.support.commands import RunLatkit, check
from tests.support.processes import start_latkit, wait_for
from tests.support.synthetic import MICRO, SPACE, both_dataset, made_manifest, made_row

PROTOCOL = Protocol(runs=2, warmup_runs=0)
OPTIONS = ("--device", "here", "--max-ms", 30)


@pytest.fixture(autouse=True)
def run(tmp_path: Path, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search's folder, and LPMs of a formula: of "here", this machine, and "there", another."""
    monkeypatch.setattr(explore, "EVALUATIONS", 1500)
    monkeypatch.setattr(retarget_measuring, "MEASUREMENTS", 1)
    monkeypatch.chdir(tmp_path)
    # Nothing is flagged, however busy the machine is.
    for name in ("PREEMPTED_WALL_OVER_CPU", "ANCHOR_JUMP", "SPREAD"):
        monkeypatch.setattr(protocol, name, float("inf"))
    dataset = both_dataset(tmp_path / "d", 60)
    latency, energy = (
        train_lpm(dataset, Recipe("op-count", quantity=q)) for q in ("latency_ms", "energy_mj")
    )
    # So that networks of the setting take about what the formula gives.
    facts = {"anchor": anchor_name(MICRO), "anchor_median_ms": 25.0}
    facts = {**latency.card.dataset, "protocol": PROTOCOL.to_dict(), **facts}
    machines = {"here": dict(fingerprint(TorchCpuBackend())), "there": {"cpu": "another"}}
    for device, machine in machines.items():
        target = dataclasses.replace(latency.card.target, device=device)
        card = dataclasses.replace(latency.card, target=target, fingerprint=machine, dataset=facts)
        Registry(registry_url).publish(latency.lpm, card)
    return write_run(tmp_path / "run", energy)


def measured_rows(out: Path) -> list[dict[str, object]]:
    table = LatencyDataset.open(out / "measured" / "here" / "torch-cpu").table
    return table.select(["arch", "visit", "ratio_to_anchor"]).to_pylist()


def test_what_is_measured_corrects_the_lpm(run: Path) -> None:
    result = latkit.retarget(run, device="here", front=4, measure=3, out="out")
    rows = measured_rows(result.out)
    known = {p.arch: p.costs[0] for p in (*result.points, *result.others)}
    measured = {arch: cost for arch, cost in known.items() if cost.measured is not None}
    assert set(measured) == {row["arch"] for row in rows}
    assert len(measured) == result.devices[0].measured == 3
    for row in rows:
        cost = measured[str(row["arch"])]
        # At the speed at which the anchor takes 25 ms.
        assert cost.measured == pytest.approx(25 * float(str(row["ratio_to_anchor"])))
        assert cost.measured != pytest.approx(cost.predicted, rel=0.001)
        assert cost.corrected == pytest.approx(cost.measured, rel=0.05)
    # The front is that of the corrected LPM.
    values = [point.costs[0].value for point in result.points]
    assert values == sorted(values)
    content = json.loads((result.out / "result.json").read_text())
    assert [one["costs"][0]["measured_ms"] for one in content["others"]] == [
        point.costs[0].measured for point in result.others
    ]


@pytest.mark.parametrize(("anchor", "speed"), [(anchor_name(MICRO), 2.0), ("another", 1.0)])
def test_at_the_speed_of_the_lpms_dataset(tmp_path: Path, anchor: str, speed: float) -> None:
    """The anchor took 20 ms then and 10 now, so that everything took twice as long."""
    lpm = latkit.load_lpm("here")
    how = Protocol().to_dict()
    facts = {"protocol": how, "anchor": anchor, "anchor_median_ms": 20.0}
    card = dataclasses.replace(lpm.card, dataset={**lpm.card.dataset, **facts})
    lpm = dataclasses.replace(lpm, card=card)
    with TorchCpuBackend() as backend:
        manifest = made_manifest(
            2, target=lpm.target, fingerprint=dict(fingerprint(backend)), protocol=how,
            anchor=anchor_name(MICRO), metrics=backend.metrics,
        )  # fmt: skip
    folder = tmp_path / "out" / "measured" / "here" / "torch-cpu"
    with DatasetWriter(folder, manifest) as writer:
        for visit in range(2):
            flags = ["disturbed", "spread"]
            writer.append(made_row(7, 15.0, visit))
            writer.append(made_row(8, 99.0, visit, flags=flags))
        writer.append(made_row(7, 99.0, 2, flags=flags))
    device = retarget_measuring.MeasuredDevice(lpm, tmp_path / "out", 0)
    (text,) = device.measured
    assert SPACE.rank(SPACE.parse(text))[0] == 7
    assert device.measured[text].latency_ms == pytest.approx(15 * speed)
    # What was disturbed each time is not measured again, and corrects nothing.
    assert len(device.done) == 2
    value = device.corrected().predict(7)[0].value
    assert value == pytest.approx(15 * speed, rel=0.01)


def test_the_same_request_measures_nothing_twice_and_a_larger_one_adds(run: Path) -> None:
    request = latkit.RetargetRequest(run, ("here",), front=8, measure=2, out=Path("out"))
    first = latkit.retarget(request)
    before = measured_rows(first.out)
    assert latkit.retarget(request) == first
    assert measured_rows(first.out) == before
    more = latkit.retarget(request, measure=3)
    after = measured_rows(more.out)
    assert after[: len(before)] == before
    assert {row["arch"] for row in after} > {row["arch"] for row in before}
    changes: list[dict[str, Any]] = [{"max_ms": (40.0,)}, {"seed": 1}]
    for change in changes:
        with pytest.raises(latkit.LatkitError) as info:
            latkit.retarget(request, **change)
        assert info.value.code == "search"


def test_a_device_that_is_not_here(run: Path, latkit: RunLatkit) -> None:
    check(
        latkit, "retarget", run, "--device", "there", "--measure", 2,
        says=("other hardware", "--measure"), code=1,
    )  # fmt: skip
    done = latkit("retarget", run, "--device", "there", "--device", "here", "--measure", 1,
                  "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "predicted only" in done.stderr
    there, here = json.loads(done.stdout)["devices"]
    assert (there["measured"], here["measured"], here["why_not"]) == (0, 1, None)
    assert "other hardware" in there["why_not"]


def test_what_is_not_here_is_an_error_of_its_own(run: Path) -> None:
    with pytest.raises(NotHereError):
        latkit.retarget(run, device="there", measure=1)


def test_kill_9_loses_no_measurement(
    run: Path, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it measures; the same command goes on and measures nothing twice."""
    arguments = ("retarget", run, *OPTIONS, "--measure", 40, "--out", "out")
    process = start_latkit(*arguments, cwd=run.parent)
    folder = run.parent / "out" / "measured" / "here" / "torch-cpu"
    # Two rows and a part of the third.
    wait_for(process, folder / "journal.jsonl", size=1500)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = measured_rows(run.parent / "out")
    assert len(before) >= 2
    monkeypatch.setattr(retarget_measuring, "MEASUREMENTS", 5)
    count = len({row["arch"] for row in before}) + 1
    done = latkit("retarget", run, *OPTIONS, "--measure", count, "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    after = measured_rows(run.parent / "out")
    assert after[: len(before)] == before
    visits = [(row["arch"], row["visit"]) for row in after]
    assert len(set(visits)) == len(visits)
    content = json.loads(done.stdout)
    assert SPACE.parse(content["arch"]) is not None
