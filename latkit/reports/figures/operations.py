"""The colours and short names of operations: the same ones everywhere.

The colours are those of Okabe and Ito (2008), told apart with every kind of colour vision, and
shades of them; each operation is also named wherever it is drawn.
"""

from __future__ import annotations

import re
from zlib import crc32

_COLOURS = {
    "sep_conv_3x3": "#0072b2",
    "sep_conv_5x5": "#56b4e9",
    "sep_conv_7x7": "#003a5c",
    "dil_conv_3x3": "#d55e00",
    "dil_conv_5x5": "#e69f00",
    "max_pool_3x3": "#cc79a7",
    "avg_pool_3x3": "#882255",
    "conv_7x1_1x7": "#f0e442",
    "nor_conv_3x3": "#0072b2",
    "nor_conv_1x1": "#009e73",
    "skip_connect": "#8c939c",
    "skip": "#8c939c",
    "none": "#c9ced4",
    "k3_e1": "#a8d4f0",
    "k3_e1_g2": "#44aa99",
    "k3_e3": "#3d96d0",
    "k3_e6": "#00507d",
    "k5_e1": "#f7cf84",
    "k5_e1_g2": "#cc79a7",
    "k5_e3": "#e68a00",
    "k5_e6": "#b34a00",
}
# Of operations of plug-ins, by their names.
_FURTHER = ("#009e73", "#f0e442", "#117733", "#999933", "#6699cc", "#aa4499", "#661100", "#332288")
_SHORT = (
    (r"^nor_conv_(\d)x\d$", r"conv \1×\1"),
    (r"^(sep|dil)_conv_(\d)x\d$", r"\1 \2×\2"),
    (r"^(max|avg)_pool_(\d)x\d$", r"\1 \2×\2"),
    (r"^conv_7x1_1x7$", "7×1 1×7"),
    (r"^skip_connect$", "skip"),
    (r"^k(\d)_e(\d)_g(\d)$", r"k\1 e\2 g\3"),
    (r"^k(\d)_e(\d)$", r"k\1 e\2"),
)
MAX_SHORT = 12


def operation_colour(name: str) -> str:
    """The colour of an operation."""
    return _COLOURS.get(name) or _FURTHER[crc32(name.encode()) % len(_FURTHER)]


def short_name(name: str) -> str:
    """An operation's name as it fits into a drawing: ``sep 3×3`` for ``sep_conv_3x3``."""
    for pattern, replacement in _SHORT:
        name, found = re.subn(pattern, replacement, name)
        if found:
            return name
    text = name.replace("_", " ")
    return text if len(text) <= MAX_SHORT else f"{text[: MAX_SHORT - 1]}…"
