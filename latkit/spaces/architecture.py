"""From a user's text to what a network is built of, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from latkit.core.errors import InputError, SpaceError
from latkit.spaces.analytic import Cost
from latkit.spaces.base import Architecture, SearchSpace
from latkit.spaces.reader import Cell, Given, parse_architecture, read_architecture
from latkit.spaces.registry import analytic_table, default_setting, get_space
from latkit.spaces.setting import Setting


def get_architecture(text: str, setting: Setting) -> Architecture:
    """The architecture of a text alone: a zoo name, an identifier, a genotype, a dataset's text.

    Args:
        text: see :func:`latkit.spaces.reader.parse_architecture`.
        setting: whose space the text is of; it also completes a normal cell of DARTS by its
            reduction cell.

    Raises:
        InputError: none of these, or of another space than the setting's, or latkit builds no
            networks of that.
        SpaceError: the text is not an architecture of the setting's space.
    """
    return _architecture(lambda space: parse_architecture(text, space), setting)


def read_network(given: Given, setting: Setting) -> Architecture:
    """The one architecture that an argument of a command names, be it a text or a file.

    Args:
        given: see :func:`latkit.spaces.reader.read_architectures`.
        setting: as in :func:`get_architecture`.

    Raises:
        InputError: it names none, several, or a malformed one, or one of another space than the
            setting's, or latkit builds no networks of that.
        SpaceError: the text is not an architecture of the setting's space.
        LatkitError: a file cannot be read.
    """
    return _architecture(lambda space: read_architecture(given, space).cell, setting)


def _architecture(read: Callable[[SearchSpace], Cell], setting: Setting) -> Architecture:
    space = get_space(setting.space)
    space.architecture(space.unrank(0)[0], setting.network)  # refuses spaces without networks
    try:
        cell = read(space)
    except SpaceError as error:
        fix = f"{error.fix}, or name a --setting of the space that it is of"
        raise SpaceError(error.cause, fix) from None
    if isinstance(cell, np.ndarray):
        return space.architecture(cell[0], setting.network)
    check_space(cell, setting)
    return cell


def check_space(architecture: Architecture, setting: Setting) -> None:
    """Raises: InputError: the setting is for architectures of another space."""
    if architecture.space != setting.space:
        raise InputError(
            f"a network of {setting.space} takes no architecture of {architecture.space}",
            f"use --setting {default_setting(architecture.space)}, or of latkit train --space "
            f"{architecture.space}",
        )


def architecture_costs(space: SearchSpace, matrix: npt.ArrayLike, setting: Setting) -> list[Cost]:
    """MACs and parameters of whole networks, of each row of a choice matrix."""
    return analytic_table(space.name, setting.network).costs(matrix)


def architecture_cost(architecture: Architecture, setting: Setting) -> Cost:
    """MACs and parameters of one whole network, which need not be a point of a space.

    Raises:
        InputError: the setting is for architectures of another space.
    """
    check_space(architecture, setting)
    return get_space(architecture.space).cost(architecture, setting.network)
