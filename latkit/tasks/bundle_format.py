"""What a bundle needs of each kind of networks that it can hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from latkit.core.errors import InputError
from latkit.spaces import Architecture, Setting


class BundleFormat(ABC):
    """How networks are put into a bundle.

    Attributes:
        backend: of latkit, which measures the same at home.
        module: of ``latkit.board``, which runs it there.
        packages: that a board needs.

    Args:
        seed: of weights and inputs.
    """

    backend: ClassVar[str]
    module: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def __init__(self, seed: int) -> None:
        self._seed = seed

    @abstractmethod
    def files(self, architecture: Architecture, setting: Setting) -> dict[str, bytes]:
        """The files of a network, by their endings.

        Raises:
            InputError: the network has weights that do not follow from the seed, or operators that
                the format lacks.
        """


def not_of_the_seed(shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"a weight of shape {list(shape)} does not follow from the seed, so that a bundle cannot "
        "leave it out",
        "build the network of the parts that its space's build is given, and do not change them",
    )
