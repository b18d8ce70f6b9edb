"""``latkit search`` on images of a user's: options, what is told of them, and going on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from latkit.registry import Registry
from tests.search.test_data import write_parquet
from tests.search.test_image_folder import write
from tests.search.test_image_parquet import cells
from tests.search.test_image_parquet import write as write_table
from tests.support.commands import RunLatkit, check
from tests.support.synthetic import made_lpm

SEARCH = (
    "search", "--device", "formula", "--preset", "cpu", "--cells", 3, "--channels", 2,
    "--batch", 4, "--epochs", 1, "--out", "s", "--resolution", 8,
)  # fmt: skip


@pytest.fixture(autouse=True)
def published(tmp_path: Path, registry_url: str) -> None:
    made = made_lpm(tmp_path / "made")
    Registry(registry_url).publish(made.lpm, made.card)


def test_a_folder_of_images(latkit: RunLatkit, tmp_path: Path) -> None:
    """What was read is told; the options are part of what a search goes on with."""
    write(*(Path("d", "Train", name, f"{i}.png") for name in ("cat", "dog") for i in range(5)))
    Path("d", "Train", "fox").mkdir()
    done = latkit(*SEARCH, "--data", "d", "--no-flip")
    assert done.returncode == 0, done.stderr
    assert "10 images of 2 classes, 8x8 pixels, of d" in done.stderr
    assert "fox" in next(line for line in done.stderr.splitlines() if line.startswith("warning"))
    data = json.loads(Path("s/config.json").read_text())["data"]
    assert (data["images"], data["size"], data["flip"]) == (10, [3, 8, 8], False)
    assert data["classes"] == ["cat", "dog"]

    # The same data by another path, without the empty folder and with another one.
    shutil.rmtree("d/Train/fox")
    Path("d", "Train", ".ipynb_checkpoints").mkdir()
    again = latkit(*SEARCH, "--data", tmp_path / "d" / "Train", "--no-flip", "--json")
    assert again.returncode == 0, again.stderr
    before = json.loads(Path("s/result.json").read_text())
    assert json.loads(again.stdout)["genotype"] == before["genotype"]

    check(latkit, *SEARCH, "--data", "d", says=("data.flip: True / False",), code=1)
    write(Path("d", "Train", "fox", "0.png"))
    says = ("holds another search", "data.classes", "fox", "data.images: 11 / 10")
    check(latkit, *SEARCH, "--data", "d", "--no-flip", says=says, code=1)


def test_columns_of_parquet(latkit: RunLatkit) -> None:
    write_table(Path("d", "train.parquet"),
                {"photo": cells(12), "kind": ["b", "a", "c"] * 4, "label": [0] * 12})  # fmt: skip
    options = ("--data", "d", "--image-column", "photo", "--label-column", "kind")
    done = latkit(*SEARCH, *options, "--limit", 12)
    assert done.returncode == 0, done.stderr
    assert "12 images of 3 classes" in done.stderr
    assert json.loads(Path("s/config.json").read_text())["data"]["classes"] == ["a", "b", "c"]


def test_classes_that_a_limit_loses(latkit: RunLatkit) -> None:
    labels = [0] * 30 + [1] * 30 + [2]
    write_table(Path("d", "train.parquet"), {"img": cells(61), "label": labels})
    done = latkit(*SEARCH, "--data", "d", "--limit", 10)
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of the 3 classes" in done.stderr


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--resolution", 30), ("30x30", "multiple of 4")),
            (("--resolution", 10**30), ("multiple of 4",)),
            (("--label-column", "x"), ("digits has no columns", "--label-column")),
            (("--data", "d", "--label-column", "x"), ("no column x", "label (int64)")),
            (("--data", "d", "--image-column", "label"), ("the type int64", "--image-column")),
        ],
    )
    def test_arguments(
        self, latkit: RunLatkit, arguments: tuple[object, ...], says: tuple[str, ...]
    ) -> None:
        write_parquet(Path("d"), [0, 1] * 8)
        check(latkit, *SEARCH, *arguments, says=says, code=2)
        assert not Path("s").exists()
