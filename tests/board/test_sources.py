"""What a bundle takes of latkit: modules for Python 3.8 that need NumPy and a runtime alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from latkit.tasks.bundle import FORMATS
from latkit.tasks.bundle_file import _MAIN, board_sources

ROOTS = ("latkit.board.main", "latkit.board.measure")
SOURCES = board_sources(*ROOTS, *(made.module for made in FORMATS.values()))
# Where a user has no home folder: never called on a board.
HOME_ONLY = {"platformdirs"}
# Names of the library that Python 3.8 lacks.
NEW_ATTRIBUTES = {
    "removeprefix", "removesuffix", "is_relative_to", "cache", "pairwise", "bit_count",
    "randbytes", "stdlib_module_names",
}  # fmt: skip
NEW_KEYWORDS = {"strict", "kw_only", "slots"}
# What subscripts where it is no annotation since 3.9.
GENERIC = {
    "dict", "list", "tuple", "set", "frozenset", "type", "Counter", "deque", "defaultdict",
    "Callable", "Iterable", "Iterator", "Mapping", "Sequence",
}  # fmt: skip


def run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What runs: all but annotations, and what is for type checkers."""
    if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from run_nodes(child)


def test_packages_are_empty() -> None:
    assert {text for file, text in SOURCES.items() if file.endswith("__init__.py")} == {""}
    assert "latkit/backends/__init__.py" in SOURCES


@pytest.mark.parametrize("file", [file for file, text in SOURCES.items() if text])
def test_python_3_8_runs_it(file: str) -> None:
    tree = ast.parse(SOURCES[file], feature_version=(3, 8))
    # Annotations are texts then, whatever is in them.
    assert "from __future__ import annotations" in SOURCES[file]
    for node in run_nodes(tree):
        if isinstance(node, ast.Attribute):
            assert node.attr not in NEW_ATTRIBUTES, node.lineno
        elif isinstance(node, ast.keyword):
            assert node.arg not in NEW_KEYWORDS, node.lineno
        elif isinstance(node, ast.Subscript):
            assert getattr(node.value, "id", "") not in GENERIC, node.lineno
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = (node.left, node.right)  # a union of types, or of dictionaries
            assert not any(isinstance(side, (ast.Dict, ast.Subscript)) for side in sides)
            assert not any(getattr(side, "value", 0) is None for side in sides)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or alias.name for alias in node.names]
            for name in {name.partition(".")[0] for name in names}:
                allowed = {*sys.stdlib_module_names, "numpy", "onnxruntime", "latkit", *HOME_ONLY}
                assert name in allowed, (name, node.lineno)


def test_the_first_lines_are_for_any_python() -> None:
    refusal, *_ = _MAIN.partition("from latkit")
    compile(refusal, "__main__.py", "exec")
    assert 'f"' not in refusal
