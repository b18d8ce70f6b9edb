"""Measuring networks by the backend, hardware and protocol that an LPM was trained for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from latkit.backends import BACKENDS, Backend, probe_backend
from latkit.backends.base import fingerprint
from latkit.core.device import environment_differences, hardware_differences, pinned_to
from latkit.core.errors import BackendError, InputError, LatkitError
from latkit.lpm.store import LPMCard
from latkit.profiling.protocol import Protocol
from latkit.profiling.session import Replicates, measure
from latkit.spaces import Architecture

# Of each network.
MEASUREMENTS = 8


class NotHereError(BackendError):
    """What an LPM is of is not this machine, or cannot be run here."""

    def __init__(self, cause: str, fix: str = "measure on the machine that the LPM is of") -> None:
        super().__init__(cause, fix)


@contextmanager
def opened_as_profiled(card: LPMCard) -> Iterator[tuple[Backend, Protocol]]:
    """The open backend and the protocol that an LPM's dataset was measured with.

    Args:
        card: of the LPM; the process keeps to the protocol's cores as long as this lasts.

    Raises:
        NotHereError: the LPM's backend or hardware is not here.
        LatkitError: the protocol is of another version, or the backend cannot be opened.
    """
    target = card.target
    try:
        BACKENDS.check(target.backend)
    except InputError:
        raise NotHereError(f"this version has no backend {target.backend}") from None
    probe = probe_backend(target.backend)
    if not probe.usable:
        raise NotHereError(f"{target.backend} is {probe.status} here: {probe.reason}")
    # As the LPM's dataset was measured, so that the results are comparable.
    protocol = Protocol.from_dict(card.dataset.get("protocol", {}))
    with BACKENDS.get(target.backend)(threads=protocol.threads) as backend:
        here = fingerprint(backend)
        for what, different in (
            ("other hardware than", hardware_differences(here, card.fingerprint)),
            ("another environment than that of", environment_differences(here, card.fingerprint)),
        ):
            if different:
                raise NotHereError(
                    f"this is {what} {target.device} (here / there: {'; '.join(different)})"
                )
        with pinned_to(protocol.cores):
            yield backend, protocol


def measure_as_profiled(
    networks: Sequence[Architecture], card: LPMCard
) -> tuple[list[Replicates] | None, str | None]:
    """Measure networks as an LPM's dataset was, so that its predictions can be compared with them.

    Args:
        networks: in the setting of the LPM.
        card: of the LPM, whose backend measures if that and the LPM's hardware are here.

    Returns:
        The measurements of each network, and None; or None, and why nothing was measured.
    """
    try:
        with opened_as_profiled(card) as (backend, protocol):
            return measure(backend, networks, card.target.setting, protocol, MEASUREMENTS), None
    except NotHereError as error:
        return None, error.cause
    except LatkitError as error:
        return None, str(error)
