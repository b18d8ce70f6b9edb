"""Networks with random weights, ready to be measured, made as cheaply as can be.

The scale matters: with untrained batch norm, default initialisation lets activations sink
into denormal numbers in deep cells, and CPUs are many times slower on those than on anything
a trained network computes.

The cost matters too: constructing the six hundred modules of a network and drawing its weights
takes as long as two of its runs. So each kind of part is constructed once, later ones are copies
of it, and weights are scaled copies of slices of one array of random numbers. Every network has
its own memory for all its weights: sharing it would make caches look better than they are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from latkit.networks.pool import POOL_SIZE, uniform_pool

# The attribute of a parameter that says where in the pool it starts.
_START = "_pool_start"


class RandomParts:
    """Makes parts in eval mode by copying templates; weights of one network differ from each other.

    Convolution and classifier weights are uniform with standard deviation 1/sqrt(fan-in), which
    keeps activations within a few orders of magnitude of the input; batch norms are neutral.

    Args:
        seed: of the weights.
        memory_format: of the weights of convolutions.
    """

    def __init__(self, seed: int, memory_format: torch.memory_format) -> None:
        self._pool = random_pool(seed)
        self._position = 0
        self._memory_format = memory_format

    def __call__(self, constructor: Callable[..., nn.Module], *arguments: object) -> nn.Module:
        with torch.no_grad():
            return self._copy(_template(constructor, *arguments))

    def _copy(self, template: nn.Module) -> nn.Module:
        copy = object.__new__(type(template))
        # Everything but the tensors and children is shared, even the (empty) tables of hooks.
        copy.__dict__ = {**template.__dict__, "_parameters": {}, "_buffers": {}, "_modules": {}}
        for name, parameter in template._parameters.items():
            if parameter is None:
                copy._parameters[name] = None
                continue
            copy._parameters[name] = (
                self._draw(parameter)
                if parameter.dim() > 1
                else nn.Parameter(parameter.clone(), requires_grad=False)
            )
        for name, buffer in template._buffers.items():
            copy._buffers[name] = None if buffer is None else buffer.clone()
        for name, child in template._modules.items():
            if child is not None:
                copy._modules[name] = self._copy(child)
        return copy

    def _draw(self, weight: Tensor) -> nn.Parameter:
        count = weight.numel()
        start = self._place(count)
        numbers = self._pool[start : start + count]
        if count > POOL_SIZE:
            numbers = self._pool.repeat(-(-count // POOL_SIZE))[:count]
        values = torch.mul(numbers, 1 / math.sqrt(weight[0].numel())).view(weight.shape)
        if weight.dim() == 4:
            values = values.contiguous(memory_format=self._memory_format)
        drawn = nn.Parameter(values, requires_grad=False)
        setattr(drawn, _START, start)
        return drawn

    def _place(self, count: int) -> int:
        """Where in the pool the next weight of so many numbers starts."""
        if self._position + count > POOL_SIZE:
            self._position = 0
        start = self._position
        self._position += count
        return start


def pool_start(parameter: Tensor) -> int | None:
    """Where in the pool a weight starts that :class:`RandomParts` has drawn; of others None."""
    start: int | None = getattr(parameter, _START, None)
    return start


@functools.lru_cache(maxsize=1024)
def _template(constructor: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    template = constructor(*arguments).eval()
    for module in template.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return template


@functools.lru_cache(maxsize=2)
def random_pool(seed: int) -> Tensor:
    """The numbers that weights of this seed are made of."""
    return torch.from_numpy(uniform_pool(seed))
