"""The one reader of architectures: what users type or have in files, for every command.

A text holds architectures in one of two ways. A *list* has one a line: texts of the space,
identifiers, names of the zoo, genotypes. A *document* (a Python file, a log, YAML) has genotypes or
cells' texts somewhere among other lines, which are passed over. Nothing is executed.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from latkit.core.errors import InputError, LatkitError, SpaceError, from_os_error
from latkit.core.files import expand_user
from latkit.spaces.base import Architecture, ChoiceMatrix, SearchSpace
from latkit.spaces.darts.genotype import parse_genotype
from latkit.spaces.darts.zoo import find_genotype
from latkit.spaces.passages import (
    Passage,
    Passages,
    find_in_json,
    find_passages,
    is_genotype_call,
)
from latkit.spaces.registry import get_space

# A whole architecture where the text has one, such as both cells of a genotype, else a choice
# matrix of one row.
Cell: TypeAlias = Architecture | ChoiceMatrix

# What a user may write for one architecture or several.
Given: TypeAlias = str | int | os.PathLike[str]

MAX_LISTED = 8
_NUMBERS = re.compile(r"[\d\s,;\[\]()]+")


@dataclass(frozen=True)
class NamedArchitecture:
    """An architecture that was read.

    Attributes:
        label: what the user calls it by: its text or name, ``FILE``, ``FILE:NAME``, ``FILE:LINE``.
        cell: both cells of a genotype, else the row of a choice matrix, ``1 x E``.
    """

    label: str
    cell: Cell

    def row(self, space: SearchSpace) -> ChoiceMatrix:
        """The point of the space, ``1 x E``; of a genotype the normal cell counts.

        Raises:
            InputError: the genotype is none of the space.
        """
        try:
            return as_row(self.cell, space)
        except LatkitError as error:
            raise _about(_shown(self.label), error) from None


def read_architectures(given: Given, space: SearchSpace) -> list[NamedArchitecture]:
    """Every architecture that an argument of a command names.

    Args:
        given: ``-`` for standard input, a name of the zoo, an identifier, a file, ``FILE:NAME`` or
            ``FILE:LINE`` for one of several in it, or the text of architectures. A file is JSON
            (the ``result.json`` of a search, its ``sweep.json``) or text. A file that is called
            like a genotype of the zoo is written ``./NAME``.
        space: which identifiers and cells' texts are of.

    Raises:
        InputError: there is no architecture in it, or one of them is malformed or not of the
            space.
        LatkitError: the file cannot be read.
    """
    path, only = None, None
    given = os.fspath(given) if isinstance(given, os.PathLike) else str(given)
    if given.startswith("~"):  # of no architecture's text; a shell leaves it in FILE:NAME
        given = str(expand_user(given))
    if given == "-":
        path, content = given, _read_standard_input()
    elif _by_name(given, space) is not None:
        content = given
    elif _is_file(given):
        path, content = given, _read_file(given)
    else:
        file, _, name = given.rpartition(":")
        if re.fullmatch(r"[\w.-]+", name) and (_is_file(file) or _is_like_a_path(file)):
            path, only, content = file, name, _read_file(file)
        elif _is_like_a_path(given):
            content = _read_file(given)  # which says why it cannot
        else:
            content = given
    passages = _choose(_passages_of(content, path), only, path, space)
    if not passages:
        where = {None: "the text", "-": "standard input"}.get(path, path)
        missing = f"no {only!r}" if only is not None else "no genotype, nor another architecture"
        raise InputError(f"{where} has {missing}", _fix(_passages_of(content, path), path))
    names = [passage.name for passage in passages]
    architectures = []
    for passage in passages:
        label = _label(passage, path, given, len(names) == 1, names.count(passage.name) == 1)
        try:
            architectures.append(NamedArchitecture(label, _parse(passage.text, space)))
        except LatkitError as error:
            place = _shown(label) if path is None or passage.name else f"{path}:{passage.line}"
            raise _about(place, error) from None
    return architectures


def read_architecture(given: Given, space: SearchSpace) -> NamedArchitecture:
    """The one architecture that an argument of a command names; see :func:`read_architectures`.

    Raises:
        InputError: it names none, several different ones, or a malformed one.
        LatkitError: a file cannot be read.
    """
    found = read_architectures(given, space)
    if any(str(other.cell) != str(found[0].cell) for other in found):
        labels = ", ".join(architecture.label for architecture in found[:MAX_LISTED])
        raise InputError(
            f"{_shown(str(given))} has {len(found)} architectures, and one is needed",
            f"name one: {labels}{', ...' if len(found) > MAX_LISTED else ''}",
        )
    return found[0]


def parse_architecture(text: str, space: SearchSpace) -> Cell:
    """The one architecture of a text alone, e.g. of a table's cell; files are not read.

    Args:
        text: an identifier, a name of the zoo, a cell's text, or a genotype in whatever form; a
            name or a log's prefix may stand before the latter two.
        space: which identifiers and cells' texts are of.

    Raises:
        InputError: it is none of these, or several.
        SpaceError: it is not of the space.
    """
    passages = _passages_of(text, None).found
    if len(passages) > 1:
        raise InputError(f"{_shown(text)} has {len(passages)} architectures", "write one")
    return _parse(passages[0].text if passages else text.strip(), space)


def parse_row(text: str, space: SearchSpace) -> ChoiceMatrix:
    """The point of the space that a text names, ``1 x E``; of a genotype the normal cell counts.

    Raises:
        InputError: it names none, or several; see :func:`parse_architecture`.
        SpaceError: it is not of the space.
    """
    return as_row(parse_architecture(text, space), space)


def as_row(cell: Cell, space: SearchSpace) -> ChoiceMatrix:
    """The point of the space that was read, ``1 x E``.

    Raises:
        InputError: it is a genotype, and the space another one.
        SpaceError: its normal cell is not a point of the space.
    """
    if isinstance(cell, np.ndarray):
        return cell
    if cell.space != space.name:
        raise InputError(
            f"a genotype is of the space {cell.space}, not {space.name}",
            f"use the space {cell.space}, or an architecture of {space.name}",
        )
    return space.row_of(cell)


def _parse(text: str, space: SearchSpace) -> Cell:
    """One architecture."""
    cell = _by_name(text, space)
    if cell is not None:
        return cell
    if is_genotype_call(text):
        genotype = parse_genotype(text)
        try:
            # Only genotypes of the zoo may have other nodes and operations than the space.
            get_space("darts").check_cells(genotype)
        except SpaceError as error:
            raise InputError(error.cause, error.fix) from None
        return genotype
    return space.parse(text)


def _by_name(text: str, space: SearchSpace) -> Cell | None:
    """The architecture of a zoo's name or an identifier; None for other texts."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        if len(text) > 30:
            raise InputError(f"{text[:30]}... is no identifier", "use a smaller number")
        return space.unrank([int(text)])
    return space.find(text) or find_genotype(text)


