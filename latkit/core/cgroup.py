"""The CPU time that control groups grant this process (cgroup v1 and v2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Where the hierarchies are, if mountinfo is absent.
_USUAL_MOUNTS = ("", "unified", "cpu", "cpu,cpuacct")


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time granted by the tightest group on the path of this process's groups.

    None where no group limits it.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    quotas = (_quota(group) for group in _groups(root))
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of this process's groups and of all above them, in the hierarchies of CPU time."""
    paths = dict(_memberships(root))
    for kind, mount, top in _mounts(root):
        path = PurePosixPath(paths.get(kind, "/"))
        if ".." in path.parts:  # outside this container: only the mount itself is here
            path = PurePosixPath("/")
        # A container may have a subtree only, mounted as if it were the whole.
        if PurePosixPath(top) in (path, *path.parents):
            path = PurePosixPath("/") / path.relative_to(top)
        for group in (path, *path.parents):
            yield root / mount.lstrip("/") / str(group).lstrip("/")


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """(kind of hierarchy, path of the process's group in it)."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield "cgroup2", path
        elif "cpu" in controllers.split(","):
            yield "cgroup", path


def _mounts(root: Path) -> list[tuple[str, str, str]]:
    """(kind, where it is mounted, which group is at its top) of the hierarchies of CPU time."""
    mounts = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        # The type, the source, and the file system's own options: the controllers.
        kind, options = after.split(" ")[0], after.split(" ")[-1]
        wanted = kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(","))
        if wanted and len(fields) > 4:
            mounts.append((kind, _unescape(fields[4]), _unescape(fields[3])))
    return mounts or [
        (kind, f"sys/fs/cgroup/{name}", "/")
        for name in _USUAL_MOUNTS
        for kind in ("cgroup2", "cgroup")
    ]


def _unescape(path: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def _quota(group: Path) -> float | None:
    """What one group grants: quota over period, both in microseconds."""
    words = _read(group / "cpu.max").split()
    if not words:
        words = [_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    # "max", and -1 of v1, are no limit.
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        return None
    return int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
