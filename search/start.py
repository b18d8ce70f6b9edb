"""The checkpoint of another search that a search begins with, instead of random weights and α."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from latkit.search.checkpoint import digest_of, load_weights
from latkit.search.supernet import Supernet


@dataclass(frozen=True)
class Start:
    """Where weights and α begin.

    Attributes:
        checkpoint: the first 16 digits of the SHA-256 of its file, which alone decides what is
            found.
        folder: of the search that wrote it.
    """

    checkpoint: str
    folder: Path = field(compare=False)

    @classmethod
    def of(cls, folder: Path) -> Start:
        """What a folder has now.

        Raises:
            InputError: it has no checkpoint.
            LatkitError: the checkpoint cannot be read.
        """
        return cls(digest_of(folder), folder)

    def load(self, supernet: Supernet) -> None:
        """Fill a supernet.

        Raises:
            InputError, SearchError, LatkitError: see ``load_weights``.
        """
        load_weights(self.folder, self.checkpoint, supernet)
