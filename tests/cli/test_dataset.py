"""``latkit dataset``: what a user types, what they see, and what scripts get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latkit.dataset import LatencyDataset
from latkit.dataset.writer import DatasetWriter
from tests.support.commands import MICRO_TEXT, RunLatkit
from tests.support.synthetic import SPACE, made_dataset, made_manifest, made_row

ARCHS = [SPACE.format(SPACE.unrank(i)[0]) for i in SPACE.sample(30, 0).tolist()]
IMPORT = (
    "dataset", "import", "t.csv", "--arch-column", "cell", "--latency-column", "took",
    "--unit", "us", "--device", "p100", "--backend", "torch-cuda", "--setting", MICRO_TEXT,
)  # fmt: skip


def write_table(bad: int = 0) -> None:
    lines = [f"{arch},{1000 * (5 + i)}" for i, arch in enumerate(ARCHS)]
    lines[3 : 3 + bad] = [f"unknown{i},1" for i in range(bad)]
    Path("t.csv").write_text("cell,took\n" + "\n".join(lines) + "\n")


def test_list_and_show(latkit: RunLatkit) -> None:
    made_dataset(Path("datasets/x/a"), 12)
    made_dataset(Path("datasets/b"), 7, device="other")
    (Path("datasets/broken")).mkdir()
    Path("datasets/broken/dataset.json").write_text("{")
    done = latkit("dataset", "list", "--json")
    assert done.returncode == 0
    assert "broken/dataset.json is corrupt" in done.stderr
    found = json.loads(done.stdout)["datasets"]
    assert [(d["dataset"], d["target"]["device"], d["rows"]) for d in found] == [
        ("datasets/b", "other", 7), ("datasets/x/a", "formula", 12),
    ]  # fmt: skip
    assert "datasets/x/a" in latkit("dataset", "list").stdout
    shown = latkit("dataset", "show", "datasets/b")
    assert shown.returncode == 0
    for text in ("none: made by formula", "darts_v2", "protocol runs_per_visit"):
        assert text in shown.stdout
    content = json.loads(latkit("dataset", "show", "datasets/b", "--json").stdout)
    assert content["architectures"] == 7
    assert content["fingerprint"] == {"cpu": "none: made by formula"}


def test_check_tells_scripts_by_its_exit_code(latkit: RunLatkit) -> None:
    with DatasetWriter(Path("d"), made_manifest(20)) as writer:
        for visit in range(2):
            for k, arch_id in enumerate(SPACE.sample(20, 0).tolist()):
                latency = (5.0 + k) * (1.03 if visit and k % 2 else 1.0)
                at = 1_700_000_000_000_000 + (visit * 20 + k) * 1_000_000
                writer.append(made_row(arch_id, latency, visit, measured_at=at))
    done = latkit("dataset", "check", "d")
    assert (done.returncode, "verdict: good" in done.stdout) == (0, True)
    assert "retest sd of one measurement" in done.stdout
    assert "latkit train-lpm d" in done.stderr
    done = latkit("dataset", "check", "d", "--max-error", "1%")
    assert (done.returncode, "verdict: unfit" in done.stdout) == (3, True)
    assert "limit 1.0 %" in done.stderr
    assert "Traceback" not in done.stderr
    done = latkit("dataset", "check", "d", "--max-error", "1%", "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report["verdict"] == "unfit"
    assert report["anchor_history"][0]["anchor_median_ms"] == 10.0


def test_compare_and_merge(latkit: RunLatkit) -> None:
    made_dataset(Path("a"), 12)
    made_dataset(Path("b"), 20, scale=1.25)
    done = latkit("dataset", "compare", "a", "b")
    assert done.returncode == 0
    assert "1.2500" in done.stdout
    assert "nothing" in done.stdout
    report = json.loads(latkit("dataset", "compare", "a", "b", "--json").stdout)
    assert report["architectures"] == 12
    done = latkit("dataset", "merge", "a", "b", "--out", "m", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows"] == 32
    assert LatencyDataset.open("m").architectures == 20
    done = latkit("dataset", "merge", "a", "--out", "n")
    assert done.returncode == 2
    assert "name two or more" in done.stderr
    done = latkit("dataset", "merge", "a", "b", "--out", "m")
    assert done.returncode == 1
    assert "m exists and is not empty" in done.stderr


def test_import_train_and_export(latkit: RunLatkit) -> None:
    write_table()
    done = latkit(*IMPORT, "--out", "d", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["architectures"] == 30
    assert made["bad_rows"] == []
    assert made["latency_ms"] == {"min": 5.0, "mean": 19.5, "max": 34.0}
    # It is a dataset like any other.
    assert latkit("dataset", "check", "d").returncode == 0
    assert latkit("dataset", "show", "d").returncode == 0
    trained = latkit("train-lpm", "d", "--epochs", "3")
    assert trained.returncode == 0, trained.stderr
    assert latkit("dataset", "export", "d", "out.csv").returncode == 0
    lines = Path("out.csv").read_text().splitlines()
    assert lines[0] == '"arch_id","arch","latency_ms","visits","macs","params"'
    assert len(lines) == 31
    done = latkit("dataset", "export", "d", "out.csv")
    assert (done.returncode, "out.csv exists" in done.stderr) == (2, True)
    # But profile does not add to what it did not measure.
    done = latkit("profile", "--backend", "torch-cpu", "--setting", MICRO_TEXT, "--out", "d")
    assert done.returncode == 1
    assert "d was imported, and cannot be continued" in done.stderr


def test_import_refuses_bad_rows_unless_told(latkit: RunLatkit) -> None:
    write_table(bad=25)
    done = latkit(*IMPORT, "--out", "d")
    assert done.returncode == 1
    assert "line 5: unknown architecture 'unknown0'" in done.stderr
    assert "25-29" in done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith(
        "latkit: 25 of 30 rows of t.csv cannot be imported, the first is line 5"
    )
    assert "--skip-bad-rows" in error
    assert not Path("d").exists()
    done = latkit(*IMPORT, "--out", "d", "--skip-bad-rows", "--json")
    assert done.returncode == 0
    made = json.loads(done.stdout)
    assert [bad["number"] for bad in made["bad_rows"]] == list(range(5, 30))
    assert made["architectures"] == 5


def test_import_of_thousands_of_bad_rows_is_a_screen_of_text(latkit: RunLatkit) -> None:
    lines = [f"{'x' if i % 2 else '|'},{i}" for i in range(2000)]
    lines += [f"{ARCHS[0]},1" if i % 2 else "x,1" for i in range(2000)]
    Path("t.csv").write_text("cell,took\n" + "\n".join(lines) + "\n")
    done = latkit(*IMPORT, "--out", "d")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) < 30
    assert len(done.stderr) < 5000
    done = latkit(*IMPORT, "--out", "d", "--skip-bad-rows", "--json")
    assert len(json.loads(done.stdout)["bad_rows"]) == 3000


def test_import_of_several_files_and_repeated_measurements(latkit: RunLatkit) -> None:
    for number in range(2):
        rows = [f"{arch};{5 + i},{25 + number}" for i, arch in enumerate(ARCHS)]
        Path(f"s{number}.csv").write_text("sep=;\ncell;took\n" + "\n".join(rows))
    arguments = ["dataset", "import", "s0.csv", f"file://{Path.cwd()}/s1.csv", *IMPORT[3:]]
    done = latkit(*arguments, "--unit", "ms", "--decimal", ",", "--out", "d", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["architectures"], made["rows"], made["repeats"]) == (30, 60, 30)
    assert made["latency_ms"]["min"] == pytest.approx(5.255)
    assert 0 < made["retest_sd_percent"] < 0.2
    assert made["notes"] == []
    assert latkit("dataset", "check", "d").returncode == 0
    Path("s1.csv").write_text("cell;took\nunknown;5")
    done = latkit(*arguments, "--unit", "ms", "--decimal", ",", "--out", "e")
    assert done.returncode == 1
    assert "s1.csv, line 2" in done.stderr.splitlines()[-1]


def test_import_doubts_a_unit(latkit: RunLatkit) -> None:
    Path("t.csv").write_text("cell,took\n" + "".join(f"{arch},5\n" for arch in ARCHS))
    done = latkit(*IMPORT, "--unit", "ns", "--out", "d", "--json")
    assert done.returncode == 0
    (note,) = json.loads(done.stdout)["notes"]
    assert note in done.stderr
    assert note in latkit("dataset", "check", "d").stderr


def test_import_by_row_number_and_of_operation_numbers(latkit: RunLatkit) -> None:
    Path("t.csv").write_text("took,ops\n5,2 1 3 0 4 2\n6,0 0 0 0 0 1\n")
    arguments = ("dataset", "import", "t.csv", "--space", "nasbench201", "--latency-column",
                 "took", "--unit", "ms", "--device", "pi", "--backend", "litert")  # fmt: skip
    assert latkit(*arguments, "--arch-row-number", "--out", "a").returncode == 0
    assert LatencyDataset.open("a").table["arch_id"].to_pylist() == [0, 1]
    named = ("--arch-column", "ops")
    assert latkit(*arguments, *named, "--op-order", "naslib", "--out", "b").returncode == 0
    assert LatencyDataset.open("b").table["arch"][0].as_py().startswith("|nor_conv_3x3~0|+|none~0|")
    for wrong in ((), (*named, "--arch-row-number"), named, (*named, "--op-order", "conv")):
        done = latkit(*arguments, *wrong, "--out", "c")
        assert done.returncode != 0
        assert done.stderr.splitlines()[-1].startswith("latkit: ")
    assert not Path("c").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("dataset", "list", "nowhere"), "there is no folder nowhere"),
        (("dataset", "show", "nowhere"), "nowhere is not a dataset"),
        (("dataset", "check", "nowhere"), "nowhere is not a dataset"),
        (("dataset", "check", "d", "--max-error", "0"), "is not a percentage"),
        (("dataset", "compare", "d", "nowhere"), "nowhere is not a dataset"),
        (("dataset", "export", "d", "x.xls"), "the format of x.xls is unknown"),
        ((*IMPORT, "--out", "n"), "Cannot read t.csv"),
        ((*IMPORT, "--unit", "h", "--out", "n"), "'h' is not one of"),
        ((*IMPORT, "--space", "mobile", "--out", "n"), "unknown search space 'mobile'"),
        ((*IMPORT, "--device", "My GPU", "--out", "n"), "cannot be a device name"),
        ((*IMPORT, "--backend", "../x", "--out", "n"), "cannot be a backend name"),
        (("dataset", "merge", "d", "d", "--out", "."), "cannot be a new dataset's folder"),
        (("dataset", "export", "d", "d/dataset.json"), "the format of d/dataset.json is unknown"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(latkit: RunLatkit, arguments: tuple[str, ...], says: str) -> None:
    made_dataset(Path("d"), 5)
    done = latkit(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_profile_options_reach_the_dataset(latkit: RunLatkit) -> None:
    arguments = (
        "profile", "--backend", "torch-cpu", "--device", "this-cpu", "--setting", MICRO_TEXT,
        "--n", 4, "--out", "d", "--protocol", "fast", "--clock", "wall", "--visits", 2,
    )  # fmt: skip
    done = latkit(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["clock"] == "wall"
    assert summary["rows_panel"] == 4
    assert summary["rows"] >= 4 + 8
    dataset = LatencyDataset.open("d")
    assert dataset.manifest.protocol["runs_per_visit"] == 3
    assert {len(samples) for samples in dataset.table["samples_ms"].to_pylist()} == {3}
    done = latkit(*arguments, "--runs-per-visit", 5)
    assert "runs_per_visit: 5 / 3" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--clock", "event"), "no clock 'event'"),
        (("--clock", "cpu", "--threads", "2"), "--threads 1"),
        (("--target-error", "150%"), "is not a percentage"),
        (("--target-error", "x"), "is not a percentage"),
        (("--cores", "9999"), "may not use core 9999"),
        (("--cores", "3-1"), "is not a list of cores"),
        (("--threads", "2", "--cores", "0"), "2 threads do not fit on 1 core"),
        (("--protocol", "slow"), "'slow' is not one of"),
        (("--runs-per-visit", "1"), "--runs-per-visit"),
    ],
)
def test_profile_options_that_cannot_be(
    latkit: RunLatkit, options: tuple[str, ...], says: str
) -> None:
    done = latkit(
        "profile", "--backend", "torch-cpu", "--setting", MICRO_TEXT, "--n", 3, "--out", "d",
        *options,
    )  # fmt: skip
    assert done.returncode != 0
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not Path("d").exists()
