"""The figures of killed commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class Results:
    """The figures, written after each command; those of other commands in the file stay.

    Args:
        path: of the file; None: they are only printed.
        head: what they have in common.
    """

    def __init__(self, path: Path | None, head: dict[str, Any]) -> None:
        self._path = path
        self._content: dict[str, Any] = {**head, "kills": 0, "commands": [], "full_disks": []}
        if path is not None and path.exists():
            earlier = json.loads(path.read_text())
            self._content |= {name: earlier[name] for name in ("commands", "full_disks")}
        self.has_findings = False

    def add(self, kind: str, result: dict[str, Any]) -> None:
        """Add those of one command."""
        print(json.dumps(result), file=sys.stderr, flush=True)
        self.has_findings |= bool(result["findings"])
        others = [r for r in self._content[kind] if r["command"] != result["command"]]
        self._content[kind] = [*others, result]
        self._content["kills"] = sum(r["kills"] for r in self._content["commands"])
        if self._path is not None:
            self._path.write_text(json.dumps(self._content, indent=1) + "\n")
