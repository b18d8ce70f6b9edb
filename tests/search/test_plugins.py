"""Plug-ins of the search that do not load, and sources of paths."""

from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from latkit.core.errors import InputError
from latkit.core.plugins import PluginError, Plugins
from latkit.search.config import SearchConfig, preset
from latkit.search.data import DataOptions, load_data
from latkit.search.estimators import ESTIMATORS
from latkit.search.image_source import IMAGE_SOURCES, ImageData, ImageSource
from latkit.search.objectives import OBJECTIVES
from latkit.search.supernet import SUPERNETS, default_method, methods_of

ALL: tuple[Plugins[Any], ...] = (SUPERNETS, ESTIMATORS, OBJECTIVES, IMAGE_SOURCES)


class Stripes(ImageSource):
    """A file of a kind of its own, and folders of such files."""

    of_paths = True

    def recognises(self, path: str) -> bool:
        return path.endswith(".stripes")

    def open(self, source: str, options: DataOptions) -> ImageData:
        images = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
        images[::2, :, :4] = 255
        return ImageData(source, images, torch.arange(8) % 2, ("above", "none"), flip=True)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    for plugins in ALL:
        point = EntryPoint("broken", "nowhere_at_all:Nothing", plugins.group)
        monkeypatch.setattr(plugins, "_points", {"broken": point})


@pytest.mark.usefixtures("broken")
def test_what_does_not_load_stops_only_who_names_it(tmp_path: Path) -> None:
    SearchConfig().check()
    assert default_method("darts") == "darts"
    assert methods_of("darts") == ["darts", "pc-darts"]
    assert len(load_data("digits", 8, 0).labels) == 8
    with pytest.raises(InputError, match="no data at"):
        load_data(str(tmp_path / "missing"), None, 0)
    with pytest.raises(InputError, match="weighted-sum or worst-case"):
        dataclasses.replace(SearchConfig(), also=("slow",)).check()
    for name in ("estimator", "cost"):
        with pytest.raises(PluginError, match="nowhere_at_all"):
            dataclasses.replace(SearchConfig(), **{name: "broken"}).check()  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="nowhere_at_all"):
        preset("cpu", "broken")
    with pytest.raises(PluginError, match="nowhere_at_all"):
        load_data("broken", None, 0)


def test_a_source_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes before latkit's own sources, and is not called by its name."""
    point = EntryPoint("stripes", "tests.search.test_plugins:Stripes", IMAGE_SOURCES.group)
    monkeypatch.setattr(IMAGE_SOURCES, "_points", {"stripes": point})
    folder = tmp_path / "d.stripes"
    folder.mkdir()
    data = load_data(str(folder), 6, 0, DataOptions(resolution=16, flip=False))
    assert (data.name, data.flip) == (str(folder), False)
    assert data.images.shape == (6, 1, 16, 16)
    with pytest.raises(InputError, match="has no columns"):
        load_data(str(folder), 6, 0, DataOptions(label_column="label"))
    with pytest.raises(InputError, match="no data at 'stripes'"):
        load_data("stripes", 6, 0)
