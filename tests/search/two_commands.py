"""Started by torchrun: ``latkit``, which is to leave no threads of gloo's to the interpreter's end.

There they now and then ask for the lock of an interpreter that is gone, and the process aborts.
"""

from __future__ import annotations

from pathlib import Path

from latkit.cli.main import main

if __name__ == "__main__":
    try:
        main()
    finally:
        threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        assert not [name for name in threads if "gloo" in name], threads
