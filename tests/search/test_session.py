"""Whole searches: the effect of λ, targets, exact resumption."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from latkit.core.errors import InputError, Interrupted
from latkit.lpm.base import LPM
from latkit.search.bilevel import OptimizerConfig
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.data import ImageData, load_data
from latkit.search.objectives import MacsObjective, PredictedObjective, WeightedSum, evaluate
from latkit.search.session import HISTORY, SearchProgress
from latkit.spaces import SearchSpace
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.genotype import parse_genotype
from tests.search.micro import DARTS, MICRO, SPACE, Finished, run, run_darts
from tests.search.supernets import build_supernet
from tests.support.synthetic import MICRO as SETTING
from tests.support.synthetic import made_lpm


def test_history(darts_lpm: LPM, darts_finished: Finished) -> None:
    outcome = darts_finished.outcome
    rows = pq.read_table(str(darts_finished.folder / HISTORY)).to_pylist()
    assert rows == outcome.history
    assert [row["epoch"] for row in rows] == [1, 2]
    last = rows[-1]
    assert last["genotype"] == str(outcome.architecture)
    assert last["derived_predicted_ms"] == outcome.predicted_ms
    encoding = DARTS.encode(DARTS.from_genotype(outcome.architecture))
    assert outcome.predicted_ms == pytest.approx(float(darts_lpm.predict(encoding)[0]))
    assert 10 < last["expected_cost"] < 35
    assert 0 <= last["train_accuracy"] <= 1
    assert 0 < last["alpha_entropy_normal"] <= 2.0795
    assert last["penalty_weight"] == 0.02
    for cell in ("normal", "reduce"):
        operations = [name for name, _ in getattr(outcome.architecture, cell)]
        assert last[f"skip_share_{cell}"] == operations.count("skip_connect") / 8
        free = [name for name in operations if "conv" not in name]
        assert last[f"parameter_free_share_{cell}"] == len(free) / 8


def test_lambda_buys_latency(tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
    """Same seed, same data: a larger λ ends in a faster cell and a lower expectation."""
    outcomes = [
        run_darts(tmp_path / str(value), darts_lpm, data,
            dataclasses.replace(MICRO, lambda_per_ms=value))
        for value in (0.0, 1.0)
    ]  # fmt: skip
    assert outcomes[1].predicted_ms < outcomes[0].predicted_ms - 1
    assert outcomes[1].history[-1]["expected_cost"] < outcomes[0].history[-1]["expected_cost"]


def test_learns_to_classify(tmp_path: Path, lpm: LPM) -> None:
    config = dataclasses.replace(MICRO, channels=4, epochs=8, limit=512, batch=64)
    outcome = run(tmp_path / "s", lpm, load_data("digits", 512, 0), config)
    assert outcome.history[-1]["train_accuracy"] > 0.5
    assert outcome.history[-1]["val_loss"] < outcome.history[0]["val_loss"]


@pytest.mark.parametrize("at", [1, 3])
def test_resuming_is_bitwise(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished, at: int
) -> None:
    """Interrupted in the first or the second epoch, a search ends in the same bytes."""

    def interrupt(now: SearchProgress) -> None:
        if (now.epoch - 1) * now.steps_per_epoch + now.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", lpm, data, MICRO, on_step=interrupt)
    finished.check_same_end(tmp_path / "b", run(tmp_path / "b", lpm, data, MICRO))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_stopping_is_bitwise(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished, at: int
) -> None:
    """Asked to stop in the middle or at the end of an epoch, a search loses no step."""
    steps: list[SearchProgress] = []
    with pytest.raises(Interrupted, match=rf"epoch {1 + (at - 1) // 2}"):
        run(
            tmp_path / "b",
            lpm,
            data,
            MICRO,
            on_step=steps.append,
            stop=lambda: len(steps) >= at - 1,
        )
    assert len(steps) == at
    resumed = run(tmp_path / "b", lpm, data, MICRO, on_step=steps.append)
    # No step is done twice, and each sees what it saw in the undisturbed search.
    assert [(s.epoch, s.step) for s in steps] == [(e, s) for e in (1, 2) for s in (1, 2)]
    assert steps[at].done_before == at
    finished.check_same_end(tmp_path / "b", resumed)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "pc-darts", "channels": 4, "warmup_epochs": 1, "edge_sampling": "strength"},
        {"lambda_per_ms": None, "target_ms": 22.0},
        {"lpm_noise": 0.5, "estimator": "score-function"},
    ],
    ids=str,
)
def test_every_kind_of_search_resumes_to_the_bit(
    tmp_path: Path, darts_lpm: LPM, data: ImageData, changes: dict[str, Any]
) -> None:
    check_it_resumes(tmp_path, darts_lpm, data, changes, DARTS)


@pytest.mark.parametrize(
    "changes", [{"order": 2}, {"lambda_per_ms": None, "target_ms": 17.0, "order": 2}], ids=str
)
def test_second_order_resumes_to_the_bit(
    tmp_path: Path, lpm: LPM, data: ImageData, changes: dict[str, Any]
) -> None:
    check_it_resumes(tmp_path, lpm, data, changes, SPACE)


def check_it_resumes(
    tmp_path: Path, lpm: LPM, data: ImageData, changes: dict[str, Any], space: SearchSpace
) -> None:
    config = dataclasses.replace(MICRO, **changes)
    run(tmp_path / "a", lpm, data, config, space)
    steps: list[SearchProgress] = []
    with pytest.raises(Interrupted):
        run(
            tmp_path / "b", lpm, data, config, space,
            on_step=steps.append, stop=lambda: len(steps) >= 2,
        )  # fmt: skip
    assert len(steps) == 3
    resumed = run(tmp_path / "b", lpm, data, config, space)
    files = [(tmp_path / name / CHECKPOINT).read_bytes() for name in "ab"]
    assert files[0] == files[1]
    assert len(resumed.history) == 2


@pytest.mark.parametrize("target_ms", [16.0, 24.0, 30.0])
def test_a_target_is_met(tmp_path: Path, darts_lpm: LPM, data: ImageData, target_ms: float) -> None:
    config = dataclasses.replace(MICRO, lambda_per_ms=None, target_ms=target_ms, epochs=1)
    outcome = run_darts(tmp_path / "s", darts_lpm, data, config)
    assert outcome.predicted_ms == pytest.approx(target_ms, rel=0.05001)
    last = outcome.history[-1]
    assert outcome.on_target
    assert outcome.cost == pytest.approx(outcome.predicted_ms)
    if outcome.unconstrained_cost is None:
        assert str(outcome.architecture) == last["genotype"]
    else:
        assert outcome.unconstrained_cost == pytest.approx(last["derived_predicted_ms"])
        assert outcome.architecture.reduce == parse_genotype(last["genotype"]).reduce
    if target_ms != 24.0:  # about where the search would end by itself
        assert (last["penalty_weight"] > 0) == (target_ms < 24.0)


def test_a_target_out_of_reach(tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
    for target_ms in (2.0, 200.0):
        config = dataclasses.replace(MICRO, lambda_per_ms=None, target_ms=target_ms)
        with pytest.raises(InputError, match=r"outside what this space's .* cost, which is 1\d"):
            run_darts(tmp_path / "s", darts_lpm, data, config)
    assert not (tmp_path / "s").exists()


def test_the_target_is_of_the_mean_of_devices(
    tmp_path: Path, darts_lpm: LPM, data: ImageData
) -> None:
    """The outcome tells the mean, not what the first device takes."""
    slow = made_lpm(tmp_path / "slow", "slow", 2.0).lpm
    mean = WeightedSum([PredictedObjective(darts_lpm), PredictedObjective(slow)])
    config = dataclasses.replace(MICRO, lambda_per_ms=None, target_ms=30.0, cost="weighted-sum",
                                 also=("slow",), epochs=1)  # fmt: skip
    outcome = run_darts(tmp_path / "s", darts_lpm, data, config, objective=mean)
    row = DARTS.encode(DARTS.from_genotype(outcome.architecture))
    both = [float(each.predict(row)[0]) for each in (darts_lpm, slow)]
    assert outcome.predicted_ms == pytest.approx(both[0])
    assert outcome.cost == pytest.approx(sum(both) / 2)
    assert outcome.cost == pytest.approx(30.0, rel=0.05001)
    assert outcome.on_target
    assert both[1] > 1.5 * both[0]
    if outcome.unconstrained_cost is not None:
        strongest = DARTS.from_genotype(parse_genotype(outcome.history[-1]["genotype"]))
        assert outcome.unconstrained_cost == pytest.approx(evaluate(DARTS, mean, strongest)[0])


def test_a_target_of_multiply_adds(tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
    config = dataclasses.replace(MICRO, cost="macs", lambda_per_ms=None, target_ms=9.0)
    with pytest.raises(InputError, match="does not fit the cost macs_millions, which is in MMACs"):
        run_darts(tmp_path / "s", darts_lpm, data, config, objective=MacsObjective(DARTS, SETTING))
    assert not (tmp_path / "s").exists()


def test_multiply_adds_as_the_cost(tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
    """The control of Table 4: the exact expectation of a table, no sampling."""
    cost = MacsObjective(DARTS, SETTING)
    config = dataclasses.replace(MICRO, cost="macs", lambda_per_ms=0.0)
    free = run_darts(tmp_path / "a", darts_lpm, data, config, objective=cost)
    weighed = dataclasses.replace(config, lambda_per_ms=50.0)
    frugal = run_darts(tmp_path / "b", darts_lpm, data, weighed, objective=cost)
    macs = [architecture_cost(o.architecture, SETTING).macs / 1e6 for o in (free, frugal)]
    assert macs[1] < macs[0]
    assert frugal.history[-1]["expected_cost"] < free.history[-1]["expected_cost"] < 10


def test_asked_to_stop_after_the_last_step(tmp_path: Path, lpm: LPM, data: ImageData) -> None:
    steps: list[SearchProgress] = []
    with pytest.raises(Interrupted, match="everything up to epoch 2 is kept"):
        run(tmp_path / "s", lpm, data, MICRO, on_step=steps.append, stop=lambda: len(steps) == 3)
    assert len(run(tmp_path / "s", lpm, data, MICRO).history) == 2


def test_warm_up(tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
    """α keeps its first bits, the weights do not; then α moves."""
    config = dataclasses.replace(MICRO, warmup_epochs=1)
    earlier: list[dict[str, torch.Tensor]] = []
    steps: list[SearchProgress] = []

    def look(row: dict[str, object]) -> None:
        earlier.append(load_file(tmp_path / "s" / CHECKPOINT))

    history = run_darts(
        tmp_path / "s", darts_lpm, data, config, on_epoch=look, on_step=steps.append
    ).history
    torch.manual_seed(config.seed)
    initial = build_supernet("darts", DARTS, 2, 3, 10, 1).state_dict()
    for name in ("alpha_normal", "alpha_reduce"):
        assert torch.equal(earlier[0][f"supernet/{name}"], initial[name])
        assert not torch.equal(earlier[1][f"supernet/{name}"], initial[name])
    assert not torch.equal(earlier[0]["supernet/stem.weight"], initial["stem.weight"])
    assert [row["val_loss"] is None for row in history] == [True, False]
    assert [step.expected_cost is None for step in steps] == [True] * 2 + [False] * 2
    assert pq.read_table(str(tmp_path / "s" / HISTORY)).to_pylist() == history


def test_bf16_learns_as_well(
    tmp_path: Path, darts_lpm: LPM, data: ImageData, darts_finished: Finished
) -> None:
    """The precision of the supernet is not that of α, of the loss or of LAT(α)."""
    exact = darts_finished.outcome.history[0]
    config = dataclasses.replace(MICRO, precision="bf16", epochs=1)
    rough = run_darts(tmp_path / "s", darts_lpm, data, config).history[0]
    assert rough["train_loss"] != exact["train_loss"]
    assert rough["train_loss"] == pytest.approx(exact["train_loss"], abs=0.1)
    # The first step samples by the same α; later ones by almost the same.
    assert rough["expected_cost"] == pytest.approx(exact["expected_cost"], rel=0.1)


def test_stop_on_collapse(tmp_path: Path, darts_lpm: LPM, data: ImageData) -> None:
    """A latency term that drowns the loss collapses: skip connections are the fastest."""
    config = dataclasses.replace(
        MICRO, lambda_per_ms=1.0, epochs=3, seed=0, optimizer=OptimizerConfig(arch_lr=0.006)
    )
    collapsing = run_darts(tmp_path / "a", darts_lpm, data, config)
    good = [row["skip_share_normal"] * 8 <= 2 for row in collapsing.history]
    # Whatever rounding makes of this search, it begins well and ends badly.
    assert good[0]
    assert not good[-1]
    assert (collapsing.epoch, collapsing.collapsed) == (3, False)
    last_good = good.index(False)
    stopping = dataclasses.replace(config, stop_on_collapse=True)
    outcome = run_darts(tmp_path / "b", darts_lpm, data, stopping)
    assert (outcome.epoch, outcome.collapsed) == (last_good, True)
    assert len(outcome.history) == last_good + 1
    kept = collapsing.history[last_good - 1]
    assert str(outcome.architecture) == kept["genotype"]
    assert outcome.predicted_ms == kept["derived_predicted_ms"]
    # It is over: the same call only tells it again.
    assert run_darts(tmp_path / "b", darts_lpm, data, stopping) == outcome


def test_stop_on_collapse_before_the_target_is_met(
    tmp_path: Path, darts_lpm: LPM, data: ImageData
) -> None:
    """The last good epoch's cell is kept as it is, and whether it is on target is told."""
    for target_ms in (16.0, 17.0, 18.0):
        config = dataclasses.replace(
            MICRO, lambda_per_ms=None, target_ms=target_ms, epochs=5, stop_on_collapse=True,
            optimizer=OptimizerConfig(arch_lr=0.006),
        )  # fmt: skip
        outcome = run_darts(tmp_path / str(target_ms), darts_lpm, data, config)
        if not outcome.collapsed:
            continue
        kept = outcome.history[outcome.epoch - 1]
        assert str(outcome.architecture) == kept["genotype"]
        assert outcome.cost == pytest.approx(kept["derived_predicted_ms"])
        assert outcome.unconstrained_cost is None
        assert outcome.on_target == (abs(outcome.cost / target_ms - 1) <= 0.05)
        if not outcome.on_target:
            return
    pytest.fail("no search collapsed before it met its target")


