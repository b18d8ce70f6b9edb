"""Record the runtime API of releases of cuda-python, as the tests of the tensorrt backend use it.

    python tests/backends/tensorrt/record_cuda.py FOLDER

FOLDER has a folder ``NAME-VERSION`` with the unpacked wheel of each release of ``cuda_bindings``,
or of ``cuda_python`` before there was that, with ``cuda/pathfinder`` (of ``cuda-pathfinder``) in it
where it imports that. They import without a GPU or a driver. Written is ``cuda-api.json``: the
releases, with the module that each has; of each function its arguments, and a digit a release, 1
where it has it so; likewise of the attributes of the classes that are used.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

MODULES = ("cuda.bindings.runtime", "cuda.cudart")
CLASSES = ("cudaDeviceProp", "cudaMemcpyKind", "cudaError_t")
# In a process of its own for each release: extension modules stay loaded.
NAMES = """
import importlib, json, sys
for module in sys.argv[1:3]:
    try:
        runtime = importlib.import_module(module)
        break
    except ModuleNotFoundError:
        continue
first = lambda owner: (getattr(owner, "__doc__", None) or "").partition("\\n")[0]
functions = {n: first(getattr(runtime, n)) for n in dir(runtime) if n.startswith("cuda")}
classes = {c: [n for n in dir(getattr(runtime, c)) if not n.startswith("_")] for c in sys.argv[3:]}
print(json.dumps([module, functions, classes]))
"""


def arguments(name: str, documentation: str) -> str | None:
    """Names of a function's arguments in Cython's docstring; None if it is no function."""
    match = re.fullmatch(rf"{name}\((.*)\)", documentation)
    if match is None:
        return None
    words = [part.partition(":")[0].split() for part in match[1].split(",") if part.strip()]
    return ", ".join(word[-1] for word in words)


def record(folder: Path) -> tuple[str, set[tuple[str, str, str]]]:
    command = [sys.executable, "-S", "-c", NAMES, *MODULES, *CLASSES]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    module, functions, classes = json.loads(done.stdout)
    found = {(cls, name, "") for cls, names in classes.items() for name in names}
    for name, documentation in functions.items():
        says = arguments(name, documentation)
        if says is not None:
            found.add(("functions", name, says))
    return module, found


if __name__ == "__main__":
    folders = sorted(Path(sys.argv[1]).glob("cuda_*-*"), key=lambda f: f.name.partition("-")[2])
    modules, names = zip(*map(record, folders), strict=True)
    kinds: dict[str, dict[str, Any]] = {"functions": {}, **{cls: {} for cls in CLASSES}}
    for kind, name, says in sorted(set().union(*names)):
        there = "".join(str(int((kind, name, says) in release)) for release in names)
        kinds[kind].setdefault(name, []).append([says, there])
    keys = [folder.name.replace("_", "-", 1) for folder in folders]
    releases = dict(zip(keys, modules, strict=True))
    text = json.dumps({"releases": releases, **kinds}, separators=(",", ":"))
    out = Path(__file__).with_name("cuda-api.json")
    out.write_text(text.replace("]],", "]],\n").replace("{", "{\n") + "\n")
