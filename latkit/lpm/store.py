"""An LPM as files: ``lpm.json`` (its card) and ``weights.safetensors``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from latkit.core.errors import LatkitError, LPMError, from_os_error
from latkit.core.json_files import parse_json
from latkit.core.quantities import QUANTITIES, Quantity, get_quantity
from latkit.core.storage import Storage
from latkit.dataset import Target
from latkit.lpm.base import LPM
from latkit.lpm.card_fields import check_fields
from latkit.lpm.kinds import kind_in_file
from latkit.spaces import SearchSpace, get_space

FORMAT = "latkit-lpm"
FORMAT_VERSION = 1
CARD = "lpm.json"
WEIGHTS = "weights.safetensors"
# What a hostile place may make this process read; LPMs have a thousandth of it.
MOST_CARD_BYTES = 2**24
MOST_WEIGHTS_BYTES = 2**30
# What rebuilding a model from weights and hyper-parameters that do not belong together raises.
_UNFIT = (safetensors.SafetensorError, ArithmeticError, AttributeError, LookupError, TypeError,
          ValueError, RuntimeError)  # fmt: skip
_FIX = "remove this version (its folder) and train it again"


@dataclass(frozen=True)
class LPMCard:
    """What there is to know about an LPM besides its weights.

    Attributes:
        kind: a name in ``latkit.lpm.kinds.LPM_KINDS``.
        cost: the name of what is predicted, one of ``latkit.core.quantities.QUANTITIES``.
        target: for what.
        fingerprint: of the machine that was measured.
        dataset: digest and size of the training data, its retest sd and anchor time.
        metrics: on held-out architectures (see ``latkit.lpm.metrics``).
        baselines: the same metrics of simpler predictors on the same split.
        training: how it was trained.
        hyper_parameters: what rebuilds the model around its weights.
        latkit_version: that trained it.
        created_at: UTC, ISO 8601.
    """

    kind: str
    cost: str
    target: Target
    fingerprint: dict[str, Any]
    dataset: dict[str, Any]
    metrics: dict[str, Any]
    baselines: dict[str, dict[str, Any]]
    training: dict[str, Any]
    hyper_parameters: dict[str, Any]
    latkit_version: str
    created_at: str

    @property
    def quantity(self) -> Quantity:
        """What is predicted, with its unit."""
        return get_quantity(self.cost)

    def to_dict(self) -> dict[str, Any]:
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**content, "target": self.target.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LPMCard:
        """A card from a file's fields.

        Raises:
            KeyError, TypeError, LatkitError: fields are missing or malformed.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        values = {name: content[name] for name in names}
        target = Target.from_dict(content["target"])
        check_fields(values, get_quantity(values["cost"]))
        return cls(**{**values, "target": target})


def write_lpm(storage: Storage, folder: str, lpm: LPM, card: LPMCard) -> None:
    """Write the files of an LPM into a folder that is there.

    Raises:
        OSError: the place cannot be written.
    """
    write_files(storage, folder, lpm_files(lpm, card))


def write_files(storage: Storage, folder: str, files: Mapping[str, bytes]) -> None:
    """Write an LPM's files; the card comes last, so a folder with a card is whole.

    Raises:
        OSError: the place cannot be written, or does not hold what was written to it.
    """
    for name in sorted(files, key=lambda name: name == CARD):
        if name == CARD:  # a version that is whole is not written to again
            storage.remove_hidden(folder, files)
        storage.write_whole(f"{folder}/{name}", files[name])


def lpm_files(lpm: LPM, card: LPMCard) -> dict[str, bytes]:
    """The files of an LPM, by their names."""
    weights = weights_of(lpm)
    text = card_text(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **card.to_dict(),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
    )
    return {WEIGHTS: weights, CARD: text.encode()}


def weights_of(lpm: LPM) -> bytes:
    """The content of the file of weights."""
    # Copies: one tensor may stand under two names, which the format refuses.
    return safetensors.torch.save(
        {
            name: tensor.clone(memory_format=torch.contiguous_format)
            for name, tensor in lpm.state().items()
        }
    )


def card_text(content: Mapping[str, Any]) -> str:
    """A card as it stands in its file, signed by the digest of all else that is in it."""
    unsigned = {name: value for name, value in content.items() if name != "card_sha256"}
    digest = hashlib.sha256(_render(unsigned).encode()).hexdigest()
    return _render({**unsigned, "card_sha256": digest})


