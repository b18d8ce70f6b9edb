"""What stands for a network before it is built: from a choice matrix, or from a user's text."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from latkit.errors import InputError, SpaceError
from latkit.networks.setting import Setting
from latkit.networks.zoo import get_genotype
from latkit.spaces import (
    Architecture,
    DartsSpace,
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
    """An architecture from a zoo name, a ``Genotype(...)``, or the text that datasets have.

    Args:
        text: what a user writes; ``|op~source|...`` is of the setting's space.
        setting: also completes a normal cell of DARTS by its reduction cell.

    Raises:
        InputError: none of the three, or latkit builds no networks of the setting's space.
        SpaceError: the text is not an architecture of the setting's space.
    """
    if not text.lstrip().startswith("|"):
        return get_genotype(text)
    space = get_space(setting.space)
    make = architecture_maker(space, setting)
    try:
        return make(space.parse(text)[0])
    except SpaceError as error:
        fix = f"{error.fix}, or name a --setting of the space that it is of"
        raise SpaceError(error.cause, fix) from None
