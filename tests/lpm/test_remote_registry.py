"""Registries that are no folder: object stores, web servers, and those that cannot be reached."""

from __future__ import annotations

import contextlib
import errno
import functools
import http.server
import importlib.util
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from latkit.core.errors import InputError, LatkitError
from latkit.core.storage import Storage
from latkit.lpm.training import TrainedLPM
from latkit.registry import VARIABLE, Registry
from tests.support.commands import RunLatkit
from tests.support.processes import run_latkit
from tests.support.s3 import free_port, s3_server, use_s3
from tests.support.synthetic import made_dataset, made_lpm


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedLPM:
    return made_lpm(tmp_path_factory.mktemp("made") / "d")


class ObjectStore(MemoryFileSystem):  # type: ignore[misc]
    """Like S3: a folder is there when a file is below it, and only then."""

    protocol = "latkit-objects"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        pass

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        files = self.find(path)
        if not files:
            raise FileNotFoundError(path)
        for file in files:
            self.rm_file(file)


class ServiceError(Exception):
    """What packages of remote services raise is no OSError."""


class Refusing(ObjectStore):
    """A service that answers nothing."""

    protocol = "latkit-refusing"

    def _refuse(self, *arguments: Any, **options: Any) -> Any:
        raise ServiceError("Unable to locate\n credentials")

    ls = find = pipe_file = cat_file = mkdir = makedirs = exists = info = rm = rm_file = _refuse


class ReadOnly(ObjectStore):
    """A service with no way to write."""

    protocol = "latkit-read-only"

    def pipe_file(self, *arguments: Any, **options: Any) -> None:
        raise NotImplementedError


class Forgetful(ObjectStore):
    """A service that lists what was there a while ago."""

    protocol = "latkit-forgetful"

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        raise FileNotFoundError(path)


for kind in (ObjectStore, Refusing, ReadOnly, Forgetful):
    fsspec.register_implementation(str(kind.protocol), kind, clobber=True)


@pytest.fixture
def objects() -> Iterator[str]:
    yield "latkit-objects://bucket/registry"
    ObjectStore.store.clear()


class TestObjectStore:
    def test_takes_its_first_lpm(self, objects: str, trained: TrainedLPM) -> None:
        registry = Registry(objects)
        assert registry.entries() == []
        registry.check_writable()
        assert ObjectStore.store == {}
        entries = [registry.publish(trained.lpm, trained.card) for _ in range(2)]
        assert [entry.version for entry in entries] == [1, 2]
        assert Registry(objects).entries() == entries
        assert registry.load(entries[0])[1] == trained.card
        assert registry.location(entries[0]) == f"{objects}/{entries[0].folder}"
        registry.remove(entries[1])
        assert registry.entries() == entries[:1]
        registry.remove(entries[0])
        assert ObjectStore.store == {}

    def test_an_upload_that_broke_off(self, objects: str, trained: TrainedLPM) -> None:
        """Without its card it is no version, but its number is taken."""
        registry = Registry(objects)
        first = registry.publish(trained.lpm, trained.card)
        Storage(objects).write(f"{first.parent}/2/weights.safetensors", b"half")
        assert registry.entries() == [first]
        assert registry.publish(trained.lpm, trained.card).version == 3


