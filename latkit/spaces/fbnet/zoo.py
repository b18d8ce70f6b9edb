"""The networks that were published, by name."""

from __future__ import annotations

from latkit.spaces.fbnet.layers import FbnetLayers


def _layers(text: str) -> FbnetLayers:
    return FbnetLayers(tuple(text.replace("|", " ").split()))


# Wu et al. 2019, of which the authors later published the lists of layers, stage by stage.
ZOO = {
    "fbnet_a": _layers(
        "skip | k3_e3 k3_e1 skip skip | k5_e6 k3_e3 k5_e1 k3_e3 | k5_e6 k5_e3 k5_e1_g2 k5_e6"
        "| k3_e6 k5_e1_g2 k5_e3 k3_e1_g2 | k5_e6 k5_e6 k5_e3 k5_e6 | k5_e6"
    ),
    "fbnet_b": _layers(
        "k3_e1 | k3_e6 k5_e1 k3_e1 k3_e1 | k5_e6 k5_e3 k3_e6 k5_e6 | k5_e6 k5_e6 skip k5_e3"
        "| k5_e6 k3_e1 k5_e1 k5_e3 | k5_e6 k5_e1 k5_e6 k5_e6 | k3_e6"
    ),
    "fbnet_c": _layers(
        "k3_e1 | k3_e6 skip k3_e1 k3_e1 | k5_e6 k5_e3 k5_e6 k3_e6 | k5_e6 k5_e3 k5_e6 k5_e6"
        "| k5_e6 k5_e6 k5_e6 k5_e3 | k5_e6 k5_e6 k5_e6 k5_e6 | k3_e6"
    ),
}


def find_layers(name: str) -> FbnetLayers | None:
    """A published network by name, in any case; None where there is none."""
    return ZOO.get(name.strip().lower().replace("-", "_"))
