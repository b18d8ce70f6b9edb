"""A user with neither an entry in the password database nor $HOME, as in a container."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from latkit.registry import VARIABLE, Registry
from tests.support.processes import Forked, latkit_here, run_to_the_end
from tests.support.synthetic import made_dataset

CLONE_NEWUSER = 0x10000000


def become_nobody() -> None:
    """Of this process: another user, whom the system allows no more, and who has no entry."""
    user = os.geteuid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/uid_map").write_text(f"54321 {user} 1")


def latkit_as_nobody(*arguments: str) -> None:
    become_nobody()
    latkit_here(*arguments)


@pytest.fixture(scope="module", autouse=True)
def _nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    done = run_to_the_end(Forked(become_nobody, cwd=tmp_path_factory.mktemp("nobody")))
    if done.returncode != 0:
        pytest.skip("this system lets nobody become a user without an entry (unshare)")


def run(folder: Path, *arguments: str, registry: str | None) -> subprocess.CompletedProcess[str]:
    unset = {"HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", VARIABLE}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    if registry is not None:
        environment[VARIABLE] = registry
    return run_to_the_end(Forked(latkit_as_nobody, *arguments, cwd=folder, environment=environment))


def test_a_registry_is_all_that_is_needed(tmp_path: Path) -> None:
    made_dataset(tmp_path / "d", 60)
    done = run(tmp_path, "train-lpm", "d", registry=str(tmp_path / "r"))
    assert done.returncode == 0, done.stderr
    assert [entry.version for entry in Registry(str(tmp_path / "r")).entries()] == [1]


@pytest.mark.parametrize(
    ("arguments", "registry", "named"),
    [
        (("lpms", "list"), None, VARIABLE),
        (("lpms", "list"), "~/r", "~/r"),
        (("dataset", "show", "~/d"), None, "~/d"),
        (("search", "--device", "p100", "--data", "cifar10"), "r", "XDG_CACHE_HOME"),
    ],
)
def test_what_needs_a_home_folder_names_what_to_set(
    tmp_path: Path, arguments: tuple[str, ...], registry: str | None, named: str
) -> None:
    done = run(tmp_path, *arguments, registry=registry)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert named in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_no_permission_is_not_called_corrupt(tmp_path: Path) -> None:
    """This user is no superuser, whoever runs the tests."""
    folder = made_dataset(tmp_path / "d", 5).path
    for name in ("part-000000.parquet", "dataset.json"):
        before = (folder / name).stat().st_mode
        (folder / name).chmod(0)
        try:
            done = run(tmp_path, "dataset", "show", "d", registry="r")
        finally:
            (folder / name).chmod(before)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "Permission denied" in line
        assert "is corrupt" not in line
        assert "delete" not in line
