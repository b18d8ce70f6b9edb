"""How an LPM is trained."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from latkit.core.errors import InputError
from latkit.core.quantities import LATENCY, get_quantity
from latkit.dataset import LatencyDataset
from latkit.lpm.kinds import LPM_KINDS, check_learns_from_other_devices
from latkit.lpm.rows import check_measured
from latkit.lpm.transfer import TransferPrior

CHOICES = ("random", "active")
MIN_TRAIN = 2


@dataclass(frozen=True)
class Recipe:
    """How an LPM is trained.

    Attributes:
        kind: a name in ``LPM_KINDS``.
        n_train: architectures to train on; None: four fifths.
        choose: ``random``, or ``active``: the next one is where the ``default`` LPM is least sure,
            given those before.
        seed: of the choice, and of whatever is random in training.
        options: of the kind's ``options_class``; None: its defaults.
        transfer: LPMs of other devices, for a kind that learns from them.
        quantity: what is learnt, a name in ``latkit.core.quantities``.

    Raises:
        InputError: a name is unknown, or the kind has no such options or no use for a transfer
            prior.
        LPMError: the kind is a plug-in that does not load.
    """

    kind: str = "default"
    n_train: int | None = None
    choose: str = "random"
    seed: int = 0
    options: Any = None
    transfer: TransferPrior | None = None
    quantity: str = LATENCY

    def __post_init__(self) -> None:
        get_quantity(self.quantity)
        kind = LPM_KINDS.get(self.kind)
        if self.choose not in CHOICES:
            raise InputError(f"unknown choose {self.choose!r}", f"use one of: {', '.join(CHOICES)}")
        if self.n_train is not None and self.n_train < MIN_TRAIN:
            raise InputError(
                f"n_train={self.n_train} is too few to train on", f"use {MIN_TRAIN} or more"
            )
        if self.options is None:
            object.__setattr__(self, "options", kind.options_class())
        elif not isinstance(self.options, kind.options_class):
            raise InputError(
                f"{self.options!r} are no options of the kind {self.kind}",
                f"use a {kind.options_class.__name__}",
            )
        if self.transfer is not None:
            check_learns_from_other_devices(self.kind)

    def digest(self, dataset: LatencyDataset) -> str:
        """SHA-256 of what an LPM is trained on, and how.

        Of the version of latkit it is independent.

        Raises:
            DatasetError: the quantity was not measured.
        """
        check_measured(dataset, self.quantity)
        content = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "options": dataclasses.asdict(self.options),
            "transfer": None if self.transfer is None else self.transfer.digest(),
            "dataset": dataset.digest(self.quantity),
            "usable": hashlib.sha256(_usable(dataset, self.quantity)).hexdigest(),
        }
        # An option of a plug-in may be anything that has a text.
        text = json.dumps(content, sort_keys=True, default=str)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _usable(dataset: LatencyDataset, quantity: str) -> bytes:
    """What a dataset's digest leaves out: which rows count, and at what speed of the machine."""
    usable = dataset.usable()
    columns = (usable[name].to_numpy() for name in ("arch_id", quantity))
    return b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
