"""What the documents add by an entry point each, searched with from the command line."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from latkit.registry import Registry
from latkit.search.estimators import ESTIMATORS
from latkit.search.image_source import IMAGE_SOURCES
from latkit.search.objectives import OBJECTIVES
from latkit.search.supernet import SUPERNETS
from latkit.spaces import get_space
from latkit.spaces.darts.genotype import parse_genotype
from tests.support.commands import RunLatkit, check
from tests.support.synthetic import made_lpm

DOCS = Path(__file__).parents[2] / "docs"
SEARCH = (
    "search", "--device", "formula", "--preset", "cpu", "--cells", 3, "--channels", 2,
    "--batch", 16, "--epochs", 1, "--limit", 64, "--out", "s",
)  # fmt: skip


@pytest.fixture(autouse=True)
def added(tmp_path: Path, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """LPMs of two devices, and every example of the documents by its entry point."""
    for device, scale in (("formula", 1.0), ("slow", 2.0)):
        made = made_lpm(tmp_path / device, device, scale)
        Registry(registry_url).publish(made.lpm, made.card)
    code, points = "", defaultdict[str, str](str)
    for document in ("search.md", "lat.md"):
        text = (DOCS / document).read_text(encoding="utf-8")
        code += "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
        for group, line in re.findall(r"```toml\n\[.*\"(.*)\"\]\n(.*)\n```", text):
            points[group] += f"{line.replace(chr(34), '')}\n"
    (tmp_path / "their_package.py").write_text(code, encoding="utf-8")
    distribution = tmp_path / "theirs-1.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    sections = [f"[{group}]\n{lines}" for group, lines in points.items()]
    (distribution / "entry_points.txt").write_text("".join(sections))
    monkeypatch.syspath_prepend(str(tmp_path))
    for plugins in (SUPERNETS, ESTIMATORS, OBJECTIVES, IMAGE_SOURCES):
        monkeypatch.setattr(plugins, "_points", None)
    names = [plugins.names()[-1] for plugins in (SUPERNETS, ESTIMATORS, OBJECTIVES, IMAGE_SOURCES)]
    assert names == ["half-channels", "mean-field", "mean-square", "stripes"]


def test_an_image_source(latkit: RunLatkit) -> None:
    done = latkit(*SEARCH, "--data", "stripes", "--limit", 48, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"] == "stripes"
    check(latkit, *SEARCH, "--data", "stripe", says=("digits, cifar10, stripes",), code=2)


def test_a_supernet_an_estimator_and_an_objective(latkit: RunLatkit) -> None:
    done = latkit(*SEARCH, "--method", "half-channels", "--estimator", "mean-field",
                  "--cost", "convolutions", "--lambda", 0.5, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "half-channels, order 1, lambda 0.5 per convolutions" in done.stderr
    result = json.loads(done.stdout)
    operations = [name for name, _ in parse_genotype(result["genotype"]).normal]
    weighed = result["searched_for"]
    assert (weighed["cost"], weighed["unit"]) == ("convolutions", "convolutions")
    assert weighed["found"] == sum("conv" in name for name in operations)
    assert weighed["darts_v2"] == 6
    # The mean cell of an α that prefers nothing yet has four convolutions of seven operations.
    (row,) = pq.read_table("s/history.parquet").to_pylist()
    assert row["expected_cost"] == pytest.approx(8 * 4 / 7, rel=0.05)


def test_a_cost_of_several_devices(latkit: RunLatkit) -> None:
    arguments = (*SEARCH, "--also-device", "slow", "--cost", "mean-square")
    done = latkit(*arguments)
    assert done.returncode == 0, done.stderr
    assert "order 1, lambda 0.02 per ms" in done.stderr
    assert "mean-square (latency_ms)" in done.stdout
    result = json.loads(Path("s/result.json").read_text())
    weighed = result["searched_for"]
    space = get_space("darts")
    encoding = space.encode(space.from_genotype(parse_genotype(result["genotype"])))
    first, second = (Registry().load(Registry().resolve(name, "darts"))[0].predict(encoding)[0]
                     for name in ("formula", "slow"))  # fmt: skip
    assert weighed["found"] == pytest.approx(((first**2 + second**2) / 2) ** 0.5, rel=1e-5)
    found = [device["found"] for device in weighed["devices"]]
    assert found == pytest.approx([first, second], rel=1e-5)
    assert [device["lpm"].split("/")[0] for device in weighed["devices"]] == ["formula", "slow"]
    # It is not of one device, which the error tells from the table.
    check(
        latkit, *SEARCH, "--cost", "mean-square",
        says=("mean-square is of several", "weighted-sum or worst-case or mean-square"), code=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "unit", "example"),
    [
        (("--cost", "macs"), "MMACs", "--lambda 0.005 (Table 4's η"),
        (("--cost", "worst-case", "--also-device", "slow"), "share of the target", "--lambda 3"),
        (("--cost", "convolutions"), "convolutions", "--lambda 0.5"),
    ],
)
def test_a_cost_in_another_unit_needs_a_lambda(
    latkit: RunLatkit, arguments: tuple[str, ...], unit: str, example: str
) -> None:
    says = ("the preset's lambda is per ms", f"is in {unit}", f"give --lambda per {unit}", example)
    check(latkit, *SEARCH, *arguments, says=says, code=2)
    assert not Path("s").exists()
    done = latkit(*SEARCH, *arguments, "--lambda", 0.5)
    assert done.returncode == 0, done.stderr
    assert f"lambda 0.5 per {unit}" in done.stderr
