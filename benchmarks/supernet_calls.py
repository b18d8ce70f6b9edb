"""Operators that a search step calls on the path of a GPU, counted without one.

    python benchmarks/supernet_calls.py

What a supernet does for CPUs alone is left out, and the edges of a source are side by side, as on a
GPU; the operators are still those of PyTorch's CPU build, hence a proxy for launches. Views are not
counted, and neither is LAT(α), which is computed on the host. A call that takes a list of tensors
(``_foreach_``) is one here and a few launches on a GPU. The batch is of 4 images: it changes none
of the calls. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.supernet import CLASSES, RESOLUTION, penalty
from latkit.search.bilevel import ORDERS, OptimizerConfig
from latkit.spaces import get_space
from tests.search.gpu_path import take_the_gpu_path
from tests.search.supernets import build_supernet

# method, order, C, cells
CASES = [("darts", 1, 16, 8), ("pc-darts", 1, 16, 8), ("darts", 2, 16, 8)]
BATCH, SHOWN = 4, 12


class CountByName(TorchDispatchMode):
    """Counts operators other than views."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not func.is_view:
            self.calls[str(func).removeprefix("aten.")] += 1
        return func(*args, **(kwargs or {}))


def count(method: str, order: int, channels: int, cells: int) -> dict[str, Any]:
    """Calls of the second step, whose optimisers have their state."""
    torch.manual_seed(0)
    space: Any = get_space("darts")
    supernet = build_supernet(method, space, channels, cells, CLASSES)
    optimizer = ORDERS[order](supernet, OptimizerConfig(), penalty(space))
    images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION)
    images = images.contiguous(memory_format=torch.channels_last)
    batch = images, torch.randint(CLASSES, (BATCH,))
    generator = torch.Generator().manual_seed(0)
    optimizer.step(batch, batch, generator)
    _, costs = optimizer.costs(optimizer.read_encoded(), generator)
    phases = {}
    with CountByName() as mode:
        _, _, gradients = optimizer.arch_gradients(batch, batch)
    phases["gradients of alpha"] = mode.calls
    with CountByName() as mode:
        optimizer.arch_update(gradients, costs)
    phases["step of alpha"] = mode.calls
    with CountByName() as mode:
        optimizer.weight_update(batch)
    phases["step of the weights"] = mode.calls
    whole = sum(phases.values(), Counter[str]())
    return {
        "method": method,
        "order": order,
        "channels": channels,
        "cells": cells,
        "calls": whole.total(),
        "by_function": {name: calls.total() for name, calls in phases.items()},
        "most_called": dict(whole.most_common(SHOWN)),
    }


def main() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        take_the_gpu_path(monkeypatch)
        cases = [count(*case) for case in CASES]
    print(json.dumps({"torch": torch.__version__, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
