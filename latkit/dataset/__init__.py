"""Datasets: the format, reading, writing, and what can be done with them."""

from latkit.dataset.format import Manifest, Target
from latkit.dataset.latency import LatencyDataset

__all__ = ["LatencyDataset", "Manifest", "Target"]
