"""How a network gets its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import nn


class Make(Protocol):
    """``make(constructor, *arguments)`` returns the module."""

    def __call__(self, constructor: Callable[..., nn.Module], *arguments: object) -> nn.Module: ...


def construct(constructor: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    """The plain way: call the constructor, with PyTorch's default initialisation."""
    return constructor(*arguments)
