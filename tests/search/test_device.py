"""A step computes on the supernet's device alone and reads nothing back, as a CUDA graph demands.

Shown without a GPU on the device ``meta``, whose tensors have shapes and no values, by a look at
the arguments of every operator of a step, those of its backward passes among them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latkit.search import bilevel
from latkit.search.bilevel import ORDERS, OptimizerConfig
from latkit.search.supernet import methods_of
from latkit.spaces import get_space
from tests.search.gpu_path import READS
from tests.search.supernets import build_supernet

# Of fbnet there are always as many.
CELLS = {"darts": 3, "nasbench201": 3, "fbnet": None}


class OneDevice(TorchDispatchMode):
    """Refuses what a capture refuses: tensors of two devices, but for single numbers, copies from
    one to another, tensors made on the host, and numbers that the host reads."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(func)
        self.names.add(name)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        if len(devices) > 1:
            raise AssertionError(f"{name} mixes tensors of {devices}")
        if name.startswith(READS):
            raise AssertionError(f"{name} reads a number")
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if any(tensor.device.type == "cpu" for tensor in made):
            raise AssertionError(f"{name} makes a tensor on the host")
        return result


def test_mixing_is_refused() -> None:
    two, ones = torch.tensor(2.0), torch.ones(2)
    device = torch.device("meta")
    there = torch.ones(2, device=device)
    with OneDevice():
        assert (there * two).device == device
        with pytest.raises(AssertionError, match="mixes tensors"):
            there * ones
        with pytest.raises(AssertionError, match="mixes tensors"):
            there.copy_(ones)
        with pytest.raises(AssertionError, match="on the host"):
            torch.zeros(())
        with pytest.raises(AssertionError, match="reads a number"):
            there.sum().item()


# Second order calls what first order calls, of every supernet.
@pytest.mark.parametrize(
    ("method", "order", "space"),
    [
        *((method, 1, space) for space in CELLS for method in methods_of(space)),
        ("darts", 2, "darts"),
    ],
)
def test_a_step_stays_on_its_device(
    method: str, order: int, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither is there for tensors without values.
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: contextlib.nullcontext())
    monkeypatch.setattr(bilevel, "clip_gradients", lambda gradients, largest: None)
    device = torch.device("meta")
    supernet = build_supernet(method, get_space(space), 4, CELLS[space], 10).to(device)
    optimizer = ORDERS[order](supernet, OptimizerConfig(), None)  # type: ignore[arg-type]
    train, val = (
        (torch.empty(4, 3, 16, 16, device=device), torch.zeros(4, dtype=torch.long, device=device))
        for _ in range(2)
    )
    costs = [torch.empty_like(encoded) for encoded in optimizer._encoded()]
    with OneDevice() as seen:
        # What CapturedSteps launches, which is all of a step but LAT(α).
        val_loss, _, gradients = optimizer.arch_gradients(train, val)
        optimizer.arch_update(gradients, costs)
        train_loss, _ = optimizer.weight_update(train)
    assert any("backward" in name for name in seen.names)
    assert train_loss.device == val_loss.device == device