def _passages_of(content: str, path: str | None) -> Passages:
    """The passages of a file's content or of an argument."""
    is_json = (path or "").lower().endswith(".json")
    if is_json or content.lstrip().startswith("{"):
        try:
            return find_in_json(json.loads(content))
        except (ValueError, RecursionError):  # a log of an object a line, say
            return Passages(find_passages(content).found, [])
    return find_passages(content)


def _choose(
    passages: Passages, only: str | None, path: str | None, space: SearchSpace
) -> list[Passage]:
    """The passages that are meant: of one name, of a document, or the lines of a list too."""
    if only is not None:
        return passages.named(only)
    others = passages.others
    is_list = (
        not passages.found
        or any(_is_entry(other.text, space) for other in others)
        or all(re.fullmatch(r"\S*\w\S*", other.text) for other in others)
    )
    if path is None and not passages.found:  # an argument, which may go over several lines
        text = " ".join(other.text for other in others)
        return [Passage(text, 1)] if text else []
    return sorted([*passages.found, *(others if is_list else [])], key=lambda p: p.line)


def _is_entry(line: str, space: SearchSpace) -> bool:
    """Whether a line alone is an architecture by its name or numbers."""
    if find_genotype(line) is not None:
        return True
    try:
        return bool(_NUMBERS.fullmatch(line)) and _parse(line, space) is not None
    except LatkitError:
        return False


def _label(passage: Passage, path: str | None, given: str, alone: bool, unique: bool) -> str:
    if path is None:
        return " ".join(given.split()) if alone else passage.name or _shown(passage.text)
    if passage.name is not None and unique:
        return f"{path}:{passage.name}"
    if not is_genotype_call(passage.text):
        return passage.text
    return path if alone else f"{path}:{passage.line}"


def _fix(passages: Passages, path: str | None) -> str:
    names = dict.fromkeys(passage.name for passage in passages.found if passage.name)
    if path is None or not names:
        return "name the result.json of a search, or a text with one architecture a line"
    listed = ", ".join(f"{path}:{name}" for name in [*names][:MAX_LISTED])
    return f"use one of: {listed}{', ...' if len(names) > MAX_LISTED else ''}"


def _about(place: str, error: LatkitError) -> LatkitError:
    if place in error.cause:
        return error
    return type(error)(f"{place}: {error.cause}", error.fix)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _is_file(path: str) -> bool:
    """Whether there is something to read; a pipe counts."""
    return os.path.exists(path) and not os.path.isdir(path)


def _is_like_a_path(text: str) -> bool:
    """Whether what is no file was meant to be one."""
    is_cell = "|" in text or "Genotype" in text
    return not is_cell and re.search(r"[/\\]|\.\w{1,9}$", text.strip()) is not None


def _read_standard_input() -> str:
    if sys.stdin is None:  # closed by the caller
        raise InputError("standard input is closed", "name a file instead of -")
    return _decode(sys.stdin.buffer.read(), "standard input")


def _read_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return _decode(file.read(), path)
    except (OSError, ValueError) as error:
        problem = error if isinstance(error, OSError) else OSError(str(error))
        raise from_os_error(problem, f"read {path}", "nothing was changed") from None


def _decode(content: bytes, where: str) -> str:
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            f"{where} is not text", "name the result.json of a search or a text file"
        ) from None