def test_death_between_history_and_checkpoint(tmp_path: Path, lpm: LPM, data: ImageData) -> None:
    """The history may be an epoch ahead of the checkpoint; the epoch then comes once."""
    earlier: list[bytes] = []

    def keep(now: SearchProgress) -> None:
        if now.epoch == 2 and not earlier:
            earlier.append((tmp_path / "s" / CHECKPOINT).read_bytes())

    whole = run(tmp_path / "s", lpm, data, MICRO, on_step=keep)
    (tmp_path / "s" / CHECKPOINT).write_bytes(earlier[0])
    again = run(tmp_path / "s", lpm, data, MICRO)
    assert [row["epoch"] for row in again.history] == [1, 2]
    assert again.architecture == whole.architecture


def test_a_finished_search_only_reports(lpm: LPM, data: ImageData, finished: Finished) -> None:
    steps: list[SearchProgress] = []
    again = run(finished.folder, lpm, data, MICRO, on_step=steps.append)
    assert again == finished.outcome
    assert steps == []


def test_the_global_random_state_is_left_alone(tmp_path: Path, lpm: LPM, data: ImageData) -> None:
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    run(tmp_path / "s", lpm, data, dataclasses.replace(MICRO, epochs=1))
    assert torch.equal(torch.rand(2), expected)
