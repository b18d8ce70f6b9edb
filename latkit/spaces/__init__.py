"""Search spaces: what can be chosen, how it is encoded, counted and sampled, and its networks."""

from latkit.spaces.analytic import ABSENT, Cost
from latkit.spaces.base import Architecture, ChoiceMatrix, Edge, Group, SearchSpace
from latkit.spaces.registry import (
    SPACES,
    default_setting,
    get_preset,
    get_space,
    parse_setting,
    preset_names,
)
from latkit.spaces.setting import NetworkConfig, RunConfig, Setting

__all__ = [
    "ABSENT",
    "SPACES",
    "Architecture",
    "ChoiceMatrix",
    "Cost",
    "Edge",
    "Group",
    "NetworkConfig",
    "RunConfig",
    "SearchSpace",
    "Setting",
    "default_setting",
    "get_preset",
    "get_space",
    "parse_setting",
    "preset_names",
]
