"""The supernet as a GPU computes it, on a CPU; and a stand-in for CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latkit.search.supernet import norms, products, source_mix
from latkit.search.supernet.network import SearchCell

# What reads numbers back to the host, or whose result has a size that depends on them.
READS = (
    "aten._local_scalar_dense", "aten.item", "aten.is_nonzero", "aten.equal", "aten.nonzero",
    "aten.masked_select", "aten.unique", "aten._unique", "aten.bincount",
)  # fmt: skip


def take_the_gpu_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is for CPUs alone."""
    for module in (products, norms, source_mix):
        monkeypatch.setattr(module, "on_cpu", lambda x: False)
    monkeypatch.setattr(SearchCell, "grouped", True)


class _Tape(TorchDispatchMode):
    """Takes down every operator with the very tensors that it is given and makes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if str(func).startswith(READS):
            raise AssertionError(f"{func} is not permitted when stream is capturing")
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not func.is_view:
            given = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            made = [leaf if isinstance(leaf, Tensor) else None for leaf in tree_leaves(result)]
            self.calls.append(
                (func, args, kwargs, [t if id(t) not in given else None for t in made])
            )
        return result


class Tapes:
    """Launches functions by a tape of their operators, as a CUDA graph of them would.

    The first launch calls a function, which may make what it needs; the second one takes it down.
    Later ones run no Python of it: its operators are called with the tensors of then, and their
    results go to where they went. A number that was no tensor, a tensor that is not the one of
    then, and a branch are those of the second launch for ever.
    """

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.tapes: dict[str, _Tape] = {}
        self.replays = 0

    def __call__(self, name: str, function: Callable[[], None]) -> None:
        if name not in self.called:
            self.called.add(name)
            function()
            return
        if name not in self.tapes:
            with _Tape() as tape:
                function()
            self.tapes[name] = tape
            return
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, made in self.tapes[name].calls:
                results = tree_leaves(func(*args, **kwargs))
                for place, result in zip(made, results, strict=True):
                    if isinstance(place, Tensor):
                        place.detach().copy_(result)
