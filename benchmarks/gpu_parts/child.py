"""The process of one part: ``python -m benchmarks.gpu_parts.child FD JSON``.

Reports go to the file descriptor as lines of JSON; the last one is the part's end.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

# A hung part's stacks go to the log this long before it is killed.
STACKS_BEFORE_S = 3


def main() -> None:
    os.setpgrp()  # whatever a part starts is killed with it
    descriptor, task = int(sys.argv[1]), json.loads(sys.argv[2])
    if task["limit_s"] > STACKS_BEFORE_S:
        faulthandler.dump_traceback_later(task["limit_s"] - STACKS_BEFORE_S)
    faulthandler.enable()
    pipe = os.fdopen(descriptor, "w", encoding="utf-8")

    def send(report: dict[str, Any]) -> None:
        pipe.write(json.dumps(report) + "\n")
        pipe.flush()

    send({"end": run(task, send)})


def run(task: dict[str, Any], send: Any) -> dict[str, str]:
    """Run a part; how it ended."""
    try:
        from benchmarks.gpu_parts.part import Context, Skipped
    except Exception as error:  # a package that is missing or broken here
        traceback.print_exc()
        return {"verdict": "failed", "reason": f"{type(error).__name__}: {error}"}
    context = Context(
        task["device"], task["quick"], Path(task["work"]), tuple(task["arguments"]), send
    )
    module, _, name = task["function"].partition(":")
    try:
        getattr(importlib.import_module(module), name)(context)
    except Skipped as skipped:
        return {"verdict": "skipped", "reason": str(skipped)}
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        verdict = "out of memory" if is_out_of_memory(error) else "failed"
        return {"verdict": verdict, "reason": reason}
    if context.failed_checks:
        return {"verdict": "failed", "reason": f"not so: {', '.join(context.failed_checks)}"}
    return {"verdict": "ok", "reason": ""}


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that memory ran out."""
    from latkit.core.memory import memory_ran_out

    while error is not None:
        if memory_ran_out(error):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
