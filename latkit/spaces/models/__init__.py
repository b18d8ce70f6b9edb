"""Models that are no architectures, as rows of a dataset."""
