"""LPMs of source devices, from the registry to a transfer prior."""

from __future__ import annotations

from collections.abc import Sequence

from latkit.core.errors import InputError
from latkit.core.events import SILENT, Listener
from latkit.core.quantities import LATENCY
from latkit.dataset import Target
from latkit.lpm.base import LPM
from latkit.lpm.kinds import check_learns_from_other_devices
from latkit.lpm.store import LPMCard
from latkit.lpm.transfer import TransferPrior
from latkit.registry.entries import Entry
from latkit.registry.registry import Registry
from latkit.spaces import get_space


class SourceDevices:
    """The LPMs that references name; each is loaded once, for however many targets.

    Args:
        references: of LPMs, one a source device.
        quantity: what all of them predict.
        kind: of the LPM that learns from them, and theirs.
        registry: where they are.

    Raises:
        InputError: the kind learns nothing from other devices.
    """

    def __init__(
        self, references: Sequence[str], quantity: str, kind: str, registry: Registry
    ) -> None:
        check_learns_from_other_devices(kind)
        self._references, self._quantity, self._kind = references, quantity, kind
        self._registry = registry
        self._loaded: dict[Entry, tuple[LPM, LPMCard]] = {}
        self._priors: dict[tuple[Entry, ...], TransferPrior] = {}

    def prior_for(self, target: Target, listener: Listener = SILENT) -> TransferPrior:
        """The transfer prior of the newest versions, for a target.

        Args:
            target: that the prior is for.
            listener: receives notes of LPMs of another setting.

        Raises:
            InputError: an LPM is unknown, of another quantity or kind, or of the target's own
                device: it may have been trained on what is to judge the new one.
            LPMError: an LPM cannot be read, or predicts what no quantity can be.
        """
        entries = []
        for reference in self._references:
            entry = self._registry.resolve(reference, target.space, self._quantity)
            self._check(entry, target, listener)
            entries.append(entry)
        chosen = tuple(entries)
        if chosen not in self._priors:
            sources = [(entry.reference, self._loaded[entry][0]) for entry in chosen]
            self._priors[chosen] = TransferPrior.of(get_space(target.space), sources)
        return self._priors[chosen]

    def _check(self, entry: Entry, target: Target, listener: Listener) -> None:
        if entry not in self._loaded:
            self._loaded[entry] = self._registry.load(entry)
        lpm, card = self._loaded[entry]
        if lpm.name != self._kind:
            raise InputError(
                f"the LPM {entry.reference} is of the kind {card.kind}",
                f"only LPMs of the kind {self._kind} can be source devices; leave this one out",
            )
        if target.device in {entry.device, *lpm.source_devices()}:
            raise InputError(
                f"the LPM {entry.reference} was made from measurements of {target.device} itself",
                "name other devices",
            )
        if card.target.setting != target.setting:
            listener.note(f"{entry.reference} is of another setting than {target.setting.slug}")


def load_transfer_prior(
    references: Sequence[str],
    target: Target,
    quantity: str = LATENCY,
    kind: str = "default",
    registry: Registry | None = None,
    listener: Listener = SILENT,
) -> TransferPrior:
    """The LPMs of source devices that references name.

    Args:
        references: of LPMs, one a source device.
        target: that the prior is for.
        quantity: what all of them predict.
        kind: of the LPM that learns from them, and theirs.
        registry: where they are; None for the default one.
        listener: receives notes of LPMs of another setting.

    Raises:
        InputError: one is unknown, of another quantity or kind, or of the target's own device: it
            may have been trained on what is to judge the new one.
        LPMError: one cannot be read, or predicts what no quantity can be.
    """
    devices = SourceDevices(references, quantity, kind, registry or Registry())
    return devices.prior_for(target, listener)
