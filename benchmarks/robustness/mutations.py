"""Changes of valid files, drawn by hypothesis so that what fails can be made smaller."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")
Path = tuple[Any, ...]

# Texts of JSON that no field of a file has; also such as JSON itself has not.
FRAGMENTS = (
    "null", "true", "false", "0", "-1", "1", "2", "1.5", "-0.0", "1e308", "1e-320", "1e999",
    "-1e999", "NaN", "Infinity", "-Infinity", str(2**31), str(2**63), str(-(2**63) - 1),
    str(2**64), "9" * 400, "9" * 5000, '""', '"x"', '"nan"', '"1"', '"\\ud800"', '"\\u0000"',
    '"\\u202e\\u001b[2J"', '"../../outside/evil"', '"OUTSIDE/evil"', '"{{ 7 * 7 }}"',
    '"<script>1</script>"', '"' + "x" * 100_000 + '"', "[]", "{}", "[[]]", "[null]", '[""]',
    "[NaN]", '{"a": 1}', '{"": {}}', "[" * 900 + "]" * 900, "[" * 100_000 + "]" * 100_000,
    '{"a":' * 3000 + "1" + "}" * 3000, '"darts"', '"nasbench201"', '"fbnet"', '"latency_ms"',
)  # fmt: skip
NUMBERS = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


class Mutator:
    """Draws changes.

    Args:
        data: hypothesis's, of one example.
        outside: a folder in which nothing may be written, for paths to it.

    Attributes:
        notes: what was changed, for people.
    """

    def __init__(self, data: Any, outside: str) -> None:
        self._data = data
        self._outside = outside
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text[:200])

    def integer(self, low: int, high: int) -> int:
        return int(self._data.draw(st.integers(low, high)))

    def choice(self, values: Sequence[T]) -> T:
        return values[self.integer(0, len(values) - 1)]

    def chance(self, percent: int) -> bool:
        return self.integer(1, 100) > 100 - percent

    def fragment(self) -> str:
        """A text of JSON."""
        return self.choice(FRAGMENTS).replace("OUTSIDE", self._outside)

    def path(self) -> str:
        """A path that leads out of where it is read from."""
        return self.choice(
            ("../evil", "../../outside/evil", f"{self._outside}/evil", "", ".", "..",
             "a/../../../outside/evil", "x" * 300, "a\0b", "-", "con:", "\ud800",
             f"{self._outside}/secret", "../../outside/secret", "/dev/zero")
        )  # fmt: skip

    def content(self, content: bytes, most: int = 4) -> bytes:
        """Bytes with one to ``most`` changes."""
        for _ in range(self.integer(1, most)):
            content = self._change(content)
        return content

    def _change(self, content: bytes) -> bytes:
        size = len(content)
        # The ends of a file are where formats have their heads and tables.
        end = self.integer(0, 2)
        at = self.integer(0, max(0, size - 1 if end == 0 else min(size - 1, 300)))
        at = max(0, size - 1 - at) if end == 2 else at
        how = self.integer(0, 7)
        self.note(f"bytes: change {how} at {at} of {size}")
        if how == 0:
            return content[:at]
        if how in (1, 2):
            return content[:at] + bytes([self.integer(0, 255)]) + content[at + 1 :]
        if how == 3:
            return content[:at] + bytes(self.integer(1, 64)) + content[at:]
        if how == 4:
            width = self.choice((1, 2, 4, 8))
            number = self.choice(NUMBERS) % 2 ** (8 * width)
            return content[:at] + number.to_bytes(width, "little") + content[at + width :]
        if how == 5:
            return content[:at] + content[at + self.integer(1, 64) :]
        if how == 6:
            length = self.integer(1, 200)
            return content[:at] + content[at : at + length] * 2 + content[at + length :]
        flipped = content[at : at + 1]
        bit = 1 << self.integer(0, 7)
        return content[:at] + bytes(b ^ bit for b in flipped) + content[at + 1 :]

    def json(self, document: Any, most: int = 3) -> bytes:
        """The text of a JSON document with changes."""
        if self.chance(12):
            return self.content(json.dumps(document).encode())
        document = copy.deepcopy(document)
        raw: list[str] = []

        def put(fragment: str) -> str:
            raw.append(fragment)
            return f"@RAW{len(raw) - 1}@"

        for _ in range(self.integer(1, most)):
            document = self._change_json(document, put)
        text = json.dumps(document, ensure_ascii=False)
        text = re.sub(r'"@RAW(\d+)@"', lambda match: raw[int(match[1])], text)
        if self.chance(5):
            self.note("further text at the end")
            text += self.choice(("{}", "]", "\0", " ", "\n\n", "x"))
        return text.encode("utf-8", self.choice(("surrogatepass", "replace")))

    def _change_json(self, document: Any, put: Any) -> Any:
        places = list(_places(document))
        where = self.choice(places)
        how = self.integer(0, 9)
        if not where:
            how = 0 if self.chance(20) else 9
        if how <= 4 or not where:
            fragment = self.fragment()
            if how == 9 and isinstance(document, dict) and document:
                name = self.choice(list(document))
                self.note(f"{name} is also {fragment[:40]}")
                twice = put(f"{json.dumps(name)}: {fragment}, {json.dumps(name)}")
                return {**document, twice: document[name]}
            self.note(f"{'.'.join(map(str, where)) or 'all'} = {fragment[:60]}")
            return _with(document, where, put(fragment))
        if how <= 6:
            self.note(f"without {'.'.join(map(str, where))}")
            return _with(document, where, _NOTHING)
        if how == 7:
            other = self.choice(places)
            self.note(f"{'.'.join(map(str, where))} is that of {'.'.join(map(str, other))}")
            return _with(document, where, copy.deepcopy(_at(document, other)))
        if how == 8:
            name = self.choice(("", "further", "__class__", "kind", "x" * 1000, "\ud800", "a.b"))
            self.note(f"{name[:20]!r} beside {'.'.join(map(str, where))}")
            parent = _at(document, where[:-1])
            if isinstance(parent, dict):
                parent[name] = put(self.fragment())
            elif isinstance(parent, list):
                parent.append(put(self.fragment()))
            return document
        value = _at(document, where)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            factor = self.choice((-1, 0, 2, 1e-9, 1e9, 1e300, 10**30))
            self.note(f"{'.'.join(map(str, where))} times {factor}")
            return _with(document, where, put(_number(value * factor)))
        if isinstance(value, list):
            self.note(f"{'.'.join(map(str, where))} twice")
            return _with(document, where, value + copy.deepcopy(value))
        if isinstance(value, str):
            path = self.path()
            self.note(f"{'.'.join(map(str, where))} = {path[:60]!r}")
            return _with(document, where, path)
        return document


_NOTHING = object()


def _number(value: float) -> str:
    return json.dumps(value)


def _places(document: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _places(value, (*path, name))
    elif isinstance(document, list):
        for index, value in enumerate(document[:20]):
            yield from _places(value, (*path, index))


def _at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _with(document: Any, path: Path, value: Any) -> Any:
    if not path:
        return None if value is _NOTHING else value
    parent = _at(document, path[:-1])
    if value is _NOTHING:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return document