def _render(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_card(storage: Storage, folder: str) -> tuple[LPMCard, str]:
    """The card of an LPM folder, and the SHA-256 its weights must have.

    Raises:
        LPMError: the card is missing, corrupt, or from another format version.
        LatkitError: it cannot be read.
    """
    path = storage.location(f"{folder}/{CARD}")
    try:
        content = storage.read(f"{folder}/{CARD}", MOST_CARD_BYTES)
    except FileNotFoundError:
        raise LPMError(f"{storage.location(folder)} holds no LPM (no {CARD})", _FIX) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    return parse_card(content, path)


def parse_card(file: bytes, path: str) -> tuple[LPMCard, str]:
    """The card in a file's content, and the SHA-256 the weights must have.

    Args:
        file: the content.
        path: of the file, for messages.

    Raises:
        LPMError: it is corrupt, or from another format version.
    """
    try:
        text, content = file.decode(), parse_json(file)
    except ValueError as error:
        raise LPMError(f"{path} is corrupt (not JSON in UTF-8: {str(error)[:200]})", _FIX) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LPMError(f"{path} does not describe an LPM", _FIX)
    if content.get("format_version") != FORMAT_VERSION:
        raise LPMError(
            f"{path} has format version {content.get('format_version')}, "
            f"this latkit reads {FORMAT_VERSION}",
            "use the version of latkit that wrote it",
        )
    if text != card_text(content):
        raise LPMError(f"{path} is corrupt (its SHA-256 is not the one in it)", _FIX)
    if str(content.get("cost")) not in QUANTITIES:
        raise LPMError(
            f"{path} is of the quantity {content.get('cost')!r}, which this latkit does not know",
            "use the version that wrote it",
        )
    try:
        return LPMCard.from_dict(content), str(content["weights_sha256"])
    except LatkitError as error:
        raise LPMError(f"{path}: {error.cause}", error.fix) from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise LPMError(f"{path} is corrupt ({type(error).__name__}: {error})", _FIX) from None


def read_weights(storage: Storage, folder: str, digest: str) -> bytes:
    """The content of an LPM folder's file of weights.

    Args:
        storage: where the folder is.
        folder: of the LPM.
        digest: the SHA-256 on the card.

    Raises:
        LPMError: the file is missing or corrupt.
        LatkitError: it cannot be read.
    """
    path = storage.location(f"{folder}/{WEIGHTS}")
    try:
        weights = storage.read(f"{folder}/{WEIGHTS}", MOST_WEIGHTS_BYTES)
    except FileNotFoundError:
        raise LPMError(f"{path} is missing", _FIX) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    if hashlib.sha256(weights).hexdigest() != digest:
        raise LPMError(f"{path} is corrupt (its SHA-256 is not the card's)", _FIX)
    return weights


def read_lpm(storage: Storage, folder: str) -> tuple[LPM, LPMCard]:
    """The LPM of a folder, its weights checked against the card's digest.

    Raises:
        LPMError: a file is missing or corrupt, or the kind is unknown or does not load.
        LatkitError: a file cannot be read.
    """
    card, digest = read_card(storage, folder)
    kind = kind_in_file(card.kind)
    if kind is None:
        raise LPMError(
            f"{storage.location(folder)} has the unknown kind {card.kind!r}",
            "install the package that has this kind, or use the version that wrote the LPM",
        )
    weights = read_weights(storage, folder, digest)
    try:
        state = safetensors.torch.load(weights)
        lpm = kind.from_state(card.hyper_parameters, state)
        _check_predicts(lpm, get_space(card.target.space))
        return lpm, card
    except _UNFIT as error:
        path = storage.location(f"{folder}/{WEIGHTS}")
        raise LPMError(f"{path} does not fit its card ({error})", _FIX) from None


def _check_predicts(lpm: LPM, space: SearchSpace) -> None:
    """Try an LPM on one architecture: what does not fit shows in its arithmetic alone.

    Raises:
        ValueError: it predicts no number.
        RuntimeError, ...: its weights do not fit together.
    """
    encodings = space.encode(space.unrank(space.sample(1, 0)))
    value, std = lpm.predict(encodings), lpm.predict_std(encodings)
    if value.shape != (1,) or std.shape != (1,) or not np.isfinite([*value, *std]).all():
        raise ValueError("it predicts no number")
