"""Where in a text the architectures are: the syntax of logs, Python, YAML and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from latkit.spaces.darts.genotype import FIELDS

# ``class Genotype(NamedTuple)`` defines the type and is none; ``Genotype(normal=...)`` is prose.
_CALL = re.compile(
    r"(?<![\w.])(?<!class )(?:\w+\.)*Genotype\s*\((?!\s*(?:\w+\s*=\s*)?[\[(]*\.\.\.)"
)
# Brackets count outside of comments and quotes alone.
_BRACKET = re.compile(r"#[^\n]*|'[^'\n]*'|\"[^\"\n]*\"|[()\[\]{}]")
# What stands before a passage where it has a name: ``NAME =``, or a key of YAML or a dictionary.
_NAME = re.compile(
    r"([A-Za-z_][\w.-]*)[\"']?\s*(?::[ \t]*[A-Za-z_][\w.]*[ \t]*)?"
    r"[:=]\s*(?:\\\n|[>|][+-]?\s)?\s*[\"'(]?$"
)
# A cell's text, ``|op~0|+|op~0|op~1|``: words that begin like it, joined by plus signs.
_BLOCKS = re.compile(r"\|[^|\s~]+~\S*(?:(?:\s*\+\s*|(?<=\+)\s+)\|\S*)*")
# A chain's text, a number a layer, which counts where a field's name says what it is.
_CHAIN = re.compile(r"\s*[\[(]?\s*\d+(?:[\s,]+\d+)+\s*[\])]?\s*")
_COMMENT_LINE = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_ALIAS = re.compile(r"(\w+)\s*=\s*(\w+)")


@dataclass(frozen=True)
class Passage:
    """What stands for one architecture.

    Attributes:
        text: it alone.
        line: where it begins, from 1; in JSON its place among the file's passages.
        name: what it is assigned to, or None.
    """

    text: str
    line: int
    name: str | None = None


@dataclass(frozen=True)
class Passages:
    """The passages of a text, and its other lines, which are neither blank nor comments."""

    found: list[Passage]
    others: list[Passage]

    def named(self, name: str) -> list[Passage]:
        """Those of a name, of another name for it (``DARTS = DARTS_V2``), or of a line's number."""
        for other in self.others:
            alias = _ALIAS.fullmatch(other.text)
            if alias is not None and alias[1] == name:
                name = alias[2]
        passages = [*self.found, *self.others]
        return [p for p in passages if name in (p.name, str(p.line))]


def is_genotype_call(text: str) -> bool:
    """Whether a passage is a ``Genotype(...)``."""
    return _CALL.match(text) is not None


def find_passages(text: str) -> Passages:
    """Every ``Genotype(...)``, and every text of a cell, wherever in the text it stands.

    A call that is not closed reaches to the next one, or to the end of the text. Prose about
    genotypes, ``Genotype(normal=..., ...)``, is none.
    """
    text = _COMMENT_LINE.sub("", re.sub("\r\n?", "\n", text))
    found: list[Passage] = []
    rest: list[str] = []
    line, position = 1, 0
    for call in _CALL.finditer(text):
        start = call.start()
        if start < position:  # within the last one
            continue
        end = _closing_bracket(text, call.end())
        line += text.count("\n", position, start)
        found.append(Passage(text[start:end], line, _name_before(text, start)))
        lines = text.count("\n", start, end)
        rest += [text[position:start], "\r", "\n\r" * lines]
        line, position = line + lines, end
    outside, position, line = "".join([*rest, text[position:]]), 0, 1
    for match in _BLOCKS.finditer(outside):
        line += outside.count("\n", position, match.start())
        position = match.start()
        cell = re.sub(r"\s*\n\s*", "", match[0][: match[0].rindex("|") + 1])
        found.append(Passage(cell, line, _name_before(outside, position)))
    others: list[Passage] = []
    for number, content in enumerate(_BLOCKS.sub(_marked, outside).split("\n"), start=1):
        entry = re.sub(r"\s#.*", "", content).strip()
        if entry and "\r" not in content:
            others.append(Passage(entry, number))
    return Passages(sorted(found, key=lambda passage: passage.line), others)


def find_in_json(value: Any) -> Passages:
    """The architectures of a JSON value.

    Of an object with ``genotype`` or ``arch`` only that counts, be it a text or an object of a
    genotype's fields; its ``name`` or its key is the passage's name. The texts of a list that is
    the whole value are an architecture each.
    """
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return Passages([Passage(item, number) for number, item in enumerate(value, start=1)], [])
    texts = enumerate(_in_json(value, None), start=1)
    return Passages([Passage(text, number, name) for number, (name, text) in texts], [])


def _in_json(value: Any, name: str | None) -> Iterator[tuple[str | None, str]]:
    if isinstance(value, str):
        for passage in find_passages(value).found:
            yield name or passage.name, passage.text
    elif isinstance(value, list):
        for item in value:
            yield from _in_json(item, name)
    elif isinstance(value, dict):
        if isinstance(value.get("name"), str):
            name = value["name"]
        if set(FIELDS) <= set(value):
            fields = ", ".join(f"{field}={content!r}" for field, content in value.items())
            yield name, f"Genotype({fields})"
            return
        for field in ("genotype", "arch"):
            if field in value:
                content = value[field]
                if isinstance(content, str) and _CHAIN.fullmatch(content):
                    yield name, content
                else:
                    yield from _in_json(content, name)
                return
        for key, content in value.items():
            yield from _in_json(content, key if isinstance(content, (str, dict)) else name)


def _marked(passage: re.Match[str]) -> str:
    """A carriage return for each line of a passage: what else is on them belongs to it."""
    return "\r" + "\n\r" * passage[0].count("\n")


def _closing_bracket(text: str, start: int) -> int:
    """The end of what the bracket of a call holds."""
    depth = 1
    following = _CALL.search(text, start)
    last = following.start() if following else len(text)
    for match in _BRACKET.finditer(text, start, last):
        if match[0] in ("(", "[", "{"):
            depth += 1
        elif match[0] in (")", "]", "}"):
            depth -= 1
            if depth == 0:
                return match.end()
    return last


def _name_before(text: str, end: int) -> str | None:
    match = _NAME.search(text[max(0, end - 200) : end])
    return None if match is None else match[1]
