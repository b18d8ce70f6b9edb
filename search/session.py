"""A search from configuration to genotype, resumable after any interruption.

The folder holds ``config.json``, ``checkpoint.safetensors``, ``history.parquet`` (a row an
epoch) and, at the end, ``result.json``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from latkit.device import differences
from latkit.errors import InputError, SearchError, from_os_error
from latkit.files import write_atomically, write_json_atomically
from latkit.lpm.base import LPM
from latkit.networks.setting import MIN_CELLS
from latkit.search.bilevel import FirstOrder, OptimizerConfig
from latkit.search.checkpoint import load_checkpoint, save_checkpoint
from latkit.search.data import ImageData, batches
from latkit.search.estimators import ESTIMATORS
from latkit.search.supernet import Supernet, derive_genotype
from latkit.spaces import DartsSpace, Genotype

CONFIG = "config.json"
HISTORY = "history.parquet"
RESULT = "result.json"
_KEPT = "the last checkpoint is kept; then run the same command again"


@dataclass(frozen=True)
class SearchConfig:
    """Everything that decides a search's outcome besides the data and the LPM.

    The defaults are the paper's for LA-DARTS on CIFAR-10 (section 4.1).

    Attributes:
        lambda_per_ms: λ of Eq. 3; LAT(α) is in milliseconds, so λ is in 1/ms.
        samples: M, sub-networks per estimate of LAT(α).
        limit: images used; None for all. Half train the weights, half train α.
    """

    lambda_per_ms: float = 0.2
    samples: int = 20
    cells: int = 8
    channels: int = 16
    batch: int = 64
    epochs: int = 50
    limit: int | None = None
    seed: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def to_dict(self) -> dict[str, Any]:
        # Through JSON, so that a configuration read back compares equal.
        content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return content

    def check(self) -> None:
        """Raises: InputError: a value cannot work."""
        if not (math.isfinite(self.lambda_per_ms) and self.lambda_per_ms >= 0):
            raise InputError(f"lambda={self.lambda_per_ms} is not a coefficient", "use 0 or more")
        if self.channels % 2:
            raise InputError(f"channels={self.channels} is odd", "use an even number of channels")
        # Fewer cells are all reduction cells; batch norm needs two images.
        least = {"samples": 1, "cells": MIN_CELLS, "channels": 2, "batch": 2, "epochs": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(
                    f"{name}={getattr(self, name)} is too small", f"use at least {value}"
                )


PRESETS: dict[str, SearchConfig] = {
    "paper": SearchConfig(),
    # Scaled down for a few minutes on two CPU cores: a shallower, thinner supernet, few images
    # and epochs, larger learning rates so that both levels get somewhere in them, and a λ that
    # keeps α's few steps from being spent on latency alone.
    "cpu": SearchConfig(
        lambda_per_ms=0.02,
        cells=5,
        channels=8,
        epochs=4,
        limit=2048,
        optimizer=OptimizerConfig(arch_lr=0.02, weight_lr=0.1),
    ),
}


@dataclass(frozen=True)
class SearchProgress:
    """What the loop tells after each step."""

    epoch: int
    step: int
    steps_per_epoch: int
    epochs: int
    done_before: int
    val_loss: float
    lat_ms: float


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found, before anything is measured."""

    genotype: Genotype
    predicted_ms: float
    history: list[dict[str, Any]]
    seconds: float


