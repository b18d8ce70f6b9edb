"""FBNet by the commands: measured, predicted, exported, drawn, at a size for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from latkit.dataset import LatencyDataset
from latkit.spaces import get_space, parse_setting
from latkit.spaces.architecture import architecture_costs
from latkit.spaces.fbnet.zoo import ZOO
from tests.support.commands import RunLatkit, ok, refused

SPACE = get_space("fbnet")
MICRO = "fbnet-cpu,channels=4,resolution=16"


def test_profile(latkit: RunLatkit) -> None:
    command = (
        "profile", "--space", "fbnet", "--setting", MICRO, "--backend", "torch-cpu",
        "--device", "this-cpu", "--protocol", "paper", "--n", 5, "--out", "d",
    )  # fmt: skip
    ok(latkit, *command)
    before = LatencyDataset.open(Path("d")).digest()
    ok(latkit, *command)  # nothing is left to measure
    dataset = LatencyDataset.open(Path("d"))
    assert dataset.digest() == before
    setting = parse_setting(MICRO)
    assert dataset.manifest.target.setting == setting
    assert dataset.manifest.anchor == "fbnet_a,resolution=8"
    rows = dataset.table.to_pylist()
    listed = [r for r, panel in zip(rows, dataset.in_panel, strict=True) if not panel]
    matrix = SPACE.unrank(SPACE.sample(5, 0))
    assert [row["arch"] for row in listed][:5] == [SPACE.format(row) for row in matrix]
    assert [row["arch_id"] for row in listed][:5] == SPACE.file_ids(matrix).tolist()
    for row in rows:
        (cost,) = architecture_costs(SPACE, SPACE.parse(row["arch"]), setting)
        assert (row["macs"], row["params"]) == (cost.macs, cost.params)
        assert row["latency_ms"] > 0


@pytest.mark.parametrize("backend", ["torch-cpu", "onnxruntime-cpu"])
def test_measure(latkit: RunLatkit, backend: str) -> None:
    if backend == "onnxruntime-cpu":
        pytest.importorskip("onnxruntime")
    layers = str(ZOO["fbnet_b"])
    printed = ok(
        latkit, "measure", "zoo:fbnet_c", layers, "--setting", MICRO, "--backend", backend,
        "--device", "this-cpu", "--measurements", 1, "--out", "m",
    )  # fmt: skip
    costs = architecture_costs(
        SPACE, [SPACE.row_of(ZOO[name])[0] for name in ("fbnet_c", "fbnet_b")], parse_setting(MICRO)
    )
    assert [row["params"] for row in printed["rows"]] == [cost.params for cost in costs]


def test_export_and_draw(latkit: RunLatkit) -> None:
    for setting, name in ((MICRO, "FBNet-C"), (f"{MICRO},precision=fp16", "fbnet_a")):
        out = f"{name}.onnx"
        result = ok(latkit, "export", name, "--setting", setting, "--out", out, "--dynamic-batch")
        assert result["verified_images"] == 32
        assert Path(out).exists()
    for text in ("fbnet_c", str(ZOO["fbnet_c"])):
        drawn = ok(latkit, "draw", text, "--out", "net.svg")
        assert (drawn["space"], drawn["architecture"]) == ("fbnet", str(ZOO["fbnet_c"]))


@pytest.mark.parametrize(
    "command", [("export", "darts_v2", "--out", "x.onnx"), ("measure", "darts_v2", "--out", "x")]
)
def test_a_genotype_is_refused(latkit: RunLatkit, command: tuple[str, ...]) -> None:
    line = refused(latkit, *command, "--setting", MICRO, code=2)
    assert "fbnet takes no architecture of darts" in line
