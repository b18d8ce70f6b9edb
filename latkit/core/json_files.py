"""JSON from elsewhere, read with limits: it may be no JSON, endless, or nested without end.

This module is part of every bundle: it needs nothing but Python 3.8.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

# Files of latkit have a thousandth of it, and ten levels.
MOST_BYTES = 2**26
MOST_LEVELS = 100


def parse_json(content: bytes | str) -> Any:
    """The value of a text of JSON.

    Raises:
        ValueError: it is no JSON in UTF-8, which has no NaN, no infinite numbers and no half
            characters, or it is nested more than ``MOST_LEVELS`` deep.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_LEVELS} levels deep") from None
    _check_levels(value)
    # Python reads more than JSON can say: NaN, 1e999, half of a character.
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value


def read_json_file(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: it cannot be read, is no plain file, or has more than ``MOST_BYTES``.
        ValueError: as of :func:`parse_json`.
    """
    return parse_json(read_plain_file(path, MOST_BYTES))


def read_plain_file(path: str | Path, most_bytes: int) -> bytes:
    """The content of a file that may come from others.

    Raises:
        OSError: it cannot be read, is a device or a pipe, which have no end, or has more bytes.
    """
    # Before it is opened, for which a pipe without a writer would wait.
    if not stat.S_ISREG(os.stat(path).st_mode):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError("it is no plain file")
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(f"it has more than the {most_bytes:,} bytes that are allowed")
    return content


def _check_levels(value: Any) -> None:
    inner = [value]
    for _ in range(MOST_LEVELS):
        children: list[Any] = []
        for each in inner:
            if isinstance(each, dict):
                children += each.values()
            elif isinstance(each, list):
                children += each
        inner = [child for child in children if isinstance(child, (dict, list))]
        if not inner:
            return
    raise ValueError(f"nested more than {MOST_LEVELS} levels deep")
