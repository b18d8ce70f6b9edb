"""The space of what is no point of a search space: its architectures are names.

Datasets of ``latkit measure`` are of it: any networks side by side, at any batch and after any
pause, each row's text says which. Nothing is sampled, encoded or learned from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from latkit.core.errors import SpaceError
from latkit.spaces.base import ChoiceMatrix, SearchSpace
from latkit.spaces.registry import SPACES
from latkit.spaces.setting import NetworkConfig
from latkit.spaces.structure import MAX_FILE_ID


@dataclass(frozen=True, kw_only=True)
class ModelsConfig(NetworkConfig):
    """Of the anchor network: each row names its own."""

    space: ClassVar[str] = "models"


def model_id(text: str) -> int:
    """The identifier of what a row's text names: 63 bits of its SHA-256.

    It is the same on every device, so that datasets pair up by it.
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & MAX_FILE_ID


@SPACES.register("models")
class ModelsSpace(SearchSpace):
    """Names; what would make architectures of them is refused."""

    config = ModelsConfig
    reference = ""

    def __init__(self) -> None:
        super().__init__("models", (), (), (), ())

    def unrank(self, arch_ids: npt.ArrayLike) -> ChoiceMatrix:
        self._refuse()

    def parse(self, text: str) -> ChoiceMatrix:
        self._refuse()

    def from_file(self, file_ids: npt.NDArray[np.int64], texts: Sequence[str]) -> ChoiceMatrix:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise SpaceError(
            "measured models are names, and no architectures of a search space",
            "use latkit measure for them, and a dataset of latkit profile to train an LPM",
        )
