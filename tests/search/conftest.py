"""Fixtures of several files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from latkit.lpm.base import LPM
from latkit.search.data import ImageData, load_data
from tests.search.micro import MICRO, OPERATION_MS, SETTING, Finished, run, run_darts
from tests.support.synthetic import formula_lpm, made_lpm


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lpm(tmp_path_factory: pytest.TempPathFactory) -> LPM:
    return formula_lpm(tmp_path_factory.mktemp("made") / "d", SETTING, OPERATION_MS).lpm


@pytest.fixture(scope="session")
def darts_lpm(tmp_path_factory: pytest.TempPathFactory) -> LPM:
    return made_lpm(tmp_path_factory.mktemp("made") / "d").lpm


@pytest.fixture(scope="session")
def data() -> ImageData:
    return load_data("digits", 64, 0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, lpm: LPM, data: ImageData) -> Finished:
    """The search of ``MICRO``, not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "s"
    return Finished(folder, run(folder, lpm, data, MICRO))


@pytest.fixture(scope="session")
def darts_finished(
    tmp_path_factory: pytest.TempPathFactory, darts_lpm: LPM, data: ImageData
) -> Finished:
    """The same in DARTS."""
    folder = tmp_path_factory.mktemp("finished") / "s"
    return Finished(folder, run_darts(folder, darts_lpm, data, MICRO))
