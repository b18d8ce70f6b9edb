"""A supernet that an entry point adds searches a space other than DARTS, beside latkit's own."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from latkit.core.errors import InputError, Interrupted
from latkit.core.plugins import PluginError
from latkit.registry import Registry
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.config import preset
from latkit.search.data import load_data
from latkit.search.request import SearchRequest
from latkit.search.result import SearchResult, SweepResult
from latkit.search.run import search
from latkit.search.session import run_search
from latkit.search.supernet import SUPERNETS, get_supernet, method_names, methods_of
from latkit.spaces import get_preset, get_space
from tests.support.commands import RunLatkit
from tests.support.synthetic import formula_lpm, formula_values

SPACE = get_space("nasbench201")
SETTING = get_preset("nasbench201").replace(cells=3, channels=2, resolution=8)
# Milliseconds an operation adds, in the order of the space's operations.
OPERATION_MS = (0, 0.1, 1.0, 3.0, 0.5)
SMALL = {"channels": 2, "limit": 64, "lambda_per_ms": 0.02}


@pytest.fixture(autouse=True)
def published(tmp_path: Path, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An LPM by formula, and the supernet."""
    value = "tests.search.cell_supernet:CellSupernet"
    point = EntryPoint("cell", value, SUPERNETS.group)
    monkeypatch.setattr(SUPERNETS, "_points", {"cell": point})
    trained = formula_lpm(tmp_path / "made", SETTING, OPERATION_MS)
    Registry(registry_url).publish(trained.lpm, trained.card)


def request(out: Path, **more: object) -> SearchRequest:
    values = {
        "space": "nasbench201", "method": "cell", "preset": "cpu", "out": out, "changes": SMALL,
        **more,
    }  # fmt: skip
    return SearchRequest("formula", **values)  # type: ignore[arg-type]


def test_a_search(tmp_path: Path, latkit: RunLatkit) -> None:
    assert methods_of("nasbench201") == ["darts", "cell"]
    assert preset("cpu", "cell", "nasbench201").epochs == 2
    result = search(request(tmp_path / "s"))
    assert isinstance(result, SearchResult)
    content = json.loads((tmp_path / "s" / "result.json").read_text())
    assert content == json.loads(json.dumps(result.to_dict()))
    row = SPACE.parse(content["genotype"])
    assert content["arch_id"] == SPACE.rank(row)[0]
    for name, there in (("found", row), ("reference", SPACE.parse(SPACE.reference))):
        (expected,) = formula_values(there, OPERATION_MS)
        assert content[name]["predicted_ms"] == pytest.approx(expected, rel=1e-3)
    history = pq.read_table(str(tmp_path / "s" / "history.parquet"))
    assert {"alpha_entropy_cell", "skip_share_cell", "parameter_free_share_cell"} < {
        *history.column_names
    }
    assert (tmp_path / "s" / "cells.txt").read_text().strip() == content["genotype"]
    # The same from the command line, which prints it.
    arguments = ("search", "--space", "nasbench201", "--device", "formula", "--preset", "cpu",
                 "--method", "cell", "--channels", 2, "--limit", 64, "--lambda", 0.02, "--out",
                 "again")  # fmt: skip
    done = latkit(*arguments)
    assert done.returncode == 0, done.stderr
    assert content["genotype"] in done.stdout
    again = json.loads(Path("again/result.json").read_text())
    assert again["genotype"] == content["genotype"]
    assert again["config"] == content["config"]


def test_a_target_and_a_limit(tmp_path: Path) -> None:
    changes = {"channels": 2, "limit": 64, "target_ms": 17.0, "max_skips": 0}
    result = search(request(tmp_path / "s", changes=changes))
    assert isinstance(result, SearchResult)
    assert result.searched_for.on_target
    assert result.searched_for.found == pytest.approx(17.0, rel=0.05001)
    assert "skip_connect" not in str(result.architecture)


def test_a_sweep(tmp_path: Path) -> None:
    changes = {"channels": 2, "limit": 64}
    result = search(request(tmp_path / "s", changes=changes, sweep_lambda=(0.0,)))
    assert isinstance(result, SweepResult)
    # Its process has the entry points of the distributions that are installed alone.
    with pytest.raises(Exception, match="1 of 1 searches failed"):
        result.check()


def test_stopping_is_bitwise(tmp_path: Path) -> None:
    registry = Registry()
    lpm, _ = registry.load(registry.resolve("formula", SPACE.name))
    data = load_data("digits", 64, 0)
    config = dataclasses.replace(preset("cpu", "cell", SPACE.name), **SMALL)
    run_search(config, SPACE, lpm, "made", data, tmp_path / "a")
    steps: list[object] = []
    with pytest.raises(Interrupted):
        run_search(
            config, SPACE, lpm, "made", data, tmp_path / "b", on_step=steps.append,
            stop=lambda: len(steps) >= 2,
        )  # fmt: skip
    run_search(config, SPACE, lpm, "made", data, tmp_path / "b")
    files = [(tmp_path / name / CHECKPOINT).read_bytes() for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"method": "pc-darts"}, "the method pc-darts searches darts, not nasbench201"),
        ({"space": "darts", "method": "cell"}, "the method cell searches nasbench201, not darts"),
        ({"space": "models", "method": None}, "no supernet can search the space models"),
        ({"space": "nowhere"}, "unknown search space 'nowhere'"),
        ({"changes": {"depth": 3}}, "a search has no value depth"),
    ],
)
def test_requests_that_cannot_work(tmp_path: Path, more: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        search(request(tmp_path / "s", **more))
    assert not (tmp_path / "s").exists()


def test_a_method_of_latkit_serves_a_space_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name before the first dot is the method's; one that does not load is in nobody's way."""
    value = "tests.search.cell_supernet:ToyCells"
    points = {
        "darts.broken": EntryPoint("darts.broken", "nowhere_at_all:Nothing", SUPERNETS.group),
        "darts.toy": EntryPoint("darts.toy", value, SUPERNETS.group),
    }
    monkeypatch.setattr(SUPERNETS, "_points", points)
    assert method_names() == ["darts", "pc-darts"]
    assert methods_of("toy") == ["darts"]
    assert get_supernet("darts", "toy").__name__ == "ToyCells"
    assert get_supernet("darts", "darts").spaces == ("darts",)
    with pytest.raises(PluginError, match="nowhere_at_all"):
        get_supernet("darts", "elsewhere")
