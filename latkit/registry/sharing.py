"""Versions of LPMs from one registry to another.

A version is known by the SHA-256 of its card, which has that of its weights: what is there already
is not copied again, and what is copied is verified on both sides. It keeps its number where nobody
has that, else it gets the one after the last; the order of a target's versions stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from latkit.core.errors import InputError, LPMError
from latkit.core.events import SILENT, Listener, Progress
from latkit.core.requests import several
from latkit.core.sharing import sha256
from latkit.registry.entries import BUILT_IN, Entry
from latkit.registry.registry import Registry


@dataclass(frozen=True)
class CopiedVersion:
    """What became of a version.

    Attributes:
        space: of its LPM.
        reference: of the version where it came from.
        copy: its reference where it was copied to; None: it was refused.
        is_new: whether it was copied; False: it was there, or it was refused.
        reason: why it was refused; None: it was not.
    """

    space: str
    reference: str
    copy: str | None
    is_new: bool
    reason: str | None = None


@dataclass(frozen=True)
class CopyResult:
    """Versions that were to be copied.

    Attributes:
        source, destination: URLs of the registries.
        versions: each of them, in the order of their references.
    """

    source: str
    destination: str
    versions: tuple[CopiedVersion, ...]

    @property
    def refused(self) -> int:
        """How many were not copied, although they are not there."""
        return sum(version.copy is None for version in self.versions)

    def to_dict(self) -> dict[str, Any]:
        versions = [asdict(version) for version in self.versions]
        return {"source": self.source, "destination": self.destination, "versions": versions}


def push_lpms(
    url: str,
    references: str | Sequence[str] = (),
    space: str = "darts",
    registry: str | None = None,
    listener: Listener = SILENT,
) -> CopyResult:
    """Copy versions of this registry to another one.

    Args:
        url: of the other one.
        references: of LPMs, each the one version it names elsewhere too; none: every version.
        space: of the references.
        registry: URL of this one; None for ``$LATKIT_REGISTRY`` or the default.
        listener: receives a warning for each version that is refused, and the progress.

    Raises:
        InputError: a registry cannot be opened, the source has no LPM, or a reference names nothing
            that can be copied.
        LatkitError: a registry cannot be read or written. What was copied stays, and the same call
            goes on.
    """
    return _copy(Registry(registry), Registry(url), several(references), space, listener)


def pull_lpms(
    url: str,
    references: str | Sequence[str] = (),
    space: str = "darts",
    registry: str | None = None,
    listener: Listener = SILENT,
) -> CopyResult:
    """Copy versions of another registry to this one; see :func:`push_lpms`."""
    return _copy(Registry(url), Registry(registry), several(references), space, listener)


def sync_lpms(
    url: str, registry: str | None = None, listener: Listener = SILENT
) -> tuple[CopyResult, CopyResult]:
    """Copy every version that one of two registries lacks to it; see :func:`push_lpms`.

    Returns:
        What was pushed, then what was pulled.
    """
    here, there = Registry(registry), Registry(url)
    pushed = _copy(here, there, (), "", listener, False)
    return pushed, _copy(there, here, (), "", listener, False)


def _copy(
    source: Registry,
    destination: Registry,
    references: tuple[str, ...],
    space: str,
    listener: Listener,
    is_needed: bool = True,
) -> CopyResult:
    """Copy versions; ``is_needed``: that there are any."""
    entries = [source.resolve(reference, space) for reference in references] or source.entries()
    if not entries and is_needed:
        raise InputError(
            f"{source.url} has no LPM", "check the address, or publish one there: latkit train-lpm"
        )
    for entry in entries:
        if entry.version == BUILT_IN:
            raise InputError(
                f"{entry.reference} is built in", "leave it out: every latkit has it already"
            )
    copied: list[CopiedVersion] = []
    if entries:
        destination.check_writable()
        destination.note_claims(listener)
    there = _Versions(destination, {entry.parent for entry in entries})
    try:
        for done, entry in enumerate(sorted(entries, key=lambda e: (e.parent, e.version))):
            listener.progress(Progress("versions", done, len(entries), 0, entry.reference))
            try:
                copied.append(_copy_version(source, there, entry))
            except LPMError as error:
                listener.warn(f"{entry.reference} is refused: {error}")
                refused = CopiedVersion(entry.space, entry.reference, None, False, str(error))
                copied.append(refused)
    finally:
        listener.end_progress()
    return CopyResult(source.url, destination.url, tuple(copied))


def _copy_version(source: Registry, there: _Versions, entry: Entry) -> CopiedVersion:
    digest = sha256(source.card_file(entry))
    copy = there.find(entry, digest)
    if is_new := copy is None:
        card, files = source.files(entry)
        copy = there.registry.add(card, files, digest, there.number(entry, digest))
    there.note(copy, digest)
    return CopiedVersion(entry.space, entry.reference, copy.reference, is_new)


class _Versions:
    """The whole versions of a destination, of some targets, by the digests of their cards."""

    def __init__(self, registry: Registry, parents: set[str]) -> None:
        self.registry = registry
        self._by_digest: dict[tuple[str, str], Entry] = {}
        self._whole: dict[str, set[int]] = {parent: set() for parent in parents}
        self._last: dict[str, int] = {}  # that this copying came by
        for entry in registry.entries() if parents else ():
            if entry.parent not in parents:
                continue
            self._whole[entry.parent].add(entry.version)
            try:
                digest = sha256(registry.card_file(entry))
            except LPMError:  # one that is missing by now, or a link: it is nobody's copy
                continue
            self._by_digest[entry.parent, digest] = entry

    def find(self, entry: Entry, digest: str) -> Entry | None:
        """The version that has a card of this digest."""
        return self._by_digest.get((entry.parent, digest))

    def note(self, entry: Entry, digest: str) -> None:
        """Take note of where a version is now."""
        self._by_digest[entry.parent, digest] = entry
        self._whole[entry.parent].add(entry.version)
        self._last[entry.parent] = entry.version

    def number(self, entry: Entry, digest: str) -> int | None:
        """The number that a version should have; None: the one after the last."""
        unfinished = self.registry.unfinished(entry, self._whole[entry.parent])
        for number, token in unfinished.items():
            if token == digest:  # an earlier push of this version was broken off
                return number
        is_free = entry.version not in self._whole[entry.parent] | unfinished.keys()
        is_after = entry.version > self._last.get(entry.parent, 0)
        return entry.version if is_free and is_after else None
