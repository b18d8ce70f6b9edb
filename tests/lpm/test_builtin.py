"""The built-in p100: from published latencies, with its own warning."""

from __future__ import annotations

import pytest

from latkit.lpm.builtin import PUBLISHED, builtin_lpm
from latkit.lpm.store import weights_of
from latkit.registry.entries import built_in_entries, load_built_in
from latkit.spaces import get_space
from latkit.spaces.darts.zoo import ZOO


def test_the_table_is_the_papers() -> None:
    assert len(PUBLISHED) == 11
    printed = {(p.cell, p.source[-7:]): p.latency_ms for p in PUBLISHED}
    assert printed["darts_v2", "Table 2"] == 40.9
    assert printed["darts_v2", "Table 5"] == 28.5
    assert printed["gdas", "Table 5"] == 32.2
    assert {p.setting.batch for p in PUBLISHED} == {32}


def test_its_error_is_that_of_cells_left_out() -> None:
    card = builtin_lpm().card
    assert card.metrics["n_test"] == 11
    assert "coverage_90" not in card.metrics  # nothing is left to judge it by
    assert card.metrics["mape_percent"] == pytest.approx(5.3, abs=0.2)
    assert card.baselines["macs_only"]["mape_percent"] == pytest.approx(15.8, abs=0.3)
    assert "not measured by latkit" in card.training["warning"]


def test_predictions_are_near_what_is_printed_for_its_setting() -> None:
    lpm, space = builtin_lpm().lpm, get_space("darts")
    for point in PUBLISHED:
        if point.source.endswith("5") and point.cell != "gdas":  # GDAS is printed for C = 50
            (ms,) = lpm.predict(space.encode(space.from_genotype(ZOO[point.cell])))
            assert ms == pytest.approx(point.latency_ms, rel=0.1)


def test_the_file_in_the_package_is_what_the_fit_gives() -> None:
    """Else: python -c "from latkit.lpm.builtin import write_builtin; write_builtin()"."""
    (entry,) = built_in_entries()
    lpm, card = load_built_in(entry)
    trained = builtin_lpm()
    assert weights_of(lpm) == weights_of(trained.lpm)
    content, fitted = card.to_dict(), trained.card.to_dict()
    for name in ("metrics", "baselines"):  # to the last digits they are the machine's
        for key, value in content.pop(name).items():
            assert fitted[name][key] == pytest.approx(value), key
        del fitted[name]
    del content["latkit_version"], fitted["latkit_version"]
    assert content == fitted
