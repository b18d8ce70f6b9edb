"""Latency prediction modules: models, training, metrics, files and the registry."""
