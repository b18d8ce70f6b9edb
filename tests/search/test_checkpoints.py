"""Files of checkpoints that were damaged, and disks that are full while they are written."""

from __future__ import annotations

import errno
import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from latkit.core.errors import LatkitError, SearchError
from latkit.networks.state import save_tensors
from latkit.search.checkpoint import CHECKPOINT, HEADER, finished_epochs
from latkit.search.data import load_data
from latkit.search.history import read_history, schema_of, write_history
from latkit.search.network_checkpoint import progress_of
from tests.support.processes import Forked

TENSORS = {"a": torch.zeros(100_000)}


def _write_with_little_space(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        save_tensors(Path(path), TENSORS, {})
    except OSError as error:
        print(errno.errorcode[error.errno or 0])


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    """safetensors has a class of its own for it, which no command mended."""
    process = Forked(_write_with_little_space, str(tmp_path / "t.safetensors"), cwd=tmp_path)
    assert process.communicate()[0].strip() == "EFBIG"


@pytest.mark.parametrize(
    "header",
    ["[" * 5000, '{"epoch": Infinity}', '{"epoch": 1e999}', "7", '{"epoch": null}', "{", "[]",
     '{"epoch": 1, "partial": 7}', '{"epoch": 1, "partial": {"step": 1e999}}'],
)  # fmt: skip
def test_a_header_that_is_none(tmp_path: Path, header: str) -> None:
    save_tensors(tmp_path / CHECKPOINT, TENSORS, {HEADER: header})
    for read in (lambda: progress_of(tmp_path, SearchError), lambda: finished_epochs(tmp_path)):
        try:
            read()
        except SearchError:
            continue
        # What one of the two has no use for it does not look at.
        assert json.loads(header)["epoch"] == 1


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0", "F6_E2M3", "X"])
def test_numbers_of_an_unknown_type(tmp_path: Path, dtype: str) -> None:
    header = json.dumps(
        {"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, 8]},
         "__metadata__": {HEADER: '{"epoch": 1, "format_version": 1}'}}
    ).encode()  # fmt: skip
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    (tmp_path / CHECKPOINT).write_bytes(content)
    from latkit.networks.state import load_state

    with pytest.raises(LatkitError):
        load_state(torch.nn.Linear(1, 1), tmp_path / CHECKPOINT)


@pytest.mark.parametrize(
    ("column", "value", "is_read"),
    [("seconds", None, False), ("val_loss", None, True), ("val_loss", float("nan"), False),
     ("train_loss", float("inf"), False),
     ("genotype", None, False)],
)  # fmt: skip
def test_a_history_with_empty_cells(
    tmp_path: Path, column: str, value: float | None, is_read: bool
) -> None:
    """Of a warm-up's epochs some columns have no value; of no epoch any has NaN, or no end."""
    row: dict[str, Any] = dict.fromkeys(schema_of(()).names, 1.0)
    row |= {"epoch": 1, "genotype": "x", column: value}
    write_history(tmp_path, [row], ())
    if is_read:
        assert read_history(tmp_path, 1, ()) == [row]
        return
    with pytest.raises(SearchError):
        read_history(tmp_path, 1, ())


@pytest.mark.parametrize("finished", [-1, 2, 2**31, int(1e308)])
def test_a_history_of_other_epochs(tmp_path: Path, finished: int) -> None:
    row: dict[str, Any] = dict.fromkeys(schema_of(()).names, 1.0)
    write_history(tmp_path, [{**row, "epoch": 1, "genotype": "x"}], ())
    with pytest.raises(SearchError, match="lacks some"):
        read_history(tmp_path, finished, ())


def test_an_image_without_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "a" / "2.png").symlink_to("/dev/zero")
    with pytest.raises(LatkitError):
        load_data(str(tmp_path), None, 0)
