"""Energy from a table to predictions on the command line: units, names, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from latkit.lpm.recipe import Recipe
from latkit.lpm.training import train_lpm
from latkit.registry import Registry
from latkit.spaces import get_space
from latkit.spaces.darts.genotype import parse_genotype
from tests.support.commands import RunLatkit, ok, refused
from tests.support.synthetic import MICRO, both_dataset, both_lpm

TABLE = ("--space", "nasbench201", "--device", "dev", "--backend", "other",
         "--arch-column", "arch", "--latency-column", "ms", "--unit", "ms")  # fmt: skip


def write_table(path: Path, n: int = 120) -> None:
    """Latencies, and energies in joules that follow other operations."""
    space = get_space("nasbench201")
    matrix = space.unrank(space.sample(n, 0))
    x = space.encode(matrix)
    drawn = [np.random.default_rng(seed).uniform(0.5, 2, x.shape[1]) for seed in (0, 1)]
    rows = zip(matrix, 5 + x @ drawn[0], 0.09 + x @ drawn[1] / 100, strict=True)
    lines = [f"{space.format(row)};{ms:.6f};{joule:.8f}" for row, ms, joule in rows]
    path.write_text("arch;ms;J\n" + "\n".join(lines) + "\n")


def test_from_a_table_to_a_predicted_energy(latkit: RunLatkit) -> None:
    write_table(Path("t.csv"))
    ok(latkit, "dataset", "import", "t.csv", *TABLE, "--energy-column", "J", "--energy-unit", "J",
       "--out", "d")  # fmt: skip
    trained = ok(
        latkit, "train-lpm", "d", "--cost", "energy_mj", "--kind", "op-count", "--learning-curve"
    )
    assert trained["cost"] == "energy_mj"
    assert trained["dataset"]["energy_range_mj"][0] > 90
    assert "mae_mj" in trained["metrics"]
    assert "mae_mj" in trained["learning_curve"][0]
    assert trained["reference"].endswith("+energy_mj@1")
    assert "none-fp32-channels_last+energy_mj/1" in trained["location"]
    told = ok(latkit, "predict", "--space", "nasbench201", "--device", "dev+energy_mj", "6111")
    assert told["cost"] == "energy_mj"
    (row,) = told["predictions"]
    assert set(row) == {"arch", "given", "energy_mj", "std_mj"}
    assert 90 < row["energy_mj"] < 250
    shown = latkit("predict", "--space", "nasbench201", "--device", "dev+energy_mj", "6111")
    assert "energy mJ" in shown.stdout
    assert "± mJ" in shown.stdout
    assert " ms" not in shown.stdout
    # There is no latency LPM of it: what there is is told.
    line = refused(latkit, "predict", "--space", "nasbench201", "--device", "dev", "6111")
    assert "no LPM of latency_ms for device 'dev'" in line
    assert "+energy_mj@1" in line


def test_tables_on_paper_have_the_unit(latkit: RunLatkit, tmp_path: Path) -> None:
    both_dataset(tmp_path / "d", 60)
    done = latkit("train-lpm", tmp_path / "d", "--cost", "energy_mj", "--kind", "op-count",
                  "--learning-curve")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "LPM formula+energy_mj@1 on 12 held-out" in done.stdout
    assert "absolute error (MAE), mJ" in done.stdout
    assert "MAE mJ" in done.stdout
    assert "ms" not in done.stdout.replace("networks", "")
    assert "latkit predict --space darts --device formula+energy_mj" in done.stderr
    assert latkit("train-lpm", tmp_path / "d", "--kind", "op-count").returncode == 0
    assert "(MAE), mJ" in latkit("lpms", "show", "formula+energy_mj").stdout
    assert "(MAE), ms" in latkit("lpms", "show", "formula").stdout
    listed = ok(latkit, "lpms", "list")["lpms"]
    costs = [row["cost"] for row in listed if row["reference"].startswith("formula")]
    assert costs == ["latency_ms", "energy_mj"]
    both = ok(latkit, "lpms", "compare", "formula", "formula+energy_mj")
    assert [o["cost"] for o in both] == ["latency_ms", "energy_mj"]
    assert 10 < both[0]["median_predicted_ms"] < 30
    assert 60 < both[1]["median_predicted_mj"] < 100
    assert "median_predicted_ms" not in both[1]
    table = latkit("lpms", "compare", "formula", "formula+energy_mj").stdout
    assert f"{both[1]['median_predicted_mj']:.2f} mJ" in table
    assert latkit("lpms", "rm", "formula+energy_mj@1", "--yes").returncode == 0
    assert [entry.cost for entry in Registry().entries()] == ["latency_ms"]


def test_source_devices_are_of_the_same_quantity(latkit: RunLatkit, tmp_path: Path) -> None:
    for cost in ("latency_ms", "energy_mj"):
        made = both_lpm(cost, "a")
        Registry().publish(made.lpm, made.card)
    both_dataset(tmp_path / "new", 60, "new")
    new = ("train-lpm", tmp_path / "new", "--n-train", 5)
    line = refused(latkit, *new, "--cost", "energy_mj", "--from-device", "a")
    assert "'a' names an LPM of latency_ms, and only energy_mj will do here" in line
    line = refused(latkit, *new, "--from-device", "a+energy_mj")
    assert "only latency_ms will do here" in line
    line = refused(latkit, "profile", "--setting", "tiny", "--device", "new", "--choose", "active",
                   "--backend", "torch-cpu", "--transfer-from", "a+energy_mj",
                   "--out", "d")  # fmt: skip
    assert "only latency_ms will do here" in line
    transferred = ok(latkit, *new, "--cost", "energy_mj", "--from-device", "a+energy_mj")
    (source,) = transferred["training"]["from_devices"]
    assert source == f"a/torch-cpu/{MICRO.slug}+energy_mj@1"
    alone = ok(latkit, *new, "--cost", "energy_mj", "--no-publish")
    assert transferred["metrics"]["mape_percent"] < alone["metrics"]["mape_percent"] / 2


def test_a_search_is_of_a_device_with_a_latency(latkit: RunLatkit, tmp_path: Path) -> None:
    made = train_lpm(both_dataset(tmp_path / "d", 60), Recipe("op-count", quantity="energy_mj"))
    Registry().publish(made.lpm, made.card)
    small = ("--preset", "cpu", "--data", "digits", "--out", "found")
    line = refused(latkit, "search", "--device", "formula+energy_mj", *small)
    assert "names an LPM of energy_mj, and only latency_ms will do here" in line
    line = refused(latkit, "search", "--device", "formula", *small)
    assert "no LPM of latency_ms for device 'formula'" in line
    line = refused(latkit, "search", "--device", "p100", "--also-device", "formula+energy_mj",
                   *small)  # fmt: skip
    assert "only latency_ms will do here" in line
    line = refused(latkit, "search", "--device", "p100", "--cost", "energy", *small)
    assert "no LPM of energy_mj for device 'p100'" in line
    assert not Path("found").exists()


def test_a_search_for_little_energy(latkit: RunLatkit, tmp_path: Path) -> None:
    for cost in ("latency_ms", "energy_mj"):
        made = both_lpm(cost)
        Registry().publish(made.lpm, made.card)
    small = ("search", "--device", "formula", "--data", "digits", "--preset", "cpu", "--cells", 3,
             "--channels", 2, "--batch", 16, "--epochs", 2, "--limit", 192)  # fmt: skip
    line = refused(latkit, *small, "--cost", "energy", "--out", "s")
    assert "the preset's lambda is per ms, but the cost energy is in mJ" in line
    line = refused(latkit, *small, "--cost", "energy", "--target-ms", 20, "--out", "s")
    assert "a target in ms does not fit the cost energy_mj, which is in mJ" in line
    assert not Path("s").exists()

    # Less energy, and not less latency, is what it is for.
    sweep = ok(latkit, *small, "--cost", "energy", "--sweep-lambda", "0,1", "--out", "w")
    without, with_it = sweep["searches"]
    assert with_it["cost"] < without["cost"]
    assert with_it["cost_unit"] == "mJ"

    # The command of the one search finds it finished.
    single = (*small, "--cost", "energy", "--lambda", 1, "--out", "w/lambda-1")
    done = latkit(*single)
    assert done.returncode == 0, done.stderr
    assert "lambda 1.0 per mJ" in done.stderr
    assert "energy (energy_mj)" in done.stdout
    result = json.loads(Path("w/lambda-1/result.json").read_text())
    assert result["searched_for"]["found"] == with_it["cost"]
    space = get_space("darts")
    encoding = space.encode(space.from_genotype(parse_genotype(result["genotype"])))
    registry = Registry()
    predicted = {
        name: registry.load(registry.resolve(name, "darts"))[0].predict(encoding)[0]
        for name in ("formula", "formula+energy_mj")
    }
    weighed = result["searched_for"]
    assert (weighed["name"], weighed["unit"]) == ("energy_mj", "mJ")
    assert weighed["found"] == pytest.approx(predicted["formula+energy_mj"], rel=1e-5)
    assert result["found"]["predicted_ms"] == pytest.approx(predicted["formula"], rel=1e-5)
    (device,) = weighed["devices"]
    assert device["lpm"] == f"formula/torch-cpu/{MICRO.slug}+energy_mj@1"
    told = {row["lpm"].partition("@")[0]: row for row in result["lpms"]}
    energy = told[f"formula/torch-cpu/{MICRO.slug}+energy_mj"]
    assert energy["unit"] == "mJ"
    assert energy["predicted_mj"] == pytest.approx(predicted["formula+energy_mj"], rel=1e-5)
    assert "predicted_ms" not in energy
    assert told[f"formula/torch-cpu/{MICRO.slug}"]["unit"] == "ms"

    # Another energy LPM makes it another search.
    dataset = both_dataset(tmp_path / "d", 60)
    made = train_lpm(dataset, Recipe("op-count", quantity="energy_mj"))
    registry.publish(made.lpm, made.card)
    assert "w/lambda-1 holds another search" in refused(latkit, *single)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--energy-column", "J"), "--energy-column needs --energy-unit"),
        (("--energy-unit", "J"), "--energy-unit needs --energy-column"),
        (("--memory-column", "J"), "--memory-column needs --memory-unit"),
        (("--energy-column", "W", "--energy-unit", "J"), "t.csv has no column 'W'"),
    ],
)
def test_units_are_not_guessed(latkit: RunLatkit, options: tuple[str, ...], says: str) -> None:
    write_table(Path("t.csv"), 5)
    assert says in refused(latkit, "dataset", "import", "t.csv", *TABLE, *options, "--out", "d")
    assert not Path("d").exists()


def test_what_a_dataset_lacks(latkit: RunLatkit, tmp_path: Path) -> None:
    write_table(Path("t.csv"), 30)
    ok(latkit, "dataset", "import", "t.csv", *TABLE, "--out", "d")
    line = refused(latkit, "train-lpm", "d", "--cost", "energy_mj")
    assert "d has no energy_mj (it has: latency_ms). Fix: " in line
