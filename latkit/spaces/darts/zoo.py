"""Published genotypes, by name.

NASNet-A and AmoebaNet-A have five nodes and operations outside the eight of DARTS: they are
networks, not points of the DARTS space.
"""

from __future__ import annotations

import difflib

from latkit.core.errors import InputError
from latkit.spaces.darts.genotype import Connections, Genotype, parse_genotype

_ABBREVIATIONS = {
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
    "conv7": "conv_7x1_1x7",
}


def _cell(text: str) -> Connections:
    pairs = (item.split("~") for item in text.split())
    return tuple((_ABBREVIATIONS[operation], int(source)) for operation, source in pairs)


def _genotype(
    normal: str,
    reduce: str,
    normal_concat: tuple[int, ...] = (2, 3, 4, 5),
    reduce_concat: tuple[int, ...] = (2, 3, 4, 5),
) -> Genotype:
    return Genotype(_cell(normal), normal_concat, _cell(reduce), reduce_concat)


ZOO: dict[str, Genotype] = {
    # Zoph et al. 2018, as a genotype in DARTS's published code.
    "nasnet_a": _genotype(
        "sep5~1 sep3~0 sep5~0 sep3~0 avg~1 skip~0 avg~0 avg~0 sep3~1 skip~1",
        "sep5~1 sep7~0 max~1 sep7~0 avg~1 sep5~0 skip~3 avg~2 sep3~2 max~1",
        (2, 3, 4, 5, 6),
        (4, 5, 6),
    ),
    # Real et al. 2019, likewise.
    "amoebanet_a": _genotype(
        "avg~0 max~1 sep3~0 sep5~2 sep3~0 avg~3 sep3~1 skip~1 skip~0 avg~1",
        "avg~0 sep3~1 max~0 sep7~2 sep7~0 avg~1 max~0 max~1 conv7~0 sep3~5",
        (4, 5, 6),
        (3, 4, 6),
    ),
    # Liu et al. 2019, first and second order.
    "darts_v1": _genotype(
        "sep3~1 sep3~0 skip~0 sep3~1 skip~0 sep3~1 sep3~0 skip~2",
        "max~0 max~1 skip~2 max~0 max~0 skip~2 skip~2 avg~0",
    ),
    "darts_v2": _genotype(
        "sep3~0 sep3~1 sep3~0 sep3~1 sep3~1 skip~0 skip~0 dil3~2",
        "max~0 max~1 skip~2 max~1 max~0 skip~2 skip~2 max~1",
    ),
    # Xu et al. 2020 (PC-DARTS), searched on CIFAR-10 and on ImageNet.
    "pc_darts_cifar": _genotype(
        "sep3~1 skip~0 sep3~0 dil3~1 sep5~0 sep3~1 avg~0 dil3~1",
        "sep5~1 max~0 sep5~1 sep5~2 sep3~0 sep3~3 sep3~1 sep3~2",
    ),
    "pc_darts_imagenet": _genotype(
        "skip~1 sep3~0 sep3~0 skip~1 sep3~1 sep3~3 sep3~1 dil5~4",
        "sep3~0 skip~1 dil5~2 max~1 sep3~2 sep3~1 sep5~0 sep3~3",
    ),
    # Xie et al. 2019, mild constraint. One source prints dil3~2 for the last connection.
    "snas_mild": _genotype(
        "sep3~0 sep3~1 skip~0 dil3~1 skip~1 skip~0 skip~0 sep3~1",
        "max~0 max~1 max~1 skip~2 skip~2 max~1 max~0 dil5~2",
    ),
    # Chen et al. 2019, searched on CIFAR-10.
    "p_darts_cifar": _genotype(
        "skip~0 dil3~1 skip~0 sep3~1 sep3~1 sep3~3 sep3~0 dil5~4",
        "avg~0 sep5~1 sep3~0 dil5~2 max~0 dil3~1 dil3~1 dil5~3",
    ),
    # Dong and Yang 2019. One source prints sep5~2 for the last connection.
    "gdas": _genotype(
        "skip~0 skip~1 skip~0 sep5~2 sep3~3 skip~0 sep5~4 sep3~3",
        "sep5~0 sep3~1 sep5~2 sep5~1 dil5~2 sep3~1 sep5~0 sep5~1",
    ),
}

# The cell of PNASNet-5 (Liu et al. 2018, figure 1), which is its reduction cell too.
PNAS_CELL = _cell("sep5~0 max~0 sep7~1 max~1 sep5~1 sep3~1 sep3~4 max~1 sep3~0 skip~1")


def find_genotype(name: str) -> Genotype | None:
    """A genotype from the zoo by name, in any case; None where there is none."""
    return ZOO.get(name.strip().lower().replace("-", "_"))


def get_genotype(name_or_text: str) -> Genotype:
    """A genotype from the zoo by name, or from its ``Genotype(...)`` text.

    Raises:
        InputError: neither a zoo name nor a genotype.
    """
    if "(" in name_or_text:
        return parse_genotype(name_or_text)
    genotype = find_genotype(name_or_text)
    if genotype is not None:
        return genotype
    close = difflib.get_close_matches(name_or_text.lower().replace("-", "_"), ZOO, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(
        f"unknown genotype {name_or_text[:80]!r}",
        f"{hint}use one of {', '.join(ZOO)}, or paste a Genotype(...) text",
    )
