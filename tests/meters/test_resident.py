"""Memory of the process."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from latkit.meters.resident import ResidentPeak, parse_status

STATUS = "Name:\tpython\nVmHWM:\t  524288 kB\nVmRSS:\t 1024 kB\nThreads:\t1\n"


def test_fields_are_in_mib() -> None:
    assert parse_status(STATUS, "VmHWM") == 512
    assert parse_status(STATUS, "VmRSS") == 1
    assert parse_status(STATUS, "Threads") is None
    assert parse_status("", "VmRSS") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_what_was_held_counts() -> None:
    peak = ResidentPeak()
    if peak.before_mb is None:
        pytest.skip("this system does not tell")
    kept = np.ones(2**23)  # 64 MiB
    peak.restart()
    taken = np.ones(2**22)
    del taken
    measured = peak.peak_mb()
    if peak.before_mb is None:
        pytest.skip("this system does not let the peak be restarted")
    assert measured is not None
    assert 90 < measured < 110
    del kept
