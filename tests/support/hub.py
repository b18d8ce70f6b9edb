"""A server with those few endpoints of the Hugging Face hub that its file system uses.

It has one repository of a dataset, and keeps its files in memory. Nothing here is the hub's own
code: what passes here has not been run against the hub.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "me/d"


class Hub:
    """The repository.

    Attributes:
        files: by their paths.
        commits: the paths that each commit changed.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.commits: list[list[str]] = []
        self.lock = threading.Lock()

    def entry(self, path: str) -> dict[str, Any] | None:
        """What the hub has for a path."""
        if path in self.files:
            content = self.files[path]
            return {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"type": "directory", "path": path, "size": 0, "oid": _oid(path.encode())}
        return None

    def children(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """What is in a folder."""
        prefix = f"{folder}/" if folder else ""
        found = set()
        for name in self.files:
            if name.startswith(prefix):
                parts = name[len(prefix) :].split("/")
                deepest = len(parts) if recursive else 1
                found |= {prefix + "/".join(parts[:count]) for count in range(1, deepest + 1)}
        return [entry for path in sorted(found) if (entry := self.entry(path))]

    def commit(self, lines: list[dict[str, Any]]) -> str:
        """Apply the lines of a commit; its name."""
        changed = []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
            elif line["key"] == "deletedFolder":
                folder = value["path"].rstrip("/") + "/"
                for name in [name for name in self.files if name.startswith(folder)]:
                    del self.files[name]
            else:
                assert line["key"] == "header", line
                continue
            changed.append(value["path"])
        self.commits.append(changed)
        return _oid(str(len(self.commits)).encode())


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextlib.contextmanager
def hub_server() -> Iterator[tuple[str, Hub]]:
    """Its address, for ``$HF_ENDPOINT``, and what it holds."""
    hub = Hub()
    api = rf"/api/datasets/{REPOSITORY}"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            path = unquote(url.path)
            with hub.lock:
                if re.fullmatch(rf"{api}(/revision/main)?", path):
                    self.answer({"id": REPOSITORY, "sha": "0" * 40, "private": False, "tags": []})
                elif match := re.fullmatch(rf"{api}/tree/main/?(.*)", path):
                    found = hub.children(match[1], "recursive=true" in url.query.lower())
                    self.answer(found) if found or not match[1] else self.missing("Entry")
                elif match := re.fullmatch(rf"/datasets/{REPOSITORY}/resolve/main/(.*)", path):
                    content = hub.files.get(match[1])
                    self.missing("Entry") if content is None else self.send(content)
                else:
                    self.missing("Repo")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.body()
            path = unquote(urlsplit(self.path).path)
            with hub.lock:
                if path == "/api/validate-yaml":
                    self.answer({"errors": [], "warnings": []})
                elif path == f"{api}/preupload/main":
                    files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                             for file in json.loads(body)["files"]]  # fmt: skip
                    self.answer({"files": files})
                elif path == f"{api}/paths-info/main":
                    paths = parse_qs(body.decode())["paths"]
                    self.answer([entry for path in paths if (entry := hub.entry(path))])
                elif path == f"{api}/commit/main":
                    oid = hub.commit([json.loads(line) for line in body.splitlines() if line])
                    commit = f"{self.headers['Host']}/datasets/{REPOSITORY}/commit/{oid}"
                    self.answer(
                        {"success": True, "commitOid": oid, "commitUrl": f"http://{commit}"}
                    )
                else:
                    self.missing("Repo")

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def answer(self, value: Any) -> None:
            self.send(json.dumps(value).encode(), "application/json")

        def missing(self, what: str) -> None:
            self.send(b"{}", "application/json", 404, {"X-Error-Code": f"{what}NotFound"})

        def send(
            self,
            content: bytes,
            kind: str = "application/octet-stream",
            status: int = 200,
            headers: dict[str, str] | None = None,
        ) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted and status == 200:
                first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
                headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
                content, status = content[first : last + 1], 206
            self.send_response(status)
            for name, value in {**(headers or {}), "ETag": f'"{_oid(content)}"'}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", hub
        finally:
            server.shutdown()
            thread.join()
