"""Record the names of releases of nvidia-ml-py, as the tests of the meters use them.

    python tests/meters/record_nvml.py FOLDER

FOLDER has a folder ``nvidia_ml_py-VERSION`` with the unpacked wheel of each release. Nothing is
imported. Written is ``nvml-names.json``: the releases; of each function its arguments (``=`` after
those with defaults) and a digit a release, 1 where it has it; likewise of the bits of the mask of
clock-event reasons, and of the enumerators that latkit has by their values.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

ENUMERATORS = ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU")


def signature(function: ast.FunctionDef) -> str:
    arguments = function.args
    required = len(arguments.args) - len(arguments.defaults)
    names = [a.arg + "=" * (i >= required) for i, a in enumerate(arguments.args)]
    return ", ".join(names)


def names(source: str) -> dict[tuple[str, str], object]:
    """Functions, bits and enumerators of a release, by their kind and name."""
    found: dict[tuple[str, str], object] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("nvml"):
            found["functions", node.name] = signature(node)
        elif isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
            found["errors", node.name] = ", ".join(ast.unparse(base) for base in node.bases)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            name = ast.unparse(node.targets[0])
            if re.match(r"nvmlClocks(Event|Throttle)Reason", name) or name in ENUMERATORS:
                found["values", name] = node.value.value
    return found


if __name__ == "__main__":
    folders = sorted(Path(sys.argv[1]).glob("nvidia_ml_py-*"))
    releases = [names((folder / "pynvml.py").read_text()) for folder in folders]
    record: dict[str, dict[str, list[object]]] = {"functions": {}, "errors": {}, "values": {}}
    for kind, name in sorted({key for release in releases for key in release}):
        says = [release[kind, name] for release in releases if (kind, name) in release]
        assert len(set(says)) == 1 or kind == "functions", (name, says)
        there = "".join(str(int((kind, name) in release)) for release in releases)
        record[kind][name] = [says[-1], there]
    versions = [folder.name.partition("-")[2] for folder in folders]
    text = json.dumps({"releases": versions, **record}, separators=(",", ":"))
    out = Path(__file__).with_name("nvml-names.json")
    out.write_text(text.replace("],", "],\n").replace("{", "{\n") + "\n")
