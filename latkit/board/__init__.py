"""What a bundle does on a board that has no PyTorch.

Its modules, and all that they import, are in every bundle: they need NumPy and one runtime, and
Python 3.8. docs/bundles.md has the whole picture.
"""
