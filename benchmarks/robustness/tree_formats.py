"""Archives and folders: results of bundles, bundles, and registries."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.robustness.formats import Format, Maker, MixedFormat, Reader, latkit, use_registry
from benchmarks.robustness.json_format import of_registry
from benchmarks.robustness.material import DEVICE, REGISTRY
from benchmarks.robustness.mutations import Mutator
from latkit.board.bundle import PLAN, Bundle
from latkit.core.events import SILENT
from latkit.registry import Registry

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
          tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE)  # fmt: skip
_PAX_KEYS = ("size", "path", "GNU.sparse.map", "GNU.sparse.size", "mtime")


class ArchivesFormat(MixedFormat):
    """Archives of results, and bundles."""

    name = "archives"

    def prepare(self) -> None:
        results = self.material / "results"
        self._files = {
            f"results/{name}": (results / name).read_bytes()
            for name in ("dataset.json", "journal.jsonl")
        }
        self._bundle = (self.material / "b.pyz").read_bytes()
        # Large when they are unpacked: a line of a journal, and a head of a tar archive.
        self._bombs = (bytes(2**26), b"[" * 2**26, b"1" * 2**26)
        self._head_bombs = [pack(_head_bomb()) for pack in (gzip.compress, lzma.compress)]

    def makers(self) -> tuple[Maker, ...]:
        return self._zip, self._zip, self._tar, self._tar, self._plan

    def _members(self, mutator: Mutator) -> list[tuple[str, bytes]]:
        members = list(self._files.items())
        for _ in range(mutator.integer(0, 2)):
            at = mutator.integer(0, len(members) - 1)
            name, content = members[at]
            how = mutator.integer(0, 6)
            mutator.note(f"{name}: change {how}")
            if how == 0:
                members[at] = mutator.path().replace("\0", ""), content
            elif how == 1:
                members.append((name, content))
            elif how == 2:
                members.append((mutator.path().replace("\0", ""), b"evil"))
            elif how == 3:
                members[at] = name, mutator.choice(self._bombs)
            elif how == 4:
                members[at] = name, mutator.content(content)
            elif how == 5 and name == "results/dataset.json":
                members[at] = name, mutator.json(json.loads(self._files[name]))
            elif how == 6:
                members.append((f"{mutator.path()}/dataset.json".replace("\0", ""), content))
        return members

    def _zip(self, mutator: Mutator, box: Path) -> Reader:
        sink = io.BytesIO()
        try:
            with zipfile.ZipFile(sink, "w") as archive:
                for name, content in self._members(mutator):
                    info = zipfile.ZipInfo(name)
                    info.external_attr = mutator.choice((0, 0o120777 << 16, 0o10777 << 16, 0x10))
                    archive.writestr(info, content, mutator.choice(_METHODS), 1)
            content = sink.getvalue()
        except (UnicodeError, ValueError, OSError):
            content = b"PK\5\6" + bytes(18)
        if mutator.chance(60):
            content = mutator.content(content)
        return _imported(mutator, box, content)

    def _tar(self, mutator: Mutator, box: Path) -> Reader:
        if mutator.chance(8):
            mutator.note("a head of a GiB")
            return _imported(mutator, box, mutator.choice(self._head_bombs))
        sink = io.BytesIO()
        kind = mutator.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        try:
            with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
                for name, content in self._members(mutator):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    if mutator.chance(25):
                        info.type = mutator.choice(_KINDS)
                        info.linkname = mutator.path().replace("\0", "")
                    if mutator.chance(10):
                        key = mutator.choice(_PAX_KEYS)
                        info.pax_headers = {key: mutator.choice(("-1", "x", "9" * 30, "nan"))}
                    archive.addfile(info, io.BytesIO(content))
            content = sink.getvalue()
        except (UnicodeError, ValueError, OSError):
            content = bytes(1024)
        if mutator.chance(40):
            content = mutator.content(content)
        pack: Callable[[bytes], bytes] = mutator.choice((bytes, _packed_gzip, _packed_xz))
        content = pack(content)
        if mutator.chance(30):
            content = mutator.content(content)
        return _imported(mutator, box, content)

    def _plan(self, mutator: Mutator, box: Path) -> Reader:
        """A bundle with another plan, or damaged; its networks are not run."""
        path = box / "b.pyz"
        content = self._bundle
        if mutator.chance(60):
            sink = io.BytesIO()
            with (
                zipfile.ZipFile(io.BytesIO(content)) as old,
                zipfile.ZipFile(sink, "w") as new,
            ):
                for name in old.namelist():
                    text = old.read(name)
                    if name == PLAN:
                        text = mutator.json(json.loads(text))
                    new.writestr(zipfile.ZipInfo(name), text, mutator.choice(_METHODS), 1)
            content = sink.getvalue()
        if mutator.chance(50):
            content = mutator.content(content)
        path.write_bytes(content)

        def read() -> None:
            from latkit.board.measure import measure_bundle

            with Bundle(path) as bundle:
                if bundle.plan.architectures:
                    bundle.read("networks/0.onnx")
                if mutator.notes == ["plan"]:
                    measure_bundle(bundle, box / "made", (), SILENT)

        return read


def _imported(mutator: Mutator, box: Path, content: bytes) -> Reader:
    name = mutator.choice(("r.zip", "r.tar", "r.tar.gz", "r"))
    (box / name).write_bytes(content)
    return lambda: latkit("dataset", "import", name, "--device", "board", "--out", "made", "--json")


def _packed_gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1)


def _packed_xz(content: bytes) -> bytes:
    return lzma.compress(content, preset=0)


def _head_bomb() -> bytes:
    """A tar archive whose first head has 3 GiB of zeros for a name; the file itself has fewer."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3 * 2**30
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(2**28)


