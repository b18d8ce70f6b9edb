"""Kinds of LPMs: what each one declares, and kinds of other distributions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from latkit.core.errors import InputError, LPMError
from latkit.lpm.kinds import LPM_KINDS, make_options
from latkit.lpm.paper import PaperRecipe
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.registry import Registry, TrainRequest, load_lpm, train_and_publish
from latkit.search.objectives import PredictedObjective
from tests.support.commands import RunLatkit
from tests.support.synthetic import MICRO, SPACE, formula_ms, made_dataset

MODULE = """
from dataclasses import dataclass

import torch

from latkit.lpm.base import LPM
from latkit.lpm.intervals import EmpiricalLPM


@dataclass(frozen=True)
class Options:
    power: float = 1.0


class Median(EmpiricalLPM):
    '''The median of the training data to a power, whatever the architecture.'''

    name = "median"
    options_class = Options

    def __init__(self, value):
        self.hyper_parameters = {"value": value}

    @classmethod
    def fit(cls, rows, recipe, listener=None):
        values = torch.from_numpy(rows.values)
        return cls(float(values.median()) ** recipe.options.power)

    def mean(self, encodings):
        return torch.full_like(encodings[:, 0], self.hyper_parameters["value"])

    def coefficients(self):
        return torch.zeros(112), self.hyper_parameters["value"]

    def state(self):
        return self.intervals_state()

    @classmethod
    def from_state(cls, hyper_parameters, state):
        lpm = cls(hyper_parameters["value"])
        lpm.restore_intervals(state)
        return lpm


class Misnamed(Median):
    name = "another"


class Abstract(LPM):
    name = "abstract"
"""
POINTS = """
[latkit.lpm_kinds]
median = plugged_lpm:Median
misnamed = plugged_lpm:Misnamed
abstract = plugged_lpm:Abstract
lost = plugged_lpm:Lost
default = plugged_lpm:Median
"""


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
              ) -> Iterator[None]:  # fmt: skip
    """A distribution as an installer leaves it."""
    site = tmp_path_factory.mktemp("site")
    (site / "plugged_lpm.py").write_text(MODULE)
    info = site / "plugged_lpm-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-lpm\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(LPM_KINDS, "_points", None)
    monkeypatch.setattr(LPM_KINDS, "_classes", dict(LPM_KINDS._classes))
    yield
    sys.modules.pop("plugged_lpm", None)


@pytest.mark.usefixtures("installed")
class TestPlugIn:
    def test_it_is_trained_published_and_predicts(self, latkit: RunLatkit) -> None:
        made_dataset(Path("d"), 60)
        done = latkit("train-lpm", "d", "--kind", "median", "--json")
        assert done.returncode == 0, done.stderr
        card = json.loads(done.stdout)
        assert card["kind"] == card["training"]["kind"] == "median"
        assert 0 <= card["metrics"]["coverage_90"] <= 100
        done = latkit("predict", "--device", "formula", "--json", "darts_v2", "gdas")
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["predictions"]
        expected = card["hyper_parameters"]["value"]
        assert [row["latency_ms"] for row in rows] == pytest.approx([expected, expected])
        assert rows[0]["std_ms"] > 0
        # A search takes its expectation exactly.
        coefficients = PredictedObjective(load_lpm("formula").lpm).coefficients()
        assert coefficients is not None
        assert coefficients[1] == pytest.approx(expected)

    def test_its_options(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 60)
        plain, squared = (
            train_and_publish(
                TrainRequest(tmp_path / "d", "median", options=options, publish=False)
            ).card.hyper_parameters["value"]
            for options in ({}, {"power": 2.0})
        )
        assert squared == pytest.approx(plain**2)

    def test_it_does_not_take_a_name_of_ours(self) -> None:
        assert LPM_KINDS.get("default").__module__ == "latkit.lpm.default"

    @pytest.mark.parametrize("name", ["misnamed", "abstract", "lost"])
    def test_a_broken_one_is_refused_where_it_is_used(self, name: str) -> None:
        with pytest.raises(LPMError, match=r"plugged-lpm 1\.2\)"):
            Recipe(name)
        assert name in LPM_KINDS.broken()
        assert "median" not in LPM_KINDS.broken()

    def test_without_the_package_its_lpm_is_refused_by_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made_dataset(tmp_path / "d", 60)
        result = train_and_publish(TrainRequest(tmp_path / "d", "median"))
        assert result.entry is not None
        monkeypatch.setattr(LPM_KINDS, "_points", {})
        with pytest.raises(LPMError, match="unknown kind 'median'"):
            Registry().load(result.entry)


def rows(n: int) -> Rows:
    ids = SPACE.sample(n, 0)
    return Rows(SPACE, MICRO, SPACE.encode(SPACE.unrank(ids)).astype(np.float64), formula_ms(ids))


@pytest.mark.parametrize("kind", LPM_KINDS.names())
def test_every_kind_is_what_it_declares(kind: str) -> None:
    cls = LPM_KINDS.get(kind)
    assert cls.name == kind
    options = PaperRecipe(epochs=3) if kind == "paper" else None
    lpm = cls.fit(rows(40), Recipe(kind, options=options))
    if lpm.needs_calibration:
        lpm.calibrate(np.linspace(-1, 1, 20))
    x = rows(8).encodings
    assert (lpm.predict_std(x) > 0).all()
    if cls.can_be_published:
        again = cls.from_state(lpm.hyper_parameters, lpm.state())
        assert np.allclose(again.predict(x), lpm.predict(x))
    else:
        with pytest.raises(LPMError):
            lpm.state()
    inputs = torch.from_numpy(x).float().requires_grad_()
    assert lpm.mean(inputs).requires_grad == cls.supports_gradient
    coefficients = lpm.coefficients()
    if coefficients is not None:
        entries, constant = coefficients
        assert np.allclose(x @ entries.numpy() + constant, lpm.predict(x))


def test_unknown_names_and_options_that_do_not_fit() -> None:
    with pytest.raises(InputError):
        Recipe("defualt")
    with pytest.raises(InputError):
        Recipe("default", options=PaperRecipe())
    assert Recipe("paper").options == PaperRecipe()
    given = {"epochs": 7, "standardize": None}
    assert make_options("paper", given) == (PaperRecipe(epochs=7), ())
    assert make_options("default", given)[1] == ("epochs",)
    with pytest.raises(InputError):
        make_options("paper", {"epochs": "7"})
    with pytest.raises(InputError):
        Recipe("default", n_train=1)
