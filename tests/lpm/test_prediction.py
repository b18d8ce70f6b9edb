"""One LPM object: what it is of, what it predicts, and what it warns of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from latkit.core.errors import InputError
from latkit.registry import Registry, load_lpm
from latkit.spaces import get_preset, get_space
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import RunLatkit
from tests.support.synthetic import SPACE, made_lpm

# The highest-cost cell of the space.
COSTLY = "+".join(f"|sep_conv_5x5~0|sep_conv_5x5~{node + 1}|" for node in range(4))


def test_what_it_is_of() -> None:
    lpm = load_lpm("p100")
    assert (lpm.space, lpm.quantity, lpm.unit) == ("darts", "latency_ms", "ms")
    assert lpm.target.device == "p100"
    assert lpm.reference == Registry().resolve("p100", "darts").reference
    assert lpm.card == Registry().card(Registry().resolve("p100", "darts"))
    assert len(lpm.warnings) == 1  # it is built in


def test_every_way_to_give_architectures(tmp_path: Path) -> None:
    lpm, space = load_lpm("p100"), get_space("darts")
    row = space.from_genotype(ZOO["gdas"])
    path = tmp_path / "cells.txt"
    path.write_text(f"{ZOO['gdas']}\n{ZOO['darts_v2']}\n")
    one = lpm.predict("gdas")
    identifier = int(space.rank(row)[0])
    for given in ("gdas", identifier, ZOO["gdas"], space.format(row[0]), ["gdas"], ("gdas",)):
        same = lpm.predict(given)
        assert len(same) == 1
        assert same[0].value == one[0].value
        assert same[0].arch == space.format(row[0])
    several = lpm.predict(["darts_v2", identifier, path])
    assert [p.given for p in several][:2] == ["darts_v2", str(identifier)]
    assert [p.arch for p in several][1:] == [one[0].arch, one[0].arch, several[0].arch]
    assert len(several) == 4
    encodings = space.encode(row)
    assert lpm.predict_encodings(encodings) == pytest.approx([one[0].value])


@pytest.mark.parametrize("given", [[], (), "no_such_cell", [-1], 10**20])
def test_what_is_no_architecture(given: object) -> None:
    with pytest.raises(Exception) as refused:  # noqa: PT011  # by its exit code
        load_lpm("p100").predict(given)  # type: ignore[arg-type]
    assert getattr(refused.value, "exit_code", 0) in (1, 2)


def test_it_is_what_the_command_prints(latkit: RunLatkit) -> None:
    done = latkit("predict", "--device", "p100", "--json", "gdas", "darts_v2")
    predictions = load_lpm("p100").predict(["gdas", "darts_v2"])
    assert json.loads(done.stdout) == predictions.to_dict()
    assert [row.std for row in predictions] == [
        row["std_ms"] for row in predictions.to_dict()["predictions"]
    ]


def test_another_registry_and_the_range_it_was_trained_on(tmp_path: Path) -> None:
    trained = made_lpm(tmp_path / "made")
    registry = Registry(str(tmp_path / "other"))
    registry.publish(trained.lpm, trained.card)
    for where in (registry, registry.url):
        lpm = load_lpm("formula", registry=where)
        assert lpm.warnings == ()
        assert lpm.predict("gdas").warnings == ()
        assert len(lpm.predict(["gdas", COSTLY]).warnings) == 1
    encodings = SPACE.encode(SPACE.unrank(SPACE.sample(9, 3)))
    assert np.array_equal(lpm.predict_encodings(encodings), trained.lpm.predict(encodings))
    with pytest.raises(InputError):
        load_lpm("formula")
    with pytest.raises(InputError):
        load_lpm("formula", "no-such-space", registry)


def test_a_setting_it_is_not_of() -> None:
    lpm = load_lpm("p100")
    lpm.check_setting(lpm.target.setting)
    with pytest.raises(InputError):
        lpm.check_setting(get_preset("tiny"))