class RegistryFormat(Format):
    """A folder of LPMs that others may write to as well."""

    name = "registry"

    def prepare(self) -> None:
        use_registry(self.material / REGISTRY)

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        registry = self.copy(REGISTRY, box)
        version = next(registry.glob("darts/**/lpm.json")).parent
        for _ in range(mutator.integer(1, 3)):
            self._change(mutator, registry, version)
        use_registry(registry)

        def publish() -> None:
            from latkit.registry.entries import built_in_entries, load_built_in

            lpm, card = load_built_in(built_in_entries()[0])
            entry = Registry(str(registry)).publish(lpm, card)
            Registry(str(registry)).load(entry)

        return mutator.choice(
            (
                *of_registry(version),
                publish,
                lambda: latkit("registry", "pull", str(registry), "--registry", "other", "--json"),
                lambda: latkit("registry", "sync", "other", "--json"),
                lambda: latkit("lpms", "remove", f"{DEVICE}@1", "--yes"),
                lambda: latkit("lpms", "show", f"{DEVICE}@{mutator.notes and 1}", "--json"),
            )
        )

    def _change(self, mutator: Mutator, registry: Path, version: Path) -> None:
        how = mutator.integer(0, 11)
        below = [path for path in sorted(registry.rglob("*")) if not path.is_symlink()]
        folders = [path for path in below if os.path.isdir(path)]
        files = [path for path in below if os.path.isfile(path)]
        if not folders or not files:
            return
        folder, file = mutator.choice(folders), mutator.choice(files)
        if not folder.exists() or any(len(part) > 200 for part in file.parts):
            return
        mutator.note(f"change {how} of {folder.relative_to(registry)}, {file.name}")
        new = mutator.choice(("2", "0", "-1", "١", "²", "01", "9" * 9, "9" * 400, "x", "a+b", "+",
                              "latest", ".claim", "lpm.json", "a\nb", "\udcff", "a@b", "%2e%2e",
                              "[x]", "*", "darts", "no-space"))  # fmt: skip
        try:
            if how == 0:
                folder.rename(folder.with_name(new))
            elif how == 1 and all(path.stat().st_size < 2**24 for path in files):
                shutil.copytree(folder, folder.with_name(new), symlinks=True)
            elif how == 2 and file.stat().st_size < 2**24:  # another change may have made it huge
                file.write_bytes(mutator.content(file.read_bytes()))
            elif how == 3:
                file.unlink()
            elif how == 4:
                file.unlink()
                file.mkdir()
            elif how == 5:
                (folder / new).symlink_to(registry, target_is_directory=True)
            elif how == 6:
                file.unlink()
                target = mutator.choice((mutator.path().replace("\0", ""), str(file), "/dev/zero"))
                file.symlink_to(target or ".")
            elif how == 7:
                shutil.rmtree(folder)
                folder.write_bytes(b"x")
            elif how == 8 and not (folder / ".claim").is_symlink():  # it may lead outside
                (folder / ".claim").write_bytes(mutator.choice((b"", b"\xff" * 2000, b"a\nb")))
            elif how == 9:
                (folder / ".claim-x").write_bytes(b"y")
            elif how == 10:
                (folder / new).mkdir()
            elif how == 11:
                with open(file, "r+b") as handle:
                    handle.truncate(mutator.choice((0, 1, 2**31)))
        except (OSError, ValueError, shutil.Error):
            return
