"""A bundle: one file that Python runs, with networks and what is to be measured of them."""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from latkit.core.errors import DatasetError
from latkit.core.json_files import parse_json

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT, FORMAT_VERSION = "latkit-bundle", 1
PLAN = "bundle.json"
ANCHOR = "anchor"
# What Python's archives raise for damage: a name that is no UTF-8, a place before the file, ...
_DAMAGED = (OSError, KeyError, ValueError, OverflowError, RuntimeError, EOFError, struct.error,
            zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # fmt: skip


def network_file(name: str, ending: str) -> str:
    """Where a file of a network is in a bundle."""
    return f"networks/{name}.{ending}"


@dataclass(frozen=True)
class Plan:
    """What a bundle measures.

    Attributes:
        latkit_version: that made it.
        module: of ``latkit.board``, whose class ``Runtime`` runs the networks.
        packages: that the board must have.
        dataset: the content of ``dataset.json`` as far as it is known before: all but the device's
            name, the machine's facts and the cores.
        weights_seed: of weights and inputs.
        replicates, target_error: see ``latkit profile``.
        architectures: of each the columns ``arch_id``, ``arch``, ``macs`` and ``params``; the
            networks are named by their places.
        listed: places of the list, in its order.
        panel: places of the panel of the longest run.
    """

    latkit_version: str
    module: str
    packages: tuple[str, ...]
    dataset: Mapping[str, Any]
    weights_seed: int
    replicates: int
    target_error: float | None
    architectures: tuple[Mapping[str, Any], ...] = field(repr=False)
    listed: tuple[int, ...] = field(repr=False)
    panel: tuple[int, ...] = field(repr=False)

    def to_json(self) -> bytes:
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **vars(self)}
        return json.dumps(content, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Plan:
        """Raises: ValueError, TypeError: it is none."""
        values = parse_json(content)
        if not isinstance(values, dict):
            raise TypeError("it is no object")
        if (values.pop("format"), values.pop("format_version")) != (FORMAT, FORMAT_VERSION):
            raise ValueError("unknown format")
        for name in ("packages", "architectures", "listed", "panel"):
            values[name] = tuple(values[name])
        return cls(**values)


class Bundle:
    """A bundle, open for reading; a context manager.

    Args:
        path: of the file.

    Raises (on entering):
        DatasetError: it is no bundle, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        try:
            self._zip = zipfile.ZipFile(self.path)
        except _DAMAGED as error:
            raise self._damaged(error) from None
        try:
            self.plan = Plan.from_json(self.read(PLAN))
        except (ValueError, TypeError, KeyError) as error:
            self._zip.close()
            raise self._damaged(error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """The content of a file in it.

        Raises:
            DatasetError: it is damaged.
        """
        try:
            return self._zip.read(name)
        except _DAMAGED as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DatasetError:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return DatasetError(f"the bundle {self.path} is damaged ({reason})", "copy it here again")
