"""The standard streams of a process: signs that they lack, full ones, closed ones."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from latkit.core.errors import LatkitError, from_os_error

# What latkit itself prints, for terminals and pipes that have no such sign; in bars and drawings
# one letter for one. Anything else is escaped.
_PLAIN = {
    **dict(zip("–×·→µ◀─│└┬", "-x*>u<-|`+", strict=True)),
    **dict(zip("▁▂▃▄▅▆▇█", "_.-~=+*#", strict=True)),
    "±": "+-", "²": "^2", "α": "alpha", "β": "beta", "λ": "lambda",
}  # fmt: skip
_HANDLER = "latkit-plain"


class OutputError(LatkitError):
    """Standard output takes nothing more.

    Attributes:
        reader_left: whether it is a pipe that was closed, as ``| head`` does.
    """

    code = "output"

    def __init__(self, error: OSError) -> None:
        kept = "what the command was to do is done, only its output is missing"
        told = from_os_error(error, "write to the standard output", kept)
        super().__init__(told.cause, told.fix)
        self.reader_left = isinstance(error, BrokenPipeError)


class _Guarded(io.TextIOWrapper):
    @property
    def buffer(self) -> Any:
        # Nobody writes past this: click would, in UTF-8, where the encoding is ASCII.
        raise AttributeError("text only")

    def to_nowhere(self) -> None:
        """Let the null device have what is buffered, or Python fails with it at its end."""
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self.fileno())
        finally:
            os.close(null)


class _Output(_Guarded):
    """Standard output, whose failures are one line."""

    def write(self, text: str | bytes) -> int:
        try:
            # click's completion for shells writes bytes; by empty ones it asks whether a stream is
            # of bytes.
            return super().write(text.decode() if text and isinstance(text, bytes) else text)  # type: ignore[arg-type]
        except OSError as error:
            raise self._failed(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> OutputError:
        self.to_nowhere()
        return OutputError(error)


class _Notes(_Guarded):
    """Standard error: what it cannot take is no reason to stop measuring."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            self.to_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self.to_nowhere()


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Within, standard output and error print any text, and fail as this module says."""
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        sys.stdout = stack.enter_context(_wrapped(sys.stdout, _Output, buffered=True))
        sys.stderr = stack.enter_context(_wrapped(sys.stderr, _Notes, buffered=False))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def printable(text: str, stream: TextIO) -> str:
    """A text as a stream will print it, of that width."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, _HANDLER).decode(encoding)


def is_rewritable(stream: TextIO) -> bool:
    """Whether a line that was printed can be printed over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_styled(stream: TextIO) -> bool:
    """Whether the person wants colours and bold letters, and the terminal has them."""
    return is_rewritable(stream) and not os.environ.get("NO_COLOR")


def columns_of(stream: TextIO) -> int:
    """How wide a terminal is."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


@contextlib.contextmanager
def _wrapped(stream: TextIO, kind: type[_Guarded], buffered: bool) -> Iterator[TextIO]:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # text in memory
        yield stream
        return
    stream.flush()
    wrapper = kind(buffer, encoding=stream.encoding, errors=_HANDLER, line_buffering=not buffered)
    try:
        yield wrapper
    finally:
        with contextlib.suppress(OutputError):
            wrapper.flush()
        # The buffer outlives its wrapper.
        wrapper.detach()


def _open_closed_descriptors() -> None:
    """Give a closed stream the null device: the next file opened would take its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if sign in _PLAIN:
        return _PLAIN[sign], error.start + 1
    single = UnicodeEncodeError(
        error.encoding, error.object, error.start, error.start + 1, error.reason
    )
    return codecs.backslashreplace_errors(single)


codecs.register_error(_HANDLER, _plain)
