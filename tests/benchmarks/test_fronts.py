"""The logic of the judge of fronts, on tables made by formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import front_judge, front_lpms, fronts
from benchmarks.front_costs import Found, Passes
from benchmarks.front_judge import CELLS, SPACE, TIES, Judge, Table, by_weights
from tests.benchmarks.front_tables import made_table, one_shot_search
from tests.support.places import SHARED

TABLE = made_table()
PASSES = Passes(100, 0, 6400)
JUDGES = {name: Judge(TABLE.accuracy, ms) for name, ms in TABLE.latency.items()}


def test_a_judge_by_hand() -> None:
    accuracy, latency = np.array([60.0, 70.0, 65.0, 5.0]), np.array([1.0, 3.0, 2.5, 0.1])
    judge = Judge(accuracy, latency)
    assert judge.kept.tolist() == [0, 1, 2]  # an error of 95 % is dropped
    assert sorted(judge.exact.tolist()) == [0, 1, 2]
    # At (0, 1), (1, 0) and (0.75, 0.5): a quarter times a half.
    assert judge.share(np.array([0, 1])) == 0
    assert judge.share(np.array([2])) == pytest.approx(1.0)
    assert judge.slowdown(1) == 1
    assert Judge(accuracy, np.array([2.0, 3.0, 1.0, 0.1])).slowdown(0) == 2
    nothing = judge.describe(np.array([3]))
    assert (nothing["share"], nothing["cells"], nothing["slowdown"]) == (0, 0, None)
    assert judge.describe(np.array([0, 1, 2]))["igd_plus"] == 0


def test_dropped_cells_are_no_part_of_the_axes() -> None:
    judge = JUDGES["one"]
    assert len(judge.kept) == SPACE.size - 500
    assert judge.latency[judge.exact].min() > 0.1


@pytest.mark.parametrize("ties", TIES)
def test_cells_of_most_weights(ties: str) -> None:
    judge = JUDGES["one"]
    cells = by_weights(judge, ties)
    assert len(cells) <= CELLS
    assert np.isin(cells, judge.kept).all()
    weights = front_judge.convolution_weights()
    assert weights[cells].max() == 6 * 9
    for cell in cells.tolist():
        faster = judge.kept[judge.latency[judge.kept] <= judge.latency[cell]]
        if ties != "slowest":
            assert weights[cell] == weights[faster].max()
    assert np.array_equal(cells, by_weights(judge, ties))


def test_a_run_at_tiny_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, name, value in (
        (fronts, "RANDOM_DRAWS", 5),
        (fronts, "LIMITS", 3),
        (fronts, "MEASURED_FOR_LIMITS", 20),
        (front_lpms, "SOURCE_MEASURED", 30),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(front_judge, "EQUAL_ACCURACY", 55.0)
    some = front_lpms.some(40, 3)
    one_shot_search(tmp_path, some, TABLE)
    searches = Found("sweep", {"searched": {n: j.exact for n, j in JUDGES.items()}}, 4, PASSES, 8.0)
    result = fronts.run(TABLE, [tmp_path], sizes=(40,), seeds=1, found=[searches])
    columns = result["columns"]
    shares = {name: column["mean"]["share"] for name, column in columns.items()}
    assert shares["exact front"] == pytest.approx(1.0)
    assert shares["searched"] == pytest.approx(1.0)
    assert result["costs"]["sweep"]["cpu_seconds_per_device"] == 4.0
    assert result["cpu_seconds"]["retargeting to a device: LPM and front"]["most"] > 0
    assert shares["true accuracies, true latencies"] > 0.99
    assert shares["random 24 cells"] < shares["true accuracies, LPMs from 10 cells"]
    assert "one-shot, LPMs from 10 cells and the other devices" in shares
    assert set(columns["exact front"]["devices"]) == set(TABLE.latency)
    assert result["device_blind_slowdown"]["mean"] >= 1
    for column in columns.values():
        assert column["least_share"] <= column["mean"]["share"] <= 1 + 1e-9
    for source in ("true accuracies", "oracle: accuracy LPM of 40 true accuracies", "one-shot"):
        limits = result["limits"][source]
        sure, unsure = limits["confidence 0.9"], limits["no confidence"]
        assert unsure["cases"] + unsure["refused"] == 6
        assert sure["mean_slack_percent"] > unsure["mean_slack_percent"]
        # With a confidence more limits are refused.
        sure_count, unsure_count = (of["exceeded_percent"] * of["cases"] for of in (sure, unsure))
        assert sure_count <= unsure_count


def test_searches_of_other_devices_are_refused() -> None:
    searches = Found("sweep", {"searched": {"one": np.array([600])}}, 1, PASSES, 1.0)
    with pytest.raises(SystemExit, match="all devices"):
        fronts.searched(JUDGES, [searches])


def test_the_tables_are_read() -> None:
    folder = SHARED / "data" / "nasbench201"
    if not (folder / "accuracy.parquet").exists():
        pytest.skip("the NAS-Bench-201 tables are not beside this checkout")
    table = Table.read(folder)
    assert len(table.latency) == 13
    index = SPACE.rank(SPACE.parse(
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
        "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    ))[0]  # fmt: skip
    assert table.accuracy[index] == pytest.approx(52.9133333)
    assert table.latency["pixel3"][index] == pytest.approx(3.60585)
