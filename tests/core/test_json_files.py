"""JSON from elsewhere: what it has not, what is nested without end, and what is no plain file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from latkit.core.json_files import MOST_LEVELS, parse_json, read_json_file, read_plain_file


@pytest.mark.parametrize(
    "text",
    ["NaN", "[1e999]", '"\\ud800"', "[" * 100_000, "[" * 100_000 + "]" * 100_000,
     "[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1), '{"a":' * 3000 + "1" + "}" * 3000,
     "9" * 5000, "", "{", b"\xff"],
)  # fmt: skip
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)


def test_what_is_json_is_read() -> None:
    deep = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert parse_json(deep) == json.loads(deep)
    assert parse_json('{"a": [1, 1.5, null, {"b": "µ"}]}') == {"a": [1, 1.5, None, {"b": "µ"}]}


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    """A device, a pipe that nobody writes to, and a file that is larger than allowed."""
    (tmp_path / "zeros").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"[" + b" " * 100 + b"]")
    for name in ("zeros", "pipe"):
        with pytest.raises(OSError, match="plain"):
            read_json_file(tmp_path / name)
    with pytest.raises(OSError, match="bytes"):
        read_plain_file(tmp_path / "large", 101)
    assert len(read_plain_file(tmp_path / "large", 102)) == 102
    with pytest.raises(IsADirectoryError):
        read_plain_file(tmp_path, 1)
