"""The worked example in docs/examples: installed as a user installs it, and held to the suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar

import pytest

from latkit.backends import BACKENDS, Backend
from latkit.backends.testing import BackendConformance
from latkit.core.errors import BackendError
from latkit.spaces import Setting
from latkit.spaces.build import random_onnx
from latkit.spaces.fbnet.config import FbnetConfig
from latkit.spaces.fbnet.zoo import ZOO as CHAINS
from tests.support.commands import MICRO_TEXT, RunLatkit

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "latkit-pebble"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    site = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for path in EXAMPLE.iterdir():  # a build leaves files beside the sources
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
            "--target", str(site), str(source),
        ],
        check=True,
    )  # fmt: skip
    sys.path.insert(0, str(site))
    BACKENDS.refresh()
    TestPebble.backend_class = BACKENDS.get("pebble-cpu")
    yield
    sys.path.remove(str(site))
    for name in ("latkit_pebble", "pebble"):
        sys.modules.pop(name, None)
    BACKENDS.refresh()


class TestPebble(BackendConformance):
    backend_class: ClassVar[type[Backend]]

    def test_what_it_lacks_is_named(self, backend: Backend) -> None:
        setting = Setting(FbnetConfig(macro="fbnet-cifar", channels=4, resolution=16, classes=10))
        setting = setting.replace(memory_format="nchw")
        with pytest.raises(BackendError, match="no grouped convolutions"):
            backend.compile(CHAINS["fbnet_a"], setting)
        network = random_onnx(CHAINS["fbnet_a"], setting, 0)
        with pytest.raises(BackendError, match="no Conv of this form"):
            sys.modules["latkit_pebble"].to_pebble(network)


def test_it_came_by_its_entry_point() -> None:
    (point,) = entry_points(group="latkit.backends", name="pebble-cpu")
    assert point.dist is not None
    assert point.dist.name == "latkit-pebble"


def test_it_profiles(latkit: RunLatkit) -> None:
    done = latkit(
        "profile", "--backend", "pebble-cpu", "--device", "this-cpu", "--setting", MICRO_TEXT,
        "--n", 3, "--out", "d", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"backend": "pebble-cpu"' in done.stdout
