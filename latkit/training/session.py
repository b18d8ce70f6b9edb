"""A training in its folder: what it is of, one process at a time, seed after seed.

The folder holds ``config.json``, a folder ``seed-N`` for each seed and, once a seed is done,
``training.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import filelock

from latkit.core.errors import TrainingError, from_os_error
from latkit.core.files import write_json_atomically
from latkit.search.distributed import Processes
from latkit.search.identity import named_differences
from latkit.training.data import TrainingData
from latkit.training.request import TrainingPlan

CONFIG = "config.json"


def identity(plan: TrainingPlan, data: TrainingData) -> dict[str, Any]:
    """What two trainings of one folder have in common, as JSON; their seeds may differ."""
    content: dict[str, Any] = json.loads(
        json.dumps(
            {
                "space": plan.space.name,
                "genotype": str(plan.architecture),
                "network": plan.network.to_dict(),
                "config": plan.config.to_dict(),
                "data": data.identity(),
            }
        )
    )
    return content


@contextmanager
def claimed(out: Path, content: dict[str, Any], processes: Processes) -> Iterator[None]:
    """The folder for this training, made or gone on with, locked as long as this lasts.

    Raises:
        TrainingError: it holds another training, or another process trains in it.
        LatkitError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / ".lock", blocking=False)
        with lock if processes.is_main else nullcontext():
            if processes.is_main:
                _claim(out, content)
            # The others read the folder only when it is known to hold this training.
            processes.wait()
            yield
    except filelock.Timeout:
        raise TrainingError(
            f"another process is training in {out}", "wait for it, or choose another --out"
        ) from None
    except OSError as error:
        kept = "the last checkpoint is kept; then run the same command again"
        raise from_os_error(error, f"write the training in {out}", kept) from None


def _claim(out: Path, content: dict[str, Any]) -> None:
    """Write ``config.json``, or check that the folder's training is this one."""
    path = out / CONFIG
    if not path.exists():
        if any(out.glob("*.json")) or any(out.glob("*.parquet")) or any(out.glob("seed-*")):
            raise TrainingError(
                f"{out} holds something else, or a training whose {CONFIG} is missing",
                "choose another --out, or put the file back",
            )
        write_json_atomically(path, content)
        return
    try:
        changed = named_differences(content, dict(json.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except (TypeError, ValueError):
        raise TrainingError(
            f"{path} is corrupt: it is not an object of JSON",
            "put it back from a copy, or choose another --out",
        ) from None
    if changed:
        raise TrainingError(
            f"{out} holds another training or search (now / then: {'; '.join(changed)})",
            "choose another --out, or repeat the earlier command exactly, on the same data",
        )
