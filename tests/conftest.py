"""What tests share: a setting so small that real measurements take milliseconds."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

# Before NumPy and PyTorch start their threads, and for all processes that tests start: tests' sums
# are small, and run beside each other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import pytest

from latkit.search import sweep
from latkit.spaces import Setting
from latkit.spaces.darts.config import DartsConfig
from tests.support.commands import RunLatkit
from tests.support.places import SHARED
from tests.support.plug_ins import forget_plug_ins
from tests.support.processes import FORK_SERVER
from tests.support.synthetic import SHARED_FOLDER

# What touches the disk has no fixed duration on a shared machine.
hypothesis.settings.register_profile("latkit", deadline=None)
hypothesis.settings.load_profile("latkit")

# A job in a shell's background is deaf to Ctrl-C and would hand that on to what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Files in which one test takes long; begun first, so that no worker ends alone with one of them.
LONG = ("benchmarks/test_gpu.py", "cli/test_search.py", "cli/test_costs.py",
        "search/test_distributed.py", "search/test_session.py")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(item.path.match(name) for name in LONG))


def pytest_collection_finish() -> None:
    """What is imported by now stays: a collection of garbage need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All workers of a session, and what they start, train a synthetic LPM once among them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "synthetic"
    folder.mkdir(exist_ok=True)
    os.environ[SHARED_FOLDER] = str(folder)


@pytest.fixture(scope="session", autouse=True)
def _forked_sweeps() -> None:
    """Searches of a sweep that this process begins are forked off one that has imported PyTorch."""
    # Begun now, and not while a sweep holds back signals, which its forks would inherit.
    forkserver.ensure_running()
    sweep._CONTEXT = FORK_SERVER


@pytest.fixture(autouse=True)
def _only_installed_plug_ins() -> Iterator[None]:
    yield
    forget_plug_ins()


@pytest.fixture
def no_trace() -> Iterator[None]:
    """PyTorch's compiler logs graphs and code, which pytest would keep and look like a leak."""
    log = logging.getLogger("torch.__trace")
    log.disabled, before = True, log.disabled
    yield
    log.disabled = before


@pytest.fixture
def micro() -> Setting:
    return Setting(DartsConfig(macro="cifar", cells=3, channels=4, resolution=8, classes=10))


@pytest.fixture(autouse=True)
def registry_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test has a registry of its own."""
    url = str(tmp_path / "registry")
    monkeypatch.setenv("LATKIT_REGISTRY", url)
    return url


@pytest.fixture
def shared_cifar() -> Path:
    """CIFAR-10 in the Hugging Face layout, which is not part of the repository."""
    folder = SHARED / "data" / "cifar10"
    if not (folder / "train.parquet").exists():
        pytest.skip("the CIFAR-10 Parquet files are not beside this checkout")
    return folder


@pytest.fixture
def latkit(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> RunLatkit:
    """Run the command line in this process, in an empty folder, as ``main`` runs it."""
    from latkit.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        argv = ["latkit", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", argv)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(argv, code, out, err)

    return run
