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
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import MICRO_TEXT, RunLatkit

pytest.importorskip("ncnn", reason="ncnn is not installed")
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "latkit-ncnn"


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
    TestNcnn.backend_class = BACKENDS.get("ncnn-cpu")
    yield
    sys.path.remove(str(site))
    sys.modules.pop("latkit_ncnn", None)
    BACKENDS.refresh()


class TestNcnn(BackendConformance):
    backend_class: ClassVar[type[Backend]]
    setting: ClassVar[Setting] = BackendConformance.setting.replace(batch=1)

    def test_a_batch_is_refused(self, backend: Backend) -> None:
        with pytest.raises(BackendError, match="one image at a time"):
            backend.compile(ZOO["darts_v2"], self.small.replace(batch=2))


def test_it_came_by_its_entry_point() -> None:
    (point,) = entry_points(group="latkit.backends", name="ncnn-cpu")
    assert point.dist is not None
    assert point.dist.name == "latkit-ncnn"


def test_it_profiles(latkit: RunLatkit) -> None:
    done = latkit(
        "profile", "--backend", "ncnn-cpu", "--device", "this-cpu", "--setting", MICRO_TEXT,
        "--n", 3, "--out", "d", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"backend": "ncnn-cpu"' in done.stdout
