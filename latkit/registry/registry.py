"""The registry: versioned LPMs under ``<space>/<device>/<backend>/<setting>/<version>/``.

It is a folder on any fsspec URL: ``$LATKIT_REGISTRY``, by default in the platform's data folder.
Versions are immutable and count from 1. LPMs of other quantities than the latency have a folder of
their own beside those of the same target, ``<setting>+<cost>/``: the one is never taken for, or
counted with, the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import uuid
from collections.abc import Collection, Mapping

from latkit.core.device import check_device_name
from latkit.core.errors import InputError, LatkitError, LPMError
from latkit.core.events import Listener
from latkit.core.files import user_folder
from latkit.core.quantities import LATENCY, get_quantity
from latkit.core.sharing import note_claims, sha256, storage_error
from latkit.core.storage import Storage
from latkit.dataset import Target
from latkit.lpm.base import LPM
from latkit.lpm.readme import README, model_card
from latkit.lpm.store import (
    CARD,
    MOST_CARD_BYTES,
    WEIGHTS,
    LPMCard,
    lpm_files,
    parse_card,
    read_card,
    read_lpm,
    read_weights,
    weights_of,
    write_files,
)
from latkit.registry.entries import BUILT_IN, Entry, built_in_entries, load_built_in
from latkit.spaces import SPACES

VARIABLE = "LATKIT_REGISTRY"

_REFERENCE = re.compile(
    r"(?P<device>[^/@+]+)(?:/(?P<backend>[^/@+]+))?(?:/(?P<setting>[^/@+]+))?"
    r"(?:\+(?P<cost>\w+))?(?:@(?P<version>\w+))?"
)
# A folder to try whether a registry can be written, and how long no process takes for that.
_PROBE = ".writable-"
_PROBE_SECONDS = 3600.0
# Of a version's number: who writes to a shared registry cannot make all later ones huge.
_MOST_DIGITS = 9


def _is_number(name: str) -> bool:
    """Whether a folder's name is a published version's; 0 is that of what comes with latkit."""
    return name.isdecimal() and len(name) <= _MOST_DIGITS and int(name) != BUILT_IN


def _check_place(entry: Entry, card: LPMCard) -> None:
    """Refuse an LPM that was moved where another one belongs."""
    for what, of_card, of_place in (
        ("space", card.target.space, entry.space),
        ("quantity", card.cost, entry.cost),
    ):
        if of_card != of_place:
            raise LPMError(
                f"{entry.folder} holds an LPM of the {what} {of_card}",
                f"move it to the folder of its {what}",
            )


class Registry:
    """LPMs by name.

    Args:
        url: any fsspec URL or a path; None for ``$LATKIT_REGISTRY`` or the default.

    Raises:
        InputError: it cannot be opened, or there is neither a variable nor a home folder.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = (
            url or os.environ.get(VARIABLE) or str(user_folder("data", VARIABLE) / "registry")
        )
        try:
            self._storage = Storage(self.url)
        except InputError as error:
            raise InputError(f"registry: {error.cause}", f"{error.fix}, in {VARIABLE}") from None

    def publish(self, lpm: LPM, card: LPMCard) -> Entry:
        """Add a version after the last; two publishers never get the same number.

        Raises:
            LatkitError: the registry cannot be written.
        """
        # Nobody else has this token: what is published twice is two versions.
        return self.add(card, lpm_files(lpm, card), uuid.uuid4().hex)

    def add(
        self, card: LPMCard, files: Mapping[str, bytes], token: str, first: int | None = None
    ) -> Entry:
        """Add the files of a version, and a ``README.md`` for people.

        Args:
            card: what is in the file that is the card.
            files: by their names (see :func:`lpm_files`).
            token: of the version's claim (see :meth:`Storage.claim_folder`). Whoever adds with the
                same token must add the same files.
            first: the number it gets if nobody has that; None: the one after the last.

        Raises:
            LatkitError: the registry cannot be written.
        """
        entry = Entry.of(card)
        try:
            self._storage.make_folder(entry.parent)
            version = first or max(self._claimed(entry), default=0) + 1
            while True:
                entry = dataclasses.replace(entry, version=version)
                try:
                    # Of two publishers only one can claim the number.
                    self._storage.claim_folder(entry.folder, token)
                    break
                except FileExistsError:
                    version = max(version, *self._claimed(entry)) + 1
            readme = {README: model_card(card).encode()}
            write_files(self._storage, entry.folder, {**readme, **files})
        except OSError as error:
            raise self._os_error(error, "write") from None
        return entry

    def unfinished(self, entry: Entry, whole: Collection[int]) -> dict[int, str | None]:
        """Numbers of an entry's target that are taken and of no whole version; and their tokens.

        Args:
            entry: of the target.
            whole: numbers of the whole versions.

        Raises:
            LatkitError: the registry cannot be read.
        """
        try:
            numbers = [number for number in self._claimed(entry) if number not in whole]
            folders = [dataclasses.replace(entry, version=number).folder for number in numbers]
            return dict(zip(numbers, map(self._storage.claim_of, folders), strict=True))
        except OSError as error:
            raise self._os_error(error, "read") from None

    def files(self, entry: Entry) -> tuple[LPMCard, dict[str, bytes]]:
        """A version's card and files, verified, and without anything that is not the card's.

        Raises:
            LPMError: a file is missing, corrupt or a symbolic link, or belongs elsewhere.
            LatkitError: a file cannot be read.
        """
        file = self.card_file(entry)
        path = self._storage.location(f"{entry.folder}/{CARD}")
        card, digest = parse_card(file, path)
        if Entry.of(card).parent != entry.parent:
            raise LPMError(
                f"{path} is the card of {Entry.of(card).parent}", "remove it, or move it there"
            )
        self._check_plain(entry, WEIGHTS)
        weights = read_weights(self._storage, entry.folder, digest)
        return card, {WEIGHTS: weights, CARD: file}

    def card_file(self, entry: Entry) -> bytes:
        """The file that is a version's card, as it is: two versions with the same are the same.

        Raises:
            LPMError: it is a symbolic link.
            LatkitError: it cannot be read.
        """
        self._check_plain(entry, CARD)
        try:
            return self._storage.read(f"{entry.folder}/{CARD}", MOST_CARD_BYTES)
        except OSError as error:
            raise self._os_error(error, "read") from None

    def _check_plain(self, entry: Entry, name: str) -> None:
        try:
            self._storage.check_no_link(f"{entry.folder}/{name}")
        except FileNotFoundError:
            path = self._storage.location(f"{entry.folder}/{name}")
            raise LPMError(f"{path} is missing", "remove this version (its folder)") from None
        except OSError as error:
            raise LPMError(
                f"{self._storage.location(entry.folder)} is refused: {error}",
                "put the file itself where the link is",
            ) from None

    def entries(self, folder: str = "") -> list[Entry]:
        """Every whole version, sorted; of each target the latency before other quantities.

        Args:
            folder: ``space/device``: only those in it.

        Raises:
            LatkitError: the registry cannot be read.
        """
        found = []
        try:
            for path in self._storage.files(folder):
                parts = path.split("/")
                if len(parts) == 6 and parts[-1] == CARD and _is_number(parts[4]):
                    space, device, backend, named, version, _ = parts
                    setting, _, quantity = named.partition("+")
                    entry = Entry(
                        space, device, backend, setting, int(version), quantity or LATENCY
                    )
                    # Not what a person has copied to a name that no LPM has.
                    if f"{entry.folder}/{CARD}" == "/".join(parts):
                        found.append(entry)
        except OSError as error:
            raise self._os_error(error, "read") from None
        return sorted(
            found,
            key=lambda e: (e.space, e.device, e.backend, e.setting, e.cost != LATENCY, e.cost,
                           e.version),
        )  # fmt: skip

    def resolve(self, reference: str, space: str, only: str | None = None) -> Entry:
        """The one version a reference names: ``device[/backend[/setting]][+cost][@version]``.

        Without a quantity it is an LPM of the latency, never one of another quantity. Without a
        version (or with ``@latest``) it is the newest one. A reference that leaves several targets
        open is refused. Where nothing that was published fits, a built-in LPM may.

        Args:
            reference: what a user wrote.
            space: of the LPM.
            only: a quantity; a reference to an LPM of another one is refused.

        Raises:
            InputError: malformed, unknown, ambiguous or of another quantity than ``only``; the
                message lists what there is.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None or not re.fullmatch(r"\d+|latest", match["version"] or "latest"):
            raise InputError(
                f"{reference!r} is not an LPM reference",
                "write device[/backend[/setting]][+cost][@version], e.g. p100, p100/torch-cuda@3 "
                "or p100+energy_mj",
            )
        quantity = get_quantity(match["cost"] or LATENCY).name
        if only not in (None, quantity):
            suffix = "" if only == LATENCY else f"+{only}"
            raise InputError(
                f"{reference!r} names an LPM of {quantity}, and only {only} will do here",
                f"write device[/backend[/setting]]{suffix}[@version]; latkit lpms list has them",
            )
        device = match["device"]
        entries = self._entries_of(space, device)
        built_in = [entry for entry in built_in_entries() if entry.space == space]
        of_device = [e for e in (*entries, *built_in) if e.device == device]
        if not of_device:
            published = self.entries()
            entries = [entry for entry in published if entry.space == space]
            all_there = {e.short_reference for e in (*entries, *built_in)}
            known = ", ".join(sorted(all_there)) or "none yet"
            elsewhere = sorted({e.space for e in published if e.device == device})
            only_of = f"only of {', '.join(elsewhere)}; " if elsewhere else ""
            other = f"use --space {' or '.join(elsewhere)}, or" if elsewhere else "use"
            raise InputError(
                f"no LPM for device {device!r} and space {space} in {self.url} "
                f"({only_of}devices: {known})",
                f"{other} one of these, or make one: "
                f"latkit profile --device {device} --space {space} and latkit train-lpm",
            )
        fitting_quantity = [e for e in of_device if e.cost == quantity]
        if not fitting_quantity:
            option = "" if quantity == LATENCY else f" --cost {quantity}"
            fix = f"make one: latkit train-lpm{option}"
            if only is None:  # else another quantity would be refused
                fix = f"use one of: {', '.join(e.reference for e in of_device)}, or {fix}"
            raise InputError(
                f"no LPM of {quantity} for device {device!r} and space {space} in {self.url}",
                fix,
            )
        wanted = {name: match[name] for name in ("device", "backend", "setting") if match[name]}
        wanted["cost"] = quantity

        def fitting(among: list[Entry]) -> list[Entry]:
            fit = [e for e in among if all(getattr(e, k) == v for k, v in wanted.items())]
            if match["version"] and match["version"] != "latest":
                fit = [e for e in fit if e.version == int(match["version"])]
            return fit

        candidates = fitting(entries) or fitting(built_in)
        if not candidates:
            listed = ", ".join(e.reference for e in fitting_quantity)
            raise InputError(f"no LPM {reference!r}", f"use one of: {listed}")
        targets = {(entry.backend, entry.setting) for entry in candidates}
        if len(targets) > 1:
            there = [e.reference for e in candidates]
            raise InputError(
                f"{reference!r} fits {len(targets)} targets", f"use one of: {', '.join(there)}"
            )
        return candidates[-1]

    def _entries_of(self, space: str, device: str) -> list[Entry]:
        """Versions of a device, without listing those of a thousand others."""
        folder = f"{space}/{device}"
        try:
            check_device_name(device)
            SPACES.check(space)
        except InputError:  # whatever is in such a folder, nobody has published it
            folder = ""
        return [e for e in self.entries(folder) if (e.space, e.device) == (space, device)]

    def resolve_version(self, reference: str, space: str) -> Entry:
        """:meth:`resolve`, of a reference that names its version, for what cannot be undone.

        Raises:
            InputError: as in :meth:`resolve`, or it names no version.
        """
        if "@" not in reference:
            raise InputError(f"{reference!r} names no version", f"write e.g. {reference}@3")
        return self.resolve(reference, space)

    def card(self, entry: Entry) -> LPMCard:
        """The card of a version.

        Raises:
            LPMError: it is corrupt.
        """
        if entry.version == BUILT_IN:
            return load_built_in(entry)[1]
        card, _ = read_card(self._storage, entry.folder)
        _check_place(entry, card)
        return card

    def trained_by(self, digest: str, target: Target, quantity: str) -> Entry | None:
        """The newest version of a target that was trained as a digest says (:meth:`Recipe.digest`).

        None: there is none that can be read.

        Raises:
            LatkitError: the registry cannot be read.
        """
        place = Entry.of_target(target, quantity)
        for entry in reversed(self.entries(f"{place.space}/{place.device}")):
            if entry.parent == place.parent:
                with contextlib.suppress(LPMError):
                    if self.card(entry).training.get("digest") == digest:
                        return entry
        return None

    def weights_digest(self, entry: Entry) -> str:
        """SHA-256 of a version's weights, which identifies it."""
        if entry.version == BUILT_IN:
            return f"sha256:{sha256(weights_of(load_built_in(entry)[0]))}"
        _, digest = read_card(self._storage, entry.folder)
        return f"sha256:{digest}"

    def load(self, entry: Entry) -> tuple[LPM, LPMCard]:
        """A version's LPM and card.

        Raises:
            LPMError: a file is missing or corrupt, or does not belong where it lies.
        """
        if entry.version == BUILT_IN:
            return load_built_in(entry)
        lpm, card = read_lpm(self._storage, entry.folder)
        _check_place(entry, card)
        return lpm, card

    def remove(self, entry: Entry) -> None:
        """Delete a version; its number is not given again while a later one is there.

        Raises:
            InputError: it is built in.
            LatkitError: it cannot be deleted.
        """
        if entry.version == BUILT_IN:
            raise InputError(
                f"{entry.reference} is built in", "publish an LPM of that device to replace it"
            )
        try:
            # Without its card it is no version any more, whatever happens next.
            self._storage.remove_file(f"{entry.folder}/{CARD}")
            self._storage.remove_folder(entry.folder)
        except OSError as error:
            raise self._os_error(error, "write") from None

    def check_writable(self) -> None:
        """Do what publishing and removing do, with a folder of another name.

        Raises:
            LatkitError: the registry cannot be written.
        """
        probe = f"{_PROBE}{uuid.uuid4().hex}"
        try:
            for name in self._storage.names(""):
                if name.startswith(_PROBE) and self._storage.is_older(name, _PROBE_SECONDS):
                    self._storage.remove_folder(name)  # of a process that was killed
            self._storage.make_folder(f"{probe}/parent")
            if self._storage.names(f"{probe}/parent"):
                raise OSError("it lists files that are not there")
            self._storage.claim_folder(f"{probe}/parent/1", probe)
            self._storage.write(f"{probe}/parent/1/.file", b"latkit")
            self._storage.move(f"{probe}/parent/1/.file", f"{probe}/parent/1/file")
            if self._storage.names(f"{probe}/parent") != ["1"]:
                raise OSError("what was just written is not listed")
            self._storage.remove_file(f"{probe}/parent/1/file")
            self._storage.remove_folder(probe)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._storage.remove_folder(probe)
            raise self._os_error(error, "write") from None

    def location(self, entry: Entry) -> str:
        """Where a version lies."""
        if entry.version == BUILT_IN:
            return "built in"
        return self._storage.location(entry.folder)

    def note_claims(self, listener: Listener) -> None:
        """Report whether of two processes that publish at the same time one is refused.

        Raises:
            LatkitError: the registry cannot be written.
        """
        try:
            note_claims(self._storage, "the same target", listener)
        except OSError as error:
            raise self._os_error(error, "write") from None

    def _os_error(self, error: OSError, verb: str) -> LatkitError:
        instead = f"or set {VARIABLE} to another place"
        return storage_error(self._storage, error, verb, f"the registry {self.url}", instead)

    def _claimed(self, entry: Entry) -> list[int]:
        return [int(name) for name in self._storage.names(entry.parent) if _is_number(name)]
