"""The random numbers that weights are made of, and the weights of a network as parts of them.

Every machine draws the same ones, bit for bit: a board without PyTorch makes the network that
PyTorch made elsewhere. This module is part of every bundle: it needs nothing but NumPy, and
Python 3.8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

# Random numbers kept for weights, 16 MB; a larger single weight has them repeatedly.
POOL_SIZE = 2**22
# A weight in int8 has these numbers times a factor, rounded: from -64 to 64. Kernels for x86
# without VNNI add two products in 16 bits, where all 8 bits would saturate. No kernel takes longer
# or less for it.
INT8_LEVELS = 64
INT8_FACTOR = INT8_LEVELS / math.sqrt(3)
# Numbers that are made at once: what they pass through on the way is several times as large.
_PART = 2**18


def uniform_pool(seed: int) -> npt.NDArray[np.float32]:
    """``POOL_SIZE`` uniform numbers of unit variance.

    They are those of PyTorch's generator with this seed (a Mersenne twister, of whose words the
    lower 24 bits count), scaled with one rounding.

    Args:
        seed: up to 2^32 - 1.
    """
    words = np.random.RandomState(seed)
    pool = np.empty(POOL_SIZE, dtype=np.float32)
    end = np.float32(math.sqrt(3))
    for start in range(0, POOL_SIZE, _PART):
        raw = np.frombuffer(words.bytes(4 * _PART), dtype="<u4") & np.uint32(2**24 - 1)
        pool[start : start + _PART] = raw * 2.0**-24 * float(end + end) - float(end)
    return pool


@dataclass(frozen=True)
class DrawnWeight:
    """A weight that is a part of the pool, scaled twice, or one number everywhere.

    Attributes:
        shape: of the weight.
        start: place of its first number in the pool; None of a constant.
        scale: what the numbers are multiplied by, after 1/sqrt(fan-in); of a constant its value.
            Numbers in int8 are not multiplied by it, but stand for what would be.
        dtype: NumPy's name of the element type; integers but int8 are constants.
    """

    shape: tuple[int, ...]
    start: int | None
    scale: float
    dtype: str = "float32"

    @property
    def int8_scale(self) -> float:
        """What the weight's numbers in int8 are multiplied by to be those in fp32."""
        return self.scale / (math.sqrt(math.prod(self.shape) // self.shape[0]) * INT8_FACTOR)

    def draw(self, pool: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """The weight, in memory of its own."""
        weight: npt.NDArray[Any] = np.empty(self.shape, dtype=self.dtype)
        self.draw_into(pool, weight.reshape(-1))
        return weight

    def draw_into(self, pool: npt.NDArray[np.float32], memory: npt.NDArray[Any]) -> None:
        """Draw the weight where something else has memory for it.

        Args:
            pool: of the seed.
            memory: of as many numbers as the weight has, in one dimension.
        """
        if self.start is None:
            memory.fill(self.scale)
            return
        count = math.prod(self.shape)
        numbers = pool[self.start : self.start + count]
        if count > POOL_SIZE:
            numbers = np.resize(pool, count)
        if self.dtype == "int8":
            scaled = numbers * np.float32(INT8_FACTOR)
            memory[:] = np.rint(scaled, out=scaled)
            return
        np.multiply(numbers, np.float32(1 / math.sqrt(count // self.shape[0])), out=memory)
        memory *= np.float32(self.scale)

    def to_list(self) -> list[Any]:
        """As JSON has it."""
        as_ever = [list(self.shape), self.start, self.scale]
        return as_ever if self.dtype == "float32" else [*as_ever, self.dtype]

    @classmethod
    def from_list(cls, values: list[Any]) -> DrawnWeight:
        shape, *others = values
        return cls(tuple(shape), *others)
