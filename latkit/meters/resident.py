"""Memory of this process, from Linux's ``/proc``; not known elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def parse_status(text: str, field: str) -> float | None:
    """A field of ``/proc/PID/status`` in MiB; None where it is not there."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if name == field and len(words) == 2 and words[1] == "kB" and words[0].isdecimal():
            return int(words[0]) / 1024
    return None


class ResidentPeak:
    """The most memory that this process comes to hold beyond what it holds now.

    Memory that was freed goes back to the system first, as far as the allocator can, or what was
    built before would hide what is built next.

    Attributes:
        before_mb: what it holds now; None where the system does not tell.
    """

    def __init__(self) -> None:
        _give_back()
        self.before_mb = _read("VmRSS")

    def restart(self) -> None:
        """Let the peak begin now: what building took beside the network does not count."""
        _give_back()
        try:
            CLEAR_REFS.write_text("5")
        except OSError:  # no such file, or a system that does not let it be written
            self.before_mb = None

    def peak_mb(self) -> float | None:
        """The peak since :meth:`restart`, beyond what was held before; None: not known."""
        peak = _read("VmHWM")
        if peak is None or self.before_mb is None or peak <= self.before_mb:
            return None
        return peak - self.before_mb


def _read(field: str) -> float | None:
    try:
        return parse_status(STATUS.read_text(), field)
    except OSError:
        return None


def _give_back() -> None:
    gc.collect(1)  # a whole collection takes longer than a small network
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
