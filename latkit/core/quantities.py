"""What can be measured of a network and predicted: names, units, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latkit.core.errors import InputError

LATENCY = "latency_ms"
ACCURACY = "accuracy_percent"


@dataclass(frozen=True)
class Quantity:
    """A number of a network that an LPM can predict.

    Attributes:
        name: of the column, on cards and in references; it ends in the unit.
        noun: for people, as in ``peak memory``.
        unit: for people, as in ``mJ``.
        units: how many of ``unit`` there are in one of each unit that a foreign table may have.
        is_cost: whether it is measured on a device, positive, and the less of it the better; what
            is no cost is a quality of the network itself, and the more of it the better.
    """

    name: str
    noun: str
    unit: str
    units: Mapping[str, float]
    is_cost: bool = True

    @property
    def suffix(self) -> str:
        """The unit as it ends the names of numbers: ``ms``, ``mj``, ``mb``."""
        return self.name.rpartition("_")[2]

    @property
    def range_key(self) -> str:
        """On a card, the name of the least and the largest value trained on."""
        return self.name.removesuffix(self.suffix) + f"range_{self.suffix}"


_LATENCY = Quantity(LATENCY, "latency", "ms", {"ms": 1.0, "s": 1e3, "us": 1e-3, "ns": 1e-6})
_ENERGY = Quantity(
    "energy_mj", "energy", "mJ", {"mJ": 1.0, "J": 1e3, "uJ": 1e-3, "Wh": 3.6e6, "kWh": 3.6e9}
)
_MEMORY = Quantity(
    "peak_memory_mb",
    "peak memory",
    "MiB",
    {"MiB": 1.0, "KiB": 2.0**-10, "GiB": 2.0**10, "MB": 1e6 / 2**20, "B": 2.0**-20},
)
# The share of held-out images that are classified correctly.
_ACCURACY = Quantity(ACCURACY, "accuracy", "%", {"%": 1.0}, is_cost=False)
QUANTITIES = {quantity.name: quantity for quantity in (_LATENCY, _ENERGY, _MEMORY, _ACCURACY)}
# What a device's dataset can have.
COSTS = tuple(name for name, quantity in QUANTITIES.items() if quantity.is_cost)


def get_quantity(name: str) -> Quantity:
    """The quantity of that name.

    Raises:
        InputError: there is none.
    """
    if name not in QUANTITIES:
        raise InputError(f"unknown quantity {name!r}", f"use one of: {', '.join(QUANTITIES)}")
    return QUANTITIES[name]
