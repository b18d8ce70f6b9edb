"""One LPM of the registry, ready to predict."""

from __future__ import annotations

from latkit.lpm.prediction import PublishedLPM
from latkit.registry.registry import Registry
from latkit.spaces import get_space


def load_lpm(
    reference: str, space: str = "darts", registry: Registry | str | None = None
) -> PublishedLPM:
    """The LPM that a reference names: ``device[/backend[/setting]][+cost][@version]``.

    Args:
        reference: e.g. ``p100``, ``p100/torch-cuda@3`` or ``p100+energy_mj``; see
            :meth:`Registry.resolve`.
        space: the LPM's search space.
        registry: a registry or its URL; None for ``$LATKIT_REGISTRY`` or the default.

    Raises:
        InputError: the reference is malformed, unknown or ambiguous, or there is no such space.
        LPMError: a file of the LPM is missing or corrupt, or its kind is unknown.
    """
    get_space(space)
    opened = registry if isinstance(registry, Registry) else Registry(registry)
    entry = opened.resolve(reference, space)
    lpm, card = opened.load(entry)
    return PublishedLPM(lpm, card, entry.reference)
