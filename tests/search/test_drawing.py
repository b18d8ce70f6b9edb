"""The drawing of cells, and predictions by every LPM of a registry."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from latkit.registry import Registry
from latkit.search.report import predict_everywhere
from latkit.spaces import get_space
from latkit.spaces.darts.drawing import draw_genotype
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import RunLatkit
from tests.support.synthetic import MICRO, formula_ms, made_lpm


def test_a_cell_in_print() -> None:
    normal, reduction = draw_genotype(ZOO["darts_v2"]).split("\n\n")
    assert normal == (
        "normal cell\n"
        "  node 2 ◀─┬─ sep_conv_3x3 ── c(k-2)\n"
        "           └─ sep_conv_3x3 ── c(k-1)\n"
        "  node 3 ◀─┬─ sep_conv_3x3 ── c(k-2)\n"
        "           └─ sep_conv_3x3 ── c(k-1)\n"
        "  node 4 ◀─┬─ sep_conv_3x3 ── c(k-1)\n"
        "           └─ skip_connect ── c(k-2)\n"
        "  node 5 ◀─┬─ skip_connect ── c(k-2)\n"
        "           └─ dil_conv_3x3 ── node 2\n"
        "  output ◀─── concatenated: nodes 2, 3, 4, 5"
    )
    assert reduction.startswith("reduction cell\n  node 2 ◀─┬─ max_pool_3x3 ── c(k-2)\n")


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_connection_is_drawn(name: str) -> None:
    genotype = ZOO[name]
    lines = draw_genotype(genotype).splitlines()
    assert sum("┬" in line or "└" in line for line in lines) == (
        len(genotype.normal) + len(genotype.reduce)
    )
    assert max(map(len, lines)) < 80


def test_predictions_of_every_lpm(tmp_path: Path) -> None:
    space, registry = get_space("darts"), Registry()
    for device in ("formula", "other"):
        made = made_lpm(tmp_path / device, device)
        registry.publish(made.lpm, made.card)
    row = space.from_genotype(ZOO["pc_darts_cifar"])
    (broken,) = Path(registry.url).glob("darts/other/**/weights.safetensors")
    broken.write_bytes(b"nonsense")
    formula, other, built_in = predict_everywhere(space, row, registry, MICRO)
    assert formula.lpm.startswith("formula/torch-cpu/")
    assert formula.predicted == pytest.approx(float(formula_ms(space.rank(row))[0]), rel=0.01)
    assert formula.setting_differences == ()
    assert "is corrupt" in str(other.skip_reason)
    assert built_in.lpm.startswith("p100/")
    assert "resolution: 224 / 8" in built_in.setting_differences
    assert 10 < built_in.predicted < 60
    assert built_in.predicted_std > 0


def test_an_lpm_of_energy_hides_no_built_in_one_of_latency(
    tmp_path: Path, latkit: RunLatkit
) -> None:
    space, registry = get_space("darts"), Registry()
    built_in = registry.resolve("p100", "darts")
    made = made_lpm(tmp_path / "made")
    lpm, card = registry.load(built_in)
    dataset = {**card.dataset, "energy_range_mj": [1.0, 2.0]}
    registry.publish(lpm, dataclasses.replace(card, cost="energy_mj", dataset=dataset))
    row = space.from_genotype(ZOO["gdas"])
    predictions = [p.to_dict() for p in predict_everywhere(space, row, registry, MICRO)]
    listed = json.loads(latkit("lpms", "list", "--json").stdout)["lpms"]
    for rows, name in ((predictions, "lpm"), (listed, "reference")):
        assert [(p["cost"], p[name].rpartition("@")[2]) for p in rows] == [
            ("energy_mj", "1"), ("latency_ms", "0"),
        ]  # fmt: skip
    assert 10 < predictions[1]["predicted_ms"] < 60
    # One of latency of the same target does replace it.
    registry.publish(made.lpm, dataclasses.replace(made.card, target=card.target))
    predictions = [p.to_dict() for p in predict_everywhere(space, row, registry, MICRO)]
    assert [(p["cost"], p["lpm"].rpartition("@")[2]) for p in predictions] == [
        ("latency_ms", "1"), ("energy_mj", "1"),
    ]  # fmt: skip
