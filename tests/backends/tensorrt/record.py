"""Record the Python API of a TensorRT release, as the tests of the tensorrt backend use it.

    python tests/backends/tensorrt/record.py FOLDER VERSION

FOLDER has the unpacked wheel ``tensorrt-bindings`` (or ``tensorrt-cu12-bindings``, ...), which is
small, needs no GPU, and loads against any libraries of the right names that define the symbols it
asks for, be they empty: nothing is called. Written is ``api-VERSION.json``: by class, every public
name, with the names of a method's arguments (``=`` after those with defaults), or null.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

# The classes that a user of engines and builders meets.
CLASSES = (
    "Builder", "BuilderFlag", "DataType", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "IHostMemory", "ILogger", "INetworkDefinition", "ITimingCache", "Logger", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParser", "ParserError", "Runtime", "TensorIOMode",
)  # fmt: skip


def arguments(documentation: str, name: str) -> list[str] | None:
    """The arguments in pybind's docstring, of the first overload; None if it is not a method."""
    match = re.search(rf"{name}\((self[^()]*(?:\([^()]*\)[^()]*)*)\) ->", documentation)
    if match is None:
        return None
    parts = re.split(r",\s*(?=\w+:)", match[1])[1:]
    return [part.split(":")[0] + ("=" if " = " in part else "") for part in parts]


def record(module: Any) -> dict[str, dict[str, list[str] | None]]:
    api: dict[str, dict[str, list[str] | None]] = {
        "": {name: None for name in sorted(vars(module)) if not name.startswith("_")}
    }
    for cls in CLASSES:
        owner = getattr(module, cls)
        names = [n for n in sorted(dir(owner)) if n == "__init__" or not n.startswith("_")]
        api[cls] = {n: arguments(getattr(owner, n).__doc__ or "", n) for n in names}
    return api


if __name__ == "__main__":
    folder, version = Path(sys.argv[1]), sys.argv[2]
    sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)
    path = folder / "tensorrt_bindings" / "tensorrt.so"
    spec = importlib.util.spec_from_file_location("tensorrt", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = Path(__file__).with_name(f"api-{version}.json")
    out.write_text(json.dumps(record(module), separators=(",", ":")).replace("},", "},\n") + "\n")
