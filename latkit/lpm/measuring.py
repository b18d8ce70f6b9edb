"""Measuring networks by the backend, hardware and protocol that an LPM was trained for."""

from __future__ import annotations

from collections.abc import Sequence

from latkit.backends import BACKENDS, probe_backend
from latkit.backends.base import fingerprint
from latkit.core.device import environment_differences, hardware_differences, pinned_to
from latkit.core.errors import LatkitError
from latkit.lpm.store import LPMCard
from latkit.profiling.protocol import Protocol
from latkit.profiling.session import Replicates, measure
from latkit.spaces import Architecture

# Of each network.
MEASUREMENTS = 8


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
    target = card.target
    if target.backend not in BACKENDS.names():
        return None, f"this version has no backend {target.backend}"
    probe = probe_backend(target.backend)
    if not probe.usable:
        return None, f"{target.backend} is {probe.status} here: {probe.reason}"
    try:
        # As the LPM's dataset was measured, so that the results are comparable.
        protocol = Protocol.from_dict(card.dataset.get("protocol", {}))
        with BACKENDS.get(target.backend)(threads=protocol.threads) as backend:
            here = fingerprint(backend)
            for what, different in (
                ("other hardware than", hardware_differences(here, card.fingerprint)),
                (
                    "another environment than that of",
                    environment_differences(here, card.fingerprint),
                ),
            ):
                if different:
                    return None, (
                        f"this is {what} {target.device} (here / there: {'; '.join(different)})"
                    )
            with pinned_to(protocol.cores):
                return measure(backend, networks, target.setting, protocol, MEASUREMENTS), None
    except LatkitError as error:
        return None, str(error)
