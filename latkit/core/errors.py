"""Errors a user can cause or mend: a cause, a fix, and the process's exit code.

Anything raised as :class:`LatkitError` is printed by the command line as one line without a
traceback. Everything else is a defect of latkit.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class LatkitError(Exception):
    """A failure that has a cause the user can read and a fix the user can apply.

    Args:
        cause: what is wrong, naming the offending thing.
        fix: what to do about it, as an instruction.

    Attributes:
        code: of the kind of failure; it stays the same when wordings change.
        exit_code: of the process.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(cause, fix)  # both, or an error of another process cannot be raised here
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause.rstrip('.')}. Fix: {self.fix}"

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "cause": self.cause, "fix": self.fix}


class InputError(LatkitError):
    """An argument that cannot be right: unknown name, malformed text, value out of range."""

    code = "input"
    exit_code = 2


class Interrupted(LatkitError):
    """Ctrl-C in a command that can go on later."""

    code = "interrupted"
    exit_code = 130


class SpaceError(LatkitError):
    """An architecture, encoding or identifier that is not in the search space."""

    code = "space"


class BackendError(LatkitError):
    """A backend that is missing, unusable here, or failed to run a network."""

    code = "backend"


class DatasetError(LatkitError):
    """A dataset that cannot be read, continued or used for what was asked."""

    code = "dataset"


class LPMError(LatkitError):
    """An LPM that cannot be trained, read, found or used for what was asked."""

    code = "lpm"


class SearchError(LatkitError):
    """A search that cannot start or go on."""

    code = "search"


class TrainingError(LatkitError):
    """A training of a network that cannot start or go on."""

    code = "training"


class InstallationError(LatkitError):
    """A package that latkit requires is not installed."""

    code = "installation"


_NETWORK = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT,
}  # fmt: skip


def from_os_error(error: OSError, doing: str, kept: str) -> LatkitError:
    """The one-line form of a failed file operation.

    Args:
        error: what the operating system, or a remote file system, gave as the reason.
        doing: what was attempted, e.g. ``"write the dataset in d"``.
        kept: what is safe, e.g. ``"every finished row is kept; run the same command again"``.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError):  # remote ones have the address alone
        reason = error.strerror or "there is nothing"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "free some disk space"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        fix = "change its permissions"
        if not doing.startswith("read"):
            fix = f"choose a folder you may write to, or {fix}"
    elif error.errno == errno.ENOLCK:
        fix = (
            "choose a folder whose file system has file locks: a local disk, or a network share "
            "that is mounted with its lock service"
        )
    elif error.errno == errno.ENOMEM:
        fix = "free some memory"
    elif error.errno in _NETWORK:
        fix = "check the network and the address"
    else:
        fix = "check the path"
    where = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
    return LatkitError(f"Cannot {doing}: {reason}{where}", f"{fix}; {kept}")
