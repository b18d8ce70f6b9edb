"""A step computes on the supernet's device alone, as a GPU demands.

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
from tests.search.supernets import build_supernet

# Of fbnet there are always as many.
CELLS = {"darts": 3, "nasbench201": 3, "fbnet": None}
MOVES = ("aten._to_copy", "aten.copy_", "aten._foreach_copy_")


class OneDevice(TorchDispatchMode):
    """Refuses what a GPU's kernels refuse: tensors of two devices, but for single numbers."""

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
        if len(devices) > 1 and not name.startswith(MOVES):
            raise AssertionError(f"{name} mixes tensors of {devices}")
        return func(*args, **(kwargs or {}))


class AlphaItself:
    """A penalty on whatever device α is; the real one computes on the CPU."""

    weight = 0.1

    def expected(self, alpha: Tensor, strength: Tensor | None, generator: object) -> Tensor:
        return alpha.sum()


def test_mixing_is_refused() -> None:
    with OneDevice():
        assert (torch.ones(2, device="meta") * torch.tensor(2.0)).device.type == "meta"
        with pytest.raises(AssertionError, match="mixes tensors"):
            torch.ones(2, device="meta") * torch.ones(2)


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
    optimizer = ORDERS[order](supernet, OptimizerConfig(), AlphaItself())  # type: ignore[arg-type]
    train, val = (
        (torch.empty(4, 3, 16, 16, device=device), torch.zeros(4, dtype=torch.long, device=device))
        for _ in range(2)
    )
    with OneDevice() as seen:
        losses = optimizer.step(train, val, torch.Generator())
    assert any("backward" in name for name in seen.names)
    assert losses.train_loss.device == losses.val_loss.device == device  # type: ignore[union-attr]
