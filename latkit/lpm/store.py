"""An LPM as files: ``lpm.json`` (its card) and ``weights.safetensors``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch

from latkit.core.errors import LatkitError, LPMError, from_os_error
from latkit.core.quantities import QUANTITIES, Quantity, get_quantity
from latkit.core.storage import Storage
from latkit.dataset import Target
from latkit.lpm.base import LPM
from latkit.lpm.kinds import kind_in_file

FORMAT = "latkit-lpm"
FORMAT_VERSION = 1
CARD = "lpm.json"
WEIGHTS = "weights.safetensors"


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
        return cls(**{**values, "target": Target.from_dict(content["target"])})


def write_lpm(storage: Storage, folder: str, lpm: LPM, card: LPMCard) -> None:
    """Write both files into a folder; the card comes last, so a folder with a card is whole.

    Raises:
        OSError: the place cannot be written.
    """
    weights = weights_of(lpm)
    text = card_text(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **card.to_dict(),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
    )
    storage.write(f"{folder}/{WEIGHTS}", weights)
    storage.write(f"{folder}/.{CARD}", text.encode())
    storage.move(f"{folder}/.{CARD}", f"{folder}/{CARD}")


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
    fix = "remove this version (its folder) and train it again"
    try:
        text = storage.read(f"{folder}/{CARD}").decode()
        content = json.loads(text)
    except FileNotFoundError:
        raise LPMError(f"{storage.location(folder)} holds no LPM (no {CARD})", fix) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
        raise LPMError(f"{path} is corrupt (not JSON in UTF-8: {str(error)[:200]})", fix) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LPMError(f"{path} does not describe an LPM", fix)
    if content.get("format_version") != FORMAT_VERSION:
        raise LPMError(
            f"{path} has format version {content.get('format_version')}, "
            f"this latkit reads {FORMAT_VERSION}",
            "use the version of latkit that wrote it",
        )
    if text != card_text(content):
        raise LPMError(f"{path} is corrupt (its SHA-256 is not the one in it)", fix)
    if str(content.get("cost")) not in QUANTITIES:
        raise LPMError(
            f"{path} is of the quantity {content.get('cost')!r}, which this latkit does not know",
            "use the version that wrote it",
        )
    try:
        return LPMCard.from_dict(content), str(content["weights_sha256"])
    except LatkitError as error:
        raise LPMError(f"{path}: {error.cause}", error.fix) from None
    except (KeyError, TypeError, ValueError) as error:
        raise LPMError(f"{path} is corrupt ({type(error).__name__}: {error})", fix) from None


def read_lpm(storage: Storage, folder: str) -> tuple[LPM, LPMCard]:
    """The LPM of a folder, its weights checked against the card's digest.

    Raises:
        LPMError: a file is missing or corrupt, or the kind is unknown or does not load.
        LatkitError: a file cannot be read.
    """
    card, digest = read_card(storage, folder)
    path = storage.location(f"{folder}/{WEIGHTS}")
    fix = "remove this version (its folder) and train it again"
    kind = kind_in_file(card.kind)
    if kind is None:
        raise LPMError(
            f"{storage.location(folder)} has the unknown kind {card.kind!r}",
            "install the package that has this kind, or use the version that wrote the LPM",
        )
    try:
        weights = storage.read(f"{folder}/{WEIGHTS}")
    except FileNotFoundError:
        raise LPMError(f"{path} is missing", fix) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    if hashlib.sha256(weights).hexdigest() != digest:
        raise LPMError(f"{path} is corrupt (its SHA-256 is not the card's)", fix)
    try:
        state = safetensors.torch.load(weights)
        return kind.from_state(card.hyper_parameters, state), card
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise LPMError(f"{path} does not fit its card ({error})", fix) from None
