"""What stands for a network before it is built: from a choice matrix, or from a user's text."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from latkit.errors import InputError, SpaceError
from latkit.networks.reader import Cell, parse_architecture, read_architecture
from latkit.networks.setting import Setting
from latkit.networks.zoo import get_genotype
from latkit.spaces import (
    Architecture,
    DartsSpace,
    Genotype,
    NasBench201Space,
    SearchSpace,
    get_space,
)


def architecture_maker(
    space: SearchSpace, setting: Setting
) -> Callable[[npt.ArrayLike], Architecture]:
    """How a row of a choice matrix of ``space`` becomes the architecture that is built.

    Raises:
        InputError: latkit builds no networks of the space.
    """
    if isinstance(space, DartsSpace):
        reduction = get_genotype(setting.reduction)
        return lambda row: space.genotype(row, reduction)
    if isinstance(space, NasBench201Space):
        return space.cell
    raise InputError(
        f"latkit builds no networks of the space {space.name}",
        "use --space darts or nasbench201; tables of other spaces come in by latkit dataset import",
    )


def get_architecture(text: str, setting: Setting) -> Architecture:
    """The architecture of a text alone: a zoo name, an identifier, a genotype, a dataset's text.

    Args:
        text: see :func:`latkit.networks.reader.parse_architecture`.
        setting: whose space the text is of; it also completes a normal cell of DARTS by its
            reduction cell.

    Raises:
        InputError: none of these, or latkit builds no networks of the setting's space.
        SpaceError: the text is not an architecture of the setting's space.
    """
    return _architecture(lambda space: parse_architecture(text, space), setting)


def read_network(given: str, setting: Setting) -> Architecture:
    """The one architecture that an argument of a command names, be it a text or a file.

    Args:
        given: see :func:`latkit.networks.reader.read_architectures`.
        setting: as in :func:`get_architecture`.

    Raises:
        InputError: it names none, several, or a malformed one, or latkit builds no networks of
            the setting's space.
        SpaceError: the text is not an architecture of the setting's space.
        LatkitError: a file cannot be read.
    """
    return _architecture(lambda space: read_architecture(given, space).cell, setting)


def _architecture(read: Callable[[SearchSpace], Cell], setting: Setting) -> Architecture:
    space = get_space(setting.space)
    make = architecture_maker(space, setting)
    try:
        cell = read(space)
    except SpaceError as error:
        fix = f"{error.fix}, or name a --setting of the space that it is of"
        raise SpaceError(error.cause, fix) from None
    return cell if isinstance(cell, Genotype) else make(cell[0])
