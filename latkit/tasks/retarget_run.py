"""What RUN of ``latkit retarget`` is, and the accuracy LPM in it."""

from __future__ import annotations

from pathlib import Path

from latkit.core.errors import InputError, SearchError
from latkit.core.files import expand_user
from latkit.core.quantities import ACCURACY
from latkit.core.storage import Storage
from latkit.lpm.prediction import PublishedLPM
from latkit.lpm.store import CARD, read_lpm
from latkit.registry import Registry, load_lpm
from latkit.search.claim import CONFIG, read_config
from latkit.search.oneshot import ONE_SHOT
from latkit.search.oneshot.accuracy import FOLDER
from latkit.spaces import SPACES

_FIX = f"name the folder of a latkit search --method {ONE_SHOT} that has ended"


def read_accuracy(given: str | Path, space: str | None, registry: Registry) -> PublishedLPM:
    """The accuracy LPM of a run.

    Args:
        given: the folder of a one-shot search, that of an accuracy LPM, or its reference.
        space: that it has to be of; None: any.
        registry: of references.

    Raises:
        InputError: it is none of these, has not ended, or is of another space.
        LPMError: a file of the LPM is missing or corrupt.
        LatkitError: a file cannot be read.
    """
    folder = given if isinstance(given, Path) else expand_user(given)
    lpm = _of_folder(folder) if folder.exists() else _of_registry(str(given), space, registry)
    if lpm.quantity != ACCURACY:
        raise InputError(f"{given} is an LPM of {lpm.quantity}", "name the LPM of an accuracy")
    if space not in (None, lpm.space):
        raise InputError(
            f"{given} is of the space {lpm.space}, not {space}",
            "leave --space out, and name LPMs of devices for its space",
        )
    return lpm


def _of_folder(folder: Path) -> PublishedLPM:
    """What the folder of a run holds."""
    for place in (folder, folder / FOLDER):
        if (place / CARD).exists():
            whole = place.resolve()
            model, card = read_lpm(Storage(str(whole.parent)), whole.name)
            return PublishedLPM(model, card, str(place))
    if not (folder / CONFIG).exists():
        raise InputError(f"{folder} holds no search and no accuracy LPM", _FIX)
    config = read_config(folder / CONFIG, SearchError)
    if config.get("method") == ONE_SHOT:
        raise InputError(
            f"the one-shot search in {folder} has not ended: it has no accuracy LPM yet",
            "repeat its latkit search command, which goes on",
        )
    if "lpm" in config:
        raise InputError(
            f"{folder} is a search for a device, whose alpha has to be trained on for another one",
            f"use latkit search --from {folder} --device … --target-ms …",
        )
    raise InputError(f"{folder} is no search, and only one-shot searches are retargeted", _FIX)


def _of_registry(reference: str, space: str | None, registry: Registry) -> PublishedLPM:
    """The accuracy LPM of a reference, of the one space that has it."""
    found = []
    for name in SPACES.names() if space is None else [space]:
        try:
            found.append(load_lpm(reference, name, registry))
        except InputError:
            continue
    if not found:
        where = "" if space is None else f" for the space {space}"
        raise InputError(
            f"{reference} is no folder, and no LPM of the registry {registry.url}{where}", _FIX
        )
    if len(found) > 1:
        spaces = ", ".join(lpm.space for lpm in found)
        raise InputError(f"{reference} is an LPM of several spaces: {spaces}", "add --space")
    return found[0]
