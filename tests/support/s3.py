"""A server process of S3 on this machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# One request at a time: else moto looks whether an object is there, and writes it, in two steps.
_SERVER = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app))
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which s3fs finds the server, which logs to a file in the folder."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    port = free_port()
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-c", _SERVER, str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
    finally:
        server.terminate()
        server.wait(60)


def use_s3(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """This process reaches the server too, and none that an earlier test had."""
    from s3fs import S3FileSystem

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # Those of other tests have other servers, which are in the environment alone.
    S3FileSystem.clear_instance_cache()
