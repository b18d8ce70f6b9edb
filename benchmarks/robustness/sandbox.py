"""One run of a reader: with limits of time and memory, and nothing written outside its box."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from latkit.core.errors import LatkitError

# Of one run.
MOST_SECONDS = 20.0
MOST_MEMORY = 2 * 2**30
# The address space that a process may take beyond what it has when it begins: mappings of files
# and reserves of allocators are in it.
_MOST_ADDRESSES = 6 * 2**30
SECRET = "a file that nothing may change"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod",
            "os.truncate", "shutil.rmtree", "os.utime", "os.chown"}  # fmt: skip


class TimedOut(BaseException):
    """A run takes too long."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        kind: ``read``, ``refused``, or what is wrong: the same text for the same defect.
        detail: for people.
    """

    kind: str
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        return self.kind not in ("read", "refused")


class Sandbox:
    """A folder with a box in which a run may write, and a secret beside it.

    Args:
        root: a new folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.box = self.root / "box"
        self.outside = self.root / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "secret").write_text(SECRET)
        self.temporary = self.root / "tmp"
        self.home = self.root / "home"
        for folder in (self.temporary, self.home):
            folder.mkdir()
        os.environ.update(
            HOME=str(self.home), TMPDIR=str(self.temporary), MPLCONFIGDIR=str(self.home),
            XDG_CACHE_HOME=str(self.home),
        )  # fmt: skip
        # It looks for fonts by another program, and keeps what it finds.
        importlib.import_module("matplotlib.font_manager")
        self._is_watching = False
        self._written_outside: list[str] = []
        sys.addaudithook(self._hook)

    def limit_memory(self) -> None:
        """Let no run of this process take more memory than one may."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MOST_ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def clean(self) -> Path:
        """The box, empty."""
        os.chdir(self.root)
        shutil.rmtree(self.box, ignore_errors=True)
        self.box.mkdir()
        return self.box

    def run(self, reader: Callable[[], object]) -> Outcome:
        """Run a reader in the box."""
        os.chdir(self.box)
        self._written_outside.clear()
        before = _resident()
        _forget_peak()
        try:
            with _limited(), self._watched():
                reader()
            outcome = Outcome("read")
        except (LatkitError, click.ClickException) as error:
            outcome = Outcome("refused", str(error)[:300])
        except (Exception, TimedOut) as error:
            outcome = Outcome(_kind(error), traceback.format_exc()[-3000:])
        used = _peak() - before
        if not outcome.is_finding and used > MOST_MEMORY:
            outcome = Outcome("memory", f"{used / 2**30:.1f} GiB")
        return outcome if outcome.is_finding else self._outside() or outcome

    def _outside(self) -> Outcome | None:
        """What was written where nothing may be."""
        if self._written_outside:
            return Outcome(f"written outside: {self._written_outside[0].partition(' ')[0]}",
                           self._written_outside[0])  # fmt: skip
        if [path.name for path in self.outside.iterdir()] != ["secret"] or (
            self.outside / "secret"
        ).read_text() != SECRET:
            shutil.rmtree(self.outside)
            self.outside.mkdir()
            (self.outside / "secret").write_text(SECRET)
            return Outcome("written outside: natively")
        # The exporter of PyTorch keeps a number of its own session there.
        left = [path.name for path in self.temporary.iterdir() if path.name != ".ses"]
        if left:
            shutil.rmtree(self.temporary)
            self.temporary.mkdir()
            return Outcome("temporary files left", ", ".join(left))
        return None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        self._is_watching = True
        try:
            yield
        finally:
            self._is_watching = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_watching:
            return
        if event == "open":
            path, mode, flags = arguments
            is_write = bool(flags & _WRITES) if isinstance(flags, int) else "r" not in str(mode)
            if is_write and isinstance(path, (str, bytes)):
                self._check(event, path)
        elif event in _CHANGES:
            for path in arguments[:2]:
                if isinstance(path, (str, bytes)):
                    self._check(event, path)
        elif event in ("os.system", "os.exec", "subprocess.Popen", "os.posix_spawn"):
            self._written_outside.append(f"{event} {arguments[:2]!r}")

    def _check(self, event: str, path: str | bytes) -> None:
        place = os.path.realpath(os.path.join(os.getcwd(), os.fsdecode(path)))
        for folder in (self.box, self.temporary, self.home):
            if place == str(folder) or place.startswith(f"{folder}{os.sep}"):
                return
        if place not in ("/dev/null",):
            self._written_outside.append(f"{event} {place}")


@contextmanager
def _limited() -> Iterator[None]:
    def stop(signum: int, frame: object) -> None:
        raise TimedOut(f"more than {MOST_SECONDS:.0f} s of CPU time")

    # Of CPU time: a shared machine may stand still.
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _kind(error: BaseException) -> str:
    """The error's class, and the innermost line of latkit it came through."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        for part in ("/latkit/", "/backends/", "/search/"):
            if part in code.co_filename and "site-packages" not in code.co_filename:
                file = code.co_filename.rsplit(part, 1)[1]
                place = f"{part.strip('/')}/{file}:{code.co_name}"
                del line
                break
    return f"{type(error).__name__} in {place or 'another package'}"


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not everywhere allowed; the peak is then that of the process
        return


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
