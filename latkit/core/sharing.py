"""What publishing to a place that others publish to needs, whatever it is that is published."""

from __future__ import annotations

import hashlib

from latkit.core.errors import LatkitError, from_os_error
from latkit.core.events import Listener
from latkit.core.storage import Storage


def sha256(content: bytes) -> str:
    """The digest by which files are verified, and by which a copy is recognised."""
    return hashlib.sha256(content).hexdigest()


def note_claims(storage: Storage, what: str, listener: Listener) -> None:
    """Report where a claim is less than a claim: in a store that has no conditional writes.

    Args:
        storage: where something is to be claimed.
        what: two processes may want to publish there, e.g. ``the same target``.
        listener: receives the note.

    Raises:
        OSError: the place cannot be written.
    """
    if storage.claimed_by_writing_to == "list":
        listener.note(
            f"{storage.url} has no conditional writes: of two processes that publish {what} there "
            "at the same moment, one is refused"
        )


def storage_error(
    storage: Storage, error: OSError, verb: str, what: str, instead: str
) -> LatkitError:
    """The one-line form of a failure at a place that may be remote.

    Args:
        storage: the place.
        error: what failed.
        verb: ``read`` or ``write``.
        what: is there, with the URL, e.g. ``the registry s3://lab/lpms``.
        instead: the end of the fix, e.g. ``or choose another URL``.
    """
    failure = from_os_error(error, f"{verb} {what}", instead)
    if storage.is_local:
        return failure
    return LatkitError(
        failure.cause, f"check the URL, the network, and that you may {verb} there; {instead}"
    )
