"""Check that a built wheel has every module of the tree, under its import name and byte for byte.

Usage: python tests/packaging/check_wheel.py WHEEL
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Import package and the folder that holds it.
FOLDERS = {"latkit": "latkit", "latkit/backends": "backends", "latkit/search": "search"}


def expected_files(root: Path) -> dict[str, Path]:
    """Paths inside the wheel that the tree calls for, and the tree's file of each."""
    files = {"latkit/py.typed": root / "latkit" / "py.typed"}
    for package, folder in FOLDERS.items():
        data = ("**/builtin_lpms/*/*.*", "**/templates/*.*")
        found = (path for pattern in data for path in (root / folder).glob(pattern))
        for path in [*(root / folder).rglob("*.py"), *found]:
            if "__pycache__" in path.parts:
                continue
            relative = path.relative_to(root / folder)
            # On a checkout with symlinks, latkit/ shows the other two packages once more.
            if package == "latkit" and relative.parts[0] in ("backends", "search"):
                continue
            files[f"{package}/{relative.as_posix()}"] = path
    return files


def problems(wheel: Path) -> list[str]:
    """What is wrong with a wheel, one line each."""
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    installed = {name for name in names if ".dist-info/" not in name}
    expected = expected_files(ROOT)
    found = [f"missing: {name}" for name in sorted(expected.keys() - installed)]
    found += [f"unexpected: {name}" for name in sorted(installed - expected.keys())]
    # It may have been built of the source distribution, which must be the tree too.
    found += [
        f"not the tree's: {name}"
        for name in sorted(expected.keys() & installed)
        if archive.read(name) != expected[name].read_bytes()
    ]
    found += [
        f"missing: {what} in .dist-info"
        for what in ("METADATA", "entry_points.txt", "licenses/LICENSE")
        if not any(name.endswith(f".dist-info/{what}") for name in names)
    ]
    return found


def main() -> None:
    wheel = Path(sys.argv[1])
    lines = problems(wheel)
    print("\n".join(lines) or f"{wheel.name}: {len(expected_files(ROOT))} files, as the tree has")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