@pytest.mark.parametrize("url", ["latkit-refusing://bucket/r", "latkit-read-only://bucket/r"])
class TestRefused:
    """One line with the URL, whatever the package behind it raises."""

    def test_every_use(self, url: str, trained: TrainedLPM) -> None:
        registry = Registry(url)
        uses = [registry.check_writable, lambda: registry.publish(trained.lpm, trained.card)]
        if "refusing" in url:
            uses += [registry.entries, lambda: registry.resolve("p100", "darts")]
        else:
            assert registry.entries() == []
        for use in uses:
            with pytest.raises(LatkitError) as refused:
                use()
            assert url in refused.value.cause
            assert "\n" not in str(refused.value)
            assert VARIABLE in refused.value.fix
            if "refusing" in url:
                assert "ServiceError: Unable to locate credentials" in refused.value.cause

    def test_commands(self, url: str, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
        made_dataset(Path("d"), 60)
        monkeypatch.setenv(VARIABLE, url)
        done = latkit("doctor", "--json")
        assert done.returncode == 1
        (row,) = (row for row in json.loads(done.stdout) if row["part"] == "registry")
        assert row["status"] == "broken"
        assert url in row["reason"]
        assert VARIABLE in row["fix"]
        # Before it trains: nothing is trained that could not be kept.
        monkeypatch.setattr("latkit.registry.training.train_lpm", None)
        done = latkit("train-lpm", "d")
        assert done.returncode == 1
        assert url in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_a_listing_that_lags(trained: TrainedLPM) -> None:
    """Two versions would get one number."""
    with pytest.raises(LatkitError, match="latkit-forgetful://bucket/r"):
        Registry("latkit-forgetful://bucket/r").check_writable()


def test_a_folder_that_cannot_be_listed_is_not_empty(tmp_path: Path, trained: TrainedLPM) -> None:
    (tmp_path / "r").symlink_to("r")
    with pytest.raises(LatkitError, match="Cannot read the registry"):
        Registry(str(tmp_path / "r")).entries()


def test_a_version_that_cannot_be_listed_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: TrainedLPM
) -> None:
    """Else an older version, or a built-in LPM, would take its place unnoticed."""
    registry = Registry(str(tmp_path))
    entry = registry.publish(trained.lpm, trained.card)
    listed = LocalFileSystem.ls

    def refusing(self: LocalFileSystem, path: str, **options: Any) -> Any:
        if str(path).endswith(entry.folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(self, path, **options)

    monkeypatch.setattr(LocalFileSystem, "ls", refusing)
    with pytest.raises(LatkitError, match=r"Cannot read the registry.*Permission denied"):
        registry.entries()


@pytest.mark.parametrize("name", ["r-12:31", "a::b", "memory:", "r#1?x=%20"])
def test_a_folder_with_signs_of_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: TrainedLPM, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry(name)
    entry = registry.publish(trained.lpm, trained.card)
    assert Registry(str(tmp_path / name)).entries() == [entry]
    assert registry.location(entry) == str(tmp_path / name / entry.folder)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: TrainedLPM
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    entry = Registry("~/r").publish(trained.lpm, trained.card)
    assert (tmp_path / "r" / entry.folder).is_dir()


@pytest.mark.parametrize("url", ["nope://x", "~nobody-of-that-name/r", "zip://no.zip"])
def test_what_cannot_be_opened(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        Registry(url)
    assert url in refused.value.cause
    assert VARIABLE in refused.value.fix


def test_a_server_that_refuses_at_once() -> None:
    """FTP connects before anything is read: the network is the cause, not a package."""
    with pytest.raises(LatkitError) as refused:
        Registry(f"ftp://127.0.0.1:{free_port()}/r")
    assert not isinstance(refused.value, InputError)
    assert "network" in refused.value.fix


needs_http = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("aiohttp", "requests")),
    reason="aiohttp and requests, which fsspec needs for http, are not installed",
)


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@needs_http
class TestWebServer:
    def test_what_it_lists_is_read(self, tmp_path: Path, trained: TrainedLPM) -> None:
        local = Registry(str(tmp_path / "r"))
        entry = local.publish(trained.lpm, trained.card)
        # Names with a sign that a web server writes otherwise.
        other = tmp_path / "r" / f"{entry.parent}+energy_mj"
        (tmp_path / "r" / entry.parent).rename(other)
        with web_server(tmp_path) as url:
            assert Registry(f"{url}/r").entries() == local.entries()
            assert [e.cost for e in local.entries()] == ["energy_mj"]
            other.rename(tmp_path / "r" / entry.parent)
            registry = Registry(f"{url}/r")
            assert registry.load(registry.resolve("formula", "darts"))[1] == trained.card

    def test_it_cannot_be_written(self, tmp_path: Path, trained: TrainedLPM) -> None:
        with web_server(tmp_path) as url:
            registry = Registry(url)
            for use in (
                registry.check_writable,
                lambda: registry.publish(trained.lpm, trained.card),
            ):
                with pytest.raises(LatkitError) as refused:
                    use()
                assert url in refused.value.cause

    def test_nothing_there_is_no_empty_registry(self, tmp_path: Path) -> None:
        with web_server(tmp_path) as url, pytest.raises(LatkitError, match=f"{url}/wrong"):
            Registry(f"{url}/wrong").entries()

    def test_nobody_there(
        self, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch, registry_url: str
    ) -> None:
        url = f"http://127.0.0.1:{free_port()}/r"
        monkeypatch.setenv(VARIABLE, url)
        done = latkit("lpms", "list", "--json")
        assert done.returncode == 1
        assert url in json.loads(done.stdout)["error"]["cause"]
        (line,) = done.stderr.splitlines()
        assert url in line


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables for a server process of S3 on this machine."""
    with s3_server(tmp_path_factory.mktemp("moto")) as variables:
        yield variables


class TestS3:
    """``LATKIT_REGISTRY=s3://...`` against a server process, by commands as a user runs them."""

    @staticmethod
    def latkit(
        folder: Path, variables: dict[str, str], *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **variables, "LATKIT_REGISTRY": "s3://lab/team/registry"}
        return run_latkit(*arguments, cwd=folder, environment=environment)

    def test_the_first_lpm(self, tmp_path: Path, s3: dict[str, str]) -> None:
        made_dataset(tmp_path / "d", 60)
        # The doctor first: its test must leave nothing, and not be what makes publishing work.
        done = self.latkit(tmp_path, s3, "doctor", "--json")
        rows = {row["part"]: row for row in json.loads(done.stdout)}
        assert rows["registry"]["status"] == "ok", done.stdout
        assert rows["registry"]["reason"] == "s3://lab/team/registry, 0 LPMs"
        done = self.latkit(tmp_path, s3, "train-lpm", "d", "--json")
        assert done.returncode == 0, done.stderr
        reference = json.loads(done.stdout)["reference"]
        assert reference.endswith("@1")
        assert json.loads(done.stdout)["location"].startswith("s3://lab/team/registry/darts/")
        done = self.latkit(tmp_path, s3, "lpms", "list", "--json")
        assert done.returncode == 0, done.stderr
        listed = [lpm["reference"] for lpm in json.loads(done.stdout)["lpms"]]
        assert reference in listed
        done = self.latkit(tmp_path, s3, "predict", "--device", "formula", "--json", "darts_v2")
        assert done.returncode == 0, done.stderr
        predicted = json.loads(done.stdout)
        assert predicted["lpm"] == reference
        assert predicted["predictions"][0]["latency_ms"] == pytest.approx(21.2, rel=0.05)

    def test_versions(
        self, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, trained: TrainedLPM
    ) -> None:
        use_s3(s3, monkeypatch)
        registry = Registry("s3://other/registry")
        assert registry.entries() == []
        entries = [registry.publish(trained.lpm, trained.card) for _ in range(2)]
        assert [entry.version for entry in entries] == [1, 2]
        assert registry.entries() == entries
        registry.remove(entries[0])
        assert registry.entries() == entries[1:]
        assert registry.publish(trained.lpm, trained.card).version == 3

    def test_no_credentials(self, tmp_path: Path, s3: dict[str, str]) -> None:
        without = {name: "" if "KEY" in name else value for name, value in s3.items()} | {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        done = self.latkit(tmp_path, without, "lpms", "list")
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "s3://lab/team/registry" in line
        assert "NoCredentialsError" in line
