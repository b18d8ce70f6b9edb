"""Measuring: the protocol, its statistics, and the loop that fills a dataset."""
