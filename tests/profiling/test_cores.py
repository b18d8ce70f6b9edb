"""Cores that the workers of a host keep to, whoever started them."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from latkit.core.errors import BackendError
from latkit.profiling.fleet.ray_pool import own_cores
from tests.support.processes import Forked

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="processes are kept to cores on Linux alone"
)


def _own_one(folder: str) -> None:
    tempfile.tempdir = folder
    try:
        (core,) = own_cores(1)
    except BackendError as error:
        print(error)
    else:
        print(core, os.sched_getaffinity(0))


def owned(tmp_path: Path) -> str:
    """What a process on this host tells that takes a core, with its temporary files in a folder."""
    process = Forked(_own_one, str(tmp_path), cwd=tmp_path)
    return process.communicate()[0].strip()


def test_every_user_may_lock_cores(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    assert owned(tmp_path) == f"{core} {{{core}}}"
    folder = tmp_path / "latkit-cores"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    assert stat.S_IMODE((folder / f"{core}.lock").stat().st_mode) == 0o666


def test_where_no_lock_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "latkit-cores").write_text("")
    told = owned(tmp_path)
    assert told.startswith(f"locks of cores cannot be made in {tmp_path}/latkit-cores (")
    assert "Fix: " in told
