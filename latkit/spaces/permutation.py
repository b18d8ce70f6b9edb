"""A keyed permutation of whole numbers: the order in which a space's architectures are sampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# uint64, or Python's integers in an object array where a number may have more than 64 bits.
WordArray = npt.NDArray[np.uint64]


def feistel(values: WordArray, keys: WordArray, half: np.uint64) -> WordArray:
    """A keyed permutation of ``[0, 2 ** (2 * half))``."""
    mask = np.uint64((1 << int(half)) - 1)
    wide = values.dtype == object  # more than 64 bits; a half always fits
    shift: Any = int(half) if wide else half
    left = (values >> shift).astype(np.uint64)
    right = (values & (int(mask) if wide else mask)).astype(np.uint64)
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    joined: WordArray = (left.astype(values.dtype) << shift) | right.astype(values.dtype)
    return joined


def _mix(x: WordArray) -> WordArray:
    """The splitmix64 finaliser: every output bit depends on every input bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: WordArray = x ^ (x >> np.uint64(31))
    return mixed
