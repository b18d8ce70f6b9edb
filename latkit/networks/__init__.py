"""Networks: operations, cells, macros, settings, the genotype zoo, MACs and parameters.

``operations`` and ``network`` need torch and are imported where they are used.
"""

from latkit.networks.cost import Cost, network_cost
from latkit.networks.setting import PRESETS, Setting, parse_setting
from latkit.networks.zoo import ZOO, get_genotype

__all__ = [
    "PRESETS",
    "ZOO",
    "Cost",
    "Setting",
    "get_genotype",
    "network_cost",
    "parse_setting",
]
