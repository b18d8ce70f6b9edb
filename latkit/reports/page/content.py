"""JSON files whose fields are read by their types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.errors import InputError, from_os_error
from latkit.core.json_files import read_json_file

_FIX = "restore it from a copy, or make it again with the command that wrote it"


@dataclass(frozen=True)
class Content:
    """An object of a JSON file.

    Attributes:
        source: what the user calls the file.
        value: the object.
        inside: where in the file it is, for messages.
    """

    source: str
    value: Mapping[str, Any]
    inside: str = ""

    def get(self, path: str) -> Any:
        """What is at a path of names with dots between; None where there is nothing."""
        value: Any = self.value
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def number(self, path: str) -> float:
        """A number.

        Raises:
            InputError: there is none.
        """
        value = self.optional_number(path)
        if value is None:
            raise self.lacks("number", path)
        return value

    def optional_number(self, path: str) -> float | None:
        """A number, or None where the file has null or nothing.

        Raises:
            InputError: it is something else.
        """
        value = self.get(path)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.lacks("number", path)
        try:
            number = float(value)
        except OverflowError:  # of a whole number that no float holds
            number = math.inf
        if not math.isfinite(number):
            raise self.lacks("finite number", path)
        return number

    def text(self, path: str) -> str:
        """A text.

        Raises:
            InputError: there is none.
        """
        value = self.get(path)
        if not isinstance(value, str):
            raise self.lacks("text", path)
        return value

    def optional_text(self, path: str) -> str | None:
        """A text, or None where the file has none there."""
        value = self.get(path)
        return value if isinstance(value, str) else None

    def texts(self, path: str) -> tuple[str, ...]:
        """The values of a list as texts; an absent list has none.

        Raises:
            InputError: it is no list.
        """
        values = self.get(path)
        if values is None:
            return ()
        if not isinstance(values, list):
            raise self.lacks("list", path)
        return tuple(map(str, values))

    def object(self, path: str) -> Content:
        """An object within it.

        Raises:
            InputError: there is none.
        """
        value = self.get(path)
        if not isinstance(value, Mapping):
            raise self.lacks("object", path)
        return Content(self.source, value, f"{self.inside}{path}.")

    def objects(self, path: str) -> tuple[Content, ...]:
        """The objects of a list; an absent list has none.

        Raises:
            InputError: it is no list of objects.
        """
        values = self.get(path)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(isinstance(v, Mapping) for v in values):
            raise self.lacks("list of objects", path)
        where = f"{self.inside}{path}"
        return tuple(Content(self.source, v, f"{where}[{i}].") for i, v in enumerate(values))

    def first_object(self, path: str) -> Content:
        """The first object of a list.

        Raises:
            InputError: it is no list of objects, or has none.
        """
        objects = self.objects(path)
        if not objects:
            raise self.lacks("object", f"{path}[0]")
        return objects[0]

    def lacks(self, what: str, path: str) -> InputError:
        """The error for a file without something."""
        return InputError(f"{self.source} has no {what} {self.inside}{path}", _FIX)


def read_json(path: Path) -> Content:
    """The object in a JSON file.

    Raises:
        InputError: it holds no JSON object.
        LatkitError: it cannot be read.
    """
    try:
        value = read_json_file(path)
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON in UTF-8 ({str(error)[:120]})", _FIX) from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object", _FIX)
    return Content(str(path), value)
