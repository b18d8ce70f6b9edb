"""LPMs that format version 1 wrote are read, and predict what they did, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from latkit.core.storage import Storage
from latkit.lpm.store import read_lpm
from latkit.spaces import get_space

FIXTURES = Path(__file__).parents[1] / "data" / "lpm-format-1"


@pytest.mark.parametrize("kind", ["default", "lookup-table", "paper"])
def test_a_file_of_version_1(kind: str) -> None:
    folder = FIXTURES / kind
    lpm, card = read_lpm(Storage(str(FIXTURES)), kind)
    assert card.training["kind"] == kind
    space = get_space(card.target.space)
    expected = json.loads((folder / "expected.json").read_text())
    x = space.encode(space.unrank(expected["arch_ids"]))
    assert np.allclose(lpm.predict(x), expected["latency_ms"], rtol=1e-5)
    assert np.allclose(lpm.predict_std(x), expected["std_ms"], rtol=1e-4)