def run_search(
    config: SearchConfig,
    space: DartsSpace,
    lpm: LPM,
    lpm_reference: str,
    data: ImageData,
    out: Path,
    device: str = "cpu",
    on_step: Callable[[SearchProgress], None] = lambda progress: None,
) -> SearchOutcome:
    """Search, or go on with the search that ``out`` holds.

    ``device`` is where the supernet is trained, ``cpu`` or ``cuda``; a search may go on on the
    other one, but only on the CPU does it then end in the same bytes.

    Raises:
        InputError: the configuration does not fit the data.
        SearchError: ``out`` holds another search, its checkpoint is corrupt, another process
            writes it, or a loss is no longer finite.
        LatkitError: ``out`` cannot be written.
    """
    config.check()
    half = len(data.labels) // 2
    if config.batch > half:
        raise InputError(
            f"a batch of {config.batch} is larger than half of the {len(data.labels)} images",
            f"use --batch {max(1, half)} or less, or more images",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(out / ".lock", blocking=False):
            identity = {"data": data.name, "images": len(data.labels), "lpm": lpm_reference}
            _claim(out, {**config.to_dict(), **identity})
            return _search(config, space, lpm, data, out, torch.device(device), on_step)
    except filelock.Timeout:
        raise SearchError(
            f"another process is searching in {out}", "wait for it, or choose another --out"
        ) from None
    except OSError as error:
        raise from_os_error(error, f"write the search in {out}", _KEPT) from None


def _search(
    config: SearchConfig,
    space: DartsSpace,
    lpm: LPM,
    data: ImageData,
    out: Path,
    device: torch.device,
    on_step: Callable[[SearchProgress], None],
) -> SearchOutcome:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        supernet = Supernet(
            space, config.channels, config.cells, data.classes, data.images.shape[1]
        )
    supernet = supernet.to(device).to(memory_format=torch.channels_last)

    def latency(alpha: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        estimate = ESTIMATORS["straight-through"]
        return estimate(space, alpha.cpu(), lpm.latency_ms, config.samples, generator)

    optimizer = FirstOrder(supernet, config.optimizer, latency, config.lambda_per_ms)
    finished = load_checkpoint(out, supernet, optimizer)
    history = _read_history(out)[:finished]
    normalisation = data.normalisation()
    split = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(config.seed))
    half = len(split) // 2
    steps = half // config.batch
    supernet.train()
    for epoch in range(finished, config.epochs):
        started = time.perf_counter()
        optimizer.set_epoch(epoch, config.epochs)
        # One stream for the weights' batches, one for α's, one for LAT's samples.
        streams = [_generator(config.seed, epoch, stream) for stream in range(3)]
        pairs = zip(
            batches(data, split[:half], config.batch, normalisation, streams[0]),
            batches(data, split[half:], config.batch, normalisation, streams[1]),
            strict=False,
        )
        totals = torch.zeros(5, dtype=torch.float64)
        for step, (train, val) in enumerate(pairs, start=1):
            placed = [tensor.to(device, non_blocking=True) for tensor in (*train, *val)]
            try:
                seen = optimizer.step((placed[0], placed[1]), (placed[2], placed[3]), streams[2])
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                raise SearchError(
                    f"memory ran out in epoch {epoch + 1}, step {step}",
                    "use a smaller --batch, --channels or --cells, and another --out",
                ) from None
            values = torch.stack([value.double() for value in seen]).cpu()
            if not torch.isfinite(values).all():
                raise SearchError(
                    f"the loss is not finite in epoch {epoch + 1}, step {step}",
                    "lower the learning rate or lambda; the last whole epoch is kept in "
                    f"{out}/checkpoint.safetensors",
                )
            totals += values
            on_step(
                SearchProgress(
                    epoch + 1, step, steps, config.epochs, finished, *values[1:3].tolist()
                )
            )
        images = steps * config.batch
        genotype = derive_genotype(space, supernet.alpha_normal, supernet.alpha_reduce)
        history.append(
            {
                "epoch": epoch + 1,
                "train_loss": float(totals[0]) / steps,
                "val_loss": float(totals[1]) / steps,
                "lat_ms": float(totals[2]) / steps,
                "train_accuracy": float(totals[3]) / images,
                "val_accuracy": float(totals[4]) / images,
                "alpha_entropy_normal": _entropy(supernet.alpha_normal),
                "alpha_entropy_reduce": _entropy(supernet.alpha_reduce),
                "derived_predicted_ms": _predict(space, lpm, genotype),
                "genotype": str(genotype),
                "seconds": time.perf_counter() - started,
            }
        )
        # History first: a crash in between leaves one row too many, which resuming drops.
        table = pa.Table.from_pylist(history)
        write_atomically(out / HISTORY, lambda temporary, t=table: pq.write_table(t, temporary))  # type: ignore[misc]
        save_checkpoint(out, epoch + 1, supernet, optimizer)
    genotype = derive_genotype(space, supernet.alpha_normal, supernet.alpha_reduce)
    seconds = sum(row["seconds"] for row in history)
    return SearchOutcome(genotype, _predict(space, lpm, genotype), history, seconds)


def _claim(out: Path, content: dict[str, Any]) -> None:
    """Write ``config.json``, or check that the folder's search is this one."""
    path = out / CONFIG
    if not path.exists():
        write_json_atomically(path, content)
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        changed = differences(content, dict(earlier))
    except (UnicodeDecodeError, TypeError, ValueError):
        raise SearchError(
            f"{path} is corrupt", "delete the folder, or choose another --out"
        ) from None
    if changed:
        raise SearchError(
            f"{out} holds another search (now / then: {'; '.join(changed)})",
            "choose another --out, or repeat the earlier command exactly",
        )


def _read_history(out: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pq.ParquetFile(out / HISTORY).read().to_pylist()
    except FileNotFoundError:
        return []
    except (pa.ArrowException, OSError, ValueError):
        raise SearchError(
            f"{out / HISTORY} is corrupt", "delete the folder, or choose another --out"
        ) from None
    return rows


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    # Distinct for any realistic number of epochs, and the same after a resume.
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) * 3 + stream)


def _out_of_memory(error: Exception) -> bool:
    """Whether PyTorch failed to allocate; on the CPU only the message tells."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(
        error
    )


def _entropy(alpha: torch.Tensor) -> float:
    """Mean entropy of the edges' softmax, in nats: ln 8 = 2.08 when nothing is preferred."""
    logs = alpha.detach().log_softmax(-1)
    return float(-(logs.exp() * logs).sum(-1).mean())


def _predict(space: DartsSpace, lpm: LPM, genotype: Genotype) -> float:
    return float(lpm.predict(space.encode(space.from_genotype(genotype)))[0])
