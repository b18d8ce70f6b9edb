"""latkit: profile, predict and search network latency for any piece of hardware.

Importing the package loads neither torch nor any runtime; each part imports what it needs
when it is used.
"""

from importlib.metadata import PackageNotFoundError, version

# Notes the cores of this process before torch is imported, whose OpenMP may bind it to one.
import latkit.core.cores  # noqa: F401

try:
    __version__ = version("latkit")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
