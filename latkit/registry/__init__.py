"""The registry of LPMs: published versions, loading one, and training for it."""

from latkit.registry.entries import BUILT_IN, Entry, built_in_entries, with_built_in
from latkit.registry.loading import load_lpm
from latkit.registry.registry import VARIABLE, Registry
from latkit.registry.sources import load_transfer_prior
from latkit.registry.training import TrainRequest, TrainResult, train_and_publish

__all__ = [
    "BUILT_IN",
    "VARIABLE",
    "Entry",
    "Registry",
    "TrainRequest",
    "TrainResult",
    "built_in_entries",
    "load_lpm",
    "load_transfer_prior",
    "train_and_publish",
    "with_built_in",
]
