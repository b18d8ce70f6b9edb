"""The file of a bundle: an archive that Python runs, with those modules of latkit that it needs."""

from __future__ import annotations

import ast
import importlib.util
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

_SHEBANG = b"#!/usr/bin/env python3\n"
# Any Python, however old, reads this far.
_MAIN = """\
import sys

if sys.version_info < (3, 8):
    sys.exit(
        "latkit: this bundle needs Python 3.8 or newer, and this is Python %d.%d. "
        "Fix: run it by a newer one" % sys.version_info[:2]
    )
from latkit.board.main import main

main()
"""


def write_bundle(path: Path, files: Iterable[tuple[str, bytes]], board_module: str) -> None:
    """Write an archive of files, and of the modules that run it.

    The same content gives the same bytes.

    Args:
        path: is overwritten.
        files: names and contents.
        board_module: what runs the networks, of ``latkit.board``.

    Raises:
        OSError: the file cannot be written.
    """
    sources = board_sources("latkit.board.main", "latkit.board.measure", board_module)
    with open(path, "wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in {"__main__.py": _MAIN, **sources}.items():
                _add(archive, name, text.encode())
            for name, content in files:
                _add(archive, name, content)
    path.chmod(0o755)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A ZipInfo of its own has a fixed date.
    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def board_sources(*modules: str) -> dict[str, str]:
    """The sources of modules and of all of latkit that they import, by their files.

    Packages are empty: what latkit's own import at home, a board does not have.
    """
    texts: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in texts:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            texts[name] = Path(spec.origin).read_text(encoding="utf-8")
            todo += _imports(ast.parse(texts[name]))
    files = {f"{name.replace('.', '/')}.py": text for name, text in sorted(texts.items())}
    folders = {parent for name in files for parent in PurePosixPath(name).parents[:-1]}
    return {**{f"{folder}/__init__.py": "" for folder in sorted(folders)}, **files}


def _imports(node: ast.AST) -> Iterator[str]:
    """Modules of latkit that are imported, but for type checkers alone."""
    if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith("latkit."))
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("latkit."):
        yield str(node.module)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)
