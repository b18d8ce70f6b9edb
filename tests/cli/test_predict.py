"""``latkit predict`` and the LPMs' other commands, from a table of latencies on."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from latkit.dataset import LatencyDataset
from latkit.registry import Registry
from latkit.search.parts import reference_row
from latkit.spaces import get_preset, get_space, preset_names
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import MICRO_TEXT, RunLatkit
from tests.support.synthetic import made_dataset, made_lpm


def _write_table(path: Path, space_name: str, n: int) -> None:
    space = get_space(space_name)
    ids = space.sample(n, 0)
    matrix = space.unrank(ids)
    weights = np.random.default_rng(0).uniform(0.5, 2, space.encoding_size)
    latency = 5 + space.encode(matrix) @ weights
    lines = [f"{space.format(row)};{value:.6f}" for row, value in zip(matrix, latency, strict=True)]
    path.write_text("arch;ms\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("space", ["nasbench201", "fbnet"])
def test_from_a_table_to_a_prediction(latkit: RunLatkit, space: str) -> None:
    """The four commands of the docs."""
    _write_table(Path("t.csv"), space, 200)
    done = latkit(
        "dataset", "import", "t.csv", "--space", space, "--device", "dev", "--backend", "other",
        "--arch-column", "arch", "--latency-column", "ms", "--unit", "ms", "--out", "d",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = latkit("train-lpm", "d", "--n-train", 50, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert set(metrics) >= {
        "mape_percent", "mae_ms", "within_5_percent", "within_10_percent", "spearman",
        "kendall_tau", "coverage_50", "coverage_90", "n_train", "n_test", "fit_seconds",
    }  # fmt: skip
    assert (metrics["n_train"], metrics["n_test"]) == (50, 150)
    found = get_space(space)
    text = found.format(found.unrank(found.sample(1, 5))[0])
    done = latkit("predict", "--space", space, "--device", "dev", text, found.reference, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["predictions"]
    assert [row["arch"] for row in rows] == [text, found.format(reference_row(found))]
    assert min(row["latency_ms"] for row in rows) > 5
    assert min(row["std_ms"] for row in rows) > 0


class TestPredict:
    def test_every_way_to_name_an_architecture(self, latkit: RunLatkit) -> None:
        space = get_space("darts")
        row = space.from_genotype(ZOO["gdas"])
        text = space.format(row[0])
        Path("list.txt").write_text(f"{text}\n\n{ZOO['gdas']}\n")
        done = latkit(
            "predict", "--device", "p100", "--json", "gdas", int(space.rank(row)[0]), text,
            "list.txt",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["predictions"]
        assert len(rows) == 5
        assert len({r["latency_ms"] for r in rows}) == 1

    def test_what_people_have_on_disk(
        self, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        genotype = str(ZOO["gdas"])
        Path("genotypes (1).py").write_text(
            f"# theirs\nGDAS = {genotype}\nV1 = {ZOO['darts_v1']}\n", encoding="utf-8-sig"
        )
        Path("result.json").write_text(json.dumps({"genotype": genotype, "epochs": []}))
        log = f"11/24 03:12:01 PM genotype = {genotype}\n".encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(log)))
        given = ("genotypes (1).py:GDAS", "result.json", "-", f"  best = {genotype}", "gdas")
        done = latkit("predict", "--device", "p100", "--json", *given, "genotypes (1).py")
        assert done.returncode == 0, done.stderr
        *rows, again, other = json.loads(done.stdout)["predictions"]
        assert {r["arch"] for r in (*rows, again)} == {rows[-1]["arch"]}
        assert len(rows) == len(given)
        assert other["given"] == "genotypes (1).py:V1"
        assert other["latency_ms"] != again["latency_ms"] == rows[0]["latency_ms"]
        (last,) = (r for r in rows if r["given"] == "result.json")
        assert last["latency_ms"] == again["latency_ms"]

    def test_the_built_in_p100_warns(self, latkit: RunLatkit) -> None:
        done = latkit("predict", "--device", "p100", "darts_v2")
        assert done.returncode == 0, done.stderr
        assert "not measured by latkit" in done.stderr
        assert "latkit profile --device p100" in done.stderr.replace("\n", " ")

    def test_outside_what_was_measured_is_said(self, latkit: RunLatkit, tmp_path: Path) -> None:
        trained = made_lpm(tmp_path / "made")
        Registry().publish(trained.lpm, trained.card)
        dear = "+".join(f"|sep_conv_5x5~0|sep_conv_5x5~{node + 1}|" for node in range(4))
        done = latkit("predict", "--device", "formula", dear)
        assert done.returncode == 0, done.stderr
        assert "1 of 1 predictions are outside" in done.stderr.replace("\n", " ")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--device", "p100", "darts_v9"), "darts_v9"),
            (("--device", "p100"), "no architecture was named"),
            (("--device", "p100", "--setting", "tiny", "gdas"), "is of the setting imagenet"),
            (("--device", "nobody", "gdas"), "no LPM for device 'nobody'"),
            (("--device", "p100", "--space", "fbnet", "1"), "no LPM for device 'p100' and space"),
            (("--device", "../../etc/passwd", "gdas"), "is not an LPM reference"),
            (("--device", "p100", "99999999999999999999"), "outside the space"),
            (("--device", "p100", "binary.bin"), "is not text"),
            (("--device", "p100", "nasnet_a"), "5 nodes"),
        ],
    )
    def test_wrong_use_is_one_line(
        self, latkit: RunLatkit, arguments: tuple[str, ...], says: str
    ) -> None:
        Path("binary.bin").write_bytes(b"\xff\xfe\x00")
        done = latkit("predict", *arguments)
        assert done.returncode != 0
        assert done.stdout == ""
        assert says in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr


class TestTrain:
    def test_baselines_without_publishing(self, latkit: RunLatkit, tmp_path: Path) -> None:
        made_dataset(tmp_path / "made", 120)
        for kind in ("macs-only", "op-count", "lookup-table", "gradient-boosting"):
            done = latkit("train-lpm", tmp_path / "made", "--kind", kind, "--no-publish", "--json")
            assert done.returncode == 0, done.stderr
            result = json.loads(done.stdout)
            assert result["training"]["kind"] == kind
            assert "reference" not in result
        assert Registry().entries() == []
        done = latkit("train-lpm", tmp_path / "made", "--kind", "gradient-boosting")
        assert done.returncode == 2
        assert "--no-publish" in done.stderr

    def test_transfer_from_several_devices(self, latkit: RunLatkit, tmp_path: Path) -> None:
        for device in ("a", "b"):
            trained = made_lpm(tmp_path / device, device)
            Registry().publish(trained.lpm, trained.card)
        made_dataset(tmp_path / "new", 60, "new", 3.0)
        done = latkit(
            "train-lpm", tmp_path / "new", "--n-train", 5, "--choose", "active",
            "--from-device", "a", "--from-device", "b", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert len(result["training"]["from_devices"]) == 2
        assert result["metrics"]["mape_percent"] < 1
        done = latkit("predict", "--device", "new", "gdas", "--json")
        assert done.returncode == 0, done.stderr
        done = latkit("train-lpm", tmp_path / "a", "--from-device", "b", "--from-device", "a")
        assert done.returncode == 2
        assert "made from measurements of a itself" in done.stderr.replace("\n", " ")
        done = latkit(
            "train-lpm", tmp_path / "new", "--from-device", "a", "--from-device", "nobody"
        )
        assert done.returncode == 2
        assert "no LPM for device 'nobody'" in done.stderr

    def test_learning_curve(self, latkit: RunLatkit, tmp_path: Path) -> None:
        made_dataset(tmp_path / "made", 60)
        done = latkit("train-lpm", tmp_path / "made", "--learning-curve", "--no-publish", "--json")
        assert done.returncode == 0, done.stderr
        assert [p["n_train"] for p in json.loads(done.stdout)["learning_curve"]] == [10, 20, 48]

    def test_too_much_asked(self, latkit: RunLatkit, tmp_path: Path) -> None:
        made_dataset(tmp_path / "made", 30)
        done = latkit("train-lpm", tmp_path / "made", "--n-train", 30)
        assert done.returncode == 1
        assert "training needs 31" in done.stderr.replace("\n", " ")


class TestRegistryCommands:
    def test_list_show_compare_rm(self, latkit: RunLatkit, tmp_path: Path) -> None:
        listed = json.loads(latkit("lpms", "list", "--json").stdout)["lpms"]
        assert [row["reference"].split("/")[0] for row in listed] == ["p100"]
        trained = made_lpm(tmp_path / "made")
        Registry().publish(trained.lpm, trained.card)
        shown = latkit("lpms", "show", "p100")
        assert "not measured by latkit" in shown.stderr
        compared = json.loads(latkit("lpms", "compare", "p100", "formula", "--json").stdout)
        assert compared[0]["spearman_with_first"] == pytest.approx(1)
        assert 0.3 < compared[1]["spearman_with_first"] < 1
        done = latkit("lpms", "rm", "formula", "--yes")
        assert done.returncode == 2
        assert "names no version" in done.stderr
        assert latkit("lpms", "rm", "formula@1", "--yes").returncode == 0
        assert Registry().entries() == []
        done = latkit("lpms", "rm", "p100@0", "--yes")
        assert done.returncode == 2
        assert "is built in" in done.stderr


def test_presets_of_every_space() -> None:
    assert {get_preset(name).space for name in preset_names()} == {"darts", "nasbench201", "fbnet"}


def test_profile_what_says_most(latkit: RunLatkit, tmp_path: Path) -> None:
    trained = made_lpm(tmp_path / "source", "source")
    Registry().publish(trained.lpm, trained.card)
    measured = []
    for out, more in (("a", ()), ("b", ()), ("c", ("--transfer-from", "source"))):
        done = latkit(
            "profile", "--backend", "torch-cpu", "--device", "new", "--setting", MICRO_TEXT,
            "--protocol", "fast", "--n", 4, "--choose", "active", *more, "--out", out,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        dataset = LatencyDataset.open(out)
        measured.append(set(dataset.table["arch_id"].to_numpy()[~dataset.in_panel].tolist()))
    listed = set(get_space("darts").sample(4, 0).tolist())
    assert measured[0] == measured[1] != listed
    assert len(measured[2]) == 4
    done = latkit("profile", "--setting", MICRO_TEXT, "--transfer-from", "source", "--out", "d")
    assert done.returncode == 2
    assert "--choose active" in done.stderr
