"""A search from configuration to architecture, resumable after any interruption.

The folder holds ``config.json``, ``checkpoint.safetensors``, ``history.parquet`` (a row an
epoch) and, at the end, ``result.json``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import filelock
import torch

from latkit.core.errors import InputError, SearchError, from_os_error
from latkit.core.files import write_json_atomically
from latkit.lpm.base import LPM
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.claim import CONFIG, read_config
from latkit.search.config import SearchConfig
from latkit.search.distributed import ALONE, Processes
from latkit.search.epochs import EpochLoop, SearchOutcome, SearchProgress
from latkit.search.extension import is_extension
from latkit.search.history import HISTORY
from latkit.search.identity import named_differences
from latkit.search.image_source import ImageData
from latkit.search.objectives import Objective, PredictedObjective
from latkit.search.parts import check_reach
from latkit.search.supernet import Supernet, get_supernet
from latkit.spaces import SearchSpace

__all__ = [
    "CONFIG",
    "HISTORY",
    "RESULT",
    "SearchOutcome",
    "SearchProgress",
    "check_fits",
    "run_search",
    "what_is_kept",
]

RESULT = "result.json"


def run_search(
    config: SearchConfig,
    space: SearchSpace,
    lpm: LPM,
    lpm_reference: str,
    data: ImageData,
    out: Path,
    device: str = "cpu",
    on_step: Callable[[SearchProgress], None] = lambda progress: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
    stop: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
    objective: Objective | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> SearchOutcome:
    """Search, or go on with the search that ``out`` holds; a finished one with more epochs, too.

    ``device`` is where the supernet is trained, ``cpu`` or ``cuda``; a search may go on on the
    other one, but only on the CPU does it then end in the same bytes.

    Args:
        config: the search.
        space: what is searched.
        lpm: predicts latencies in it.
        lpm_reference: identifies the LPM; a search goes on with the one it began with.
        data: the images.
        out: the search's folder; with several processes, one that all of them see.
        device: ``cpu`` or ``cuda``.
        on_step: called after each step.
        on_epoch: called with the history's row after each epoch.
        stop: called after each step: whether to write a checkpoint and end there.
        processes: this process among those that search together, connected by ``joined``.
        objective: what α's step weighs; None: what the LPM predicts.
        warn: receives a line if steps on a GPU cannot be captured as CUDA graphs.

    Raises:
        InputError: the configuration does not fit the space, the data, the number of processes,
            what the space's architectures cost, or the checkpoint that it begins with.
        SearchError: ``out`` holds another search, its checkpoint is corrupt, another process
            writes it, processes have loaded different data, or a loss is no longer finite.
        Interrupted: ``stop`` returned true; the same call goes on.
        LatkitError: ``out`` cannot be written.
    """
    config.check(space.name)
    supernet = get_supernet(config.method, space.name)
    processes.check_batch(config.batch)
    check_fits(config.batch, data, processes)
    objective = objective or PredictedObjective(lpm)
    check_reach([config.target_ms], space, objective, config.max_skips)
    identity = {
        **config.to_dict(), "space": space.name, "data": data.identity(), "lpm": lpm_reference,
    }  # fmt: skip
    check_same_everywhere(identity["data"], processes)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / ".lock", blocking=False)
        with lock if processes.is_main else nullcontext():
            if processes.is_main:
                _claim(out, identity, space, supernet)
            # The others read the folder only when it is known to hold this search.
            processes.wait()
            place = processes.place(device)
            loop = EpochLoop(config, space, lpm, objective, data, out, place, processes, warn)
            return loop.run(on_step, on_epoch, stop)
    except filelock.Timeout:
        raise SearchError(
            f"another process is searching in {out}", "wait for it, or choose another --out"
        ) from None
    except OSError as error:
        kept = f"{what_is_kept(out)}; then run the same command again"
        raise from_os_error(error, f"write the search in {out}", kept) from None


def what_is_kept(out: Path) -> str:
    """What an interruption or a failed write leaves of a search, for a message."""
    try:
        kept = (out / CHECKPOINT).exists()
    except OSError:
        kept = False
    return "the last checkpoint is kept" if kept else "nothing is kept yet"


def check_fits(batch: int, data: ImageData, processes: Processes = ALONE) -> None:
    """Raises: InputError: half of the images do not fill a batch."""
    images, world = len(data.labels), processes.world
    half = images // 2
    if batch <= half:
        return
    # Equal parts of at least two images, which batch norm needs.
    largest = half // world * world
    fix = f"use --batch {largest} or less, or more images"
    if largest < 2 * world:
        fix = f"use at least {4 * world} images (a larger --limit, or other data)"
    raise InputError(f"a batch of {batch} is larger than half of the {images} images", fix)


def check_same_everywhere(identity: dict[str, Any], processes: Processes) -> None:
    """Raises: SearchError: processes, perhaps on different machines, have loaded different data."""
    # 32 bits, so that a sum over processes is exact.
    digest = float(zlib.crc32(json.dumps(identity).encode()))
    if processes.average(torch.tensor([digest], dtype=torch.float64)).item() != digest:
        raise SearchError(
            "the processes have loaded different images or labels",
            "make --data the same on every machine",
        )


def _claim(
    out: Path, content: dict[str, Any], space: SearchSpace, supernet: type[Supernet]
) -> None:
    """Write ``config.json``, or check that the folder's search is this one."""
    path = out / CONFIG
    if not path.exists():
        if (out / CHECKPOINT).exists() or (out / RESULT).exists():
            raise SearchError(
                f"{out} holds a search whose {CONFIG} is missing: it may be another one",
                "put the file back, or choose another --out",
            )
        write_json_atomically(path, content)
        return
    # What was written before there were these two.
    earlier = {"space": space.name, "start": None, **read_config(path, SearchError)}
    changed = named_differences(content, earlier)
    if changed and is_extension(out, content, earlier, space, supernet):
        write_json_atomically(path, content)
    elif changed:
        raise SearchError(
            f"{out} holds another search (now / then: {'; '.join(changed)})",
            "choose another --out, or repeat the earlier command exactly, on the same data",
        )
