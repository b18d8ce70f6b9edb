"""One-shot search: all networks of a space in one, trained once without any device.

Sub-networks are then evaluated on held-out images with the weights that they have there, and an LPM
of the accuracy is fitted to them, from which any device's architectures follow.
"""

# What a user calls it, among the methods of a search.
ONE_SHOT = "one-shot"
