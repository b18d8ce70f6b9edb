"""Where a fleet's cluster of Ray is, checked before Ray tries for half a minute."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from urllib.parse import urlsplit

from latkit.core.errors import BackendError, InputError

INSTALL = "pip install 'latkit[fleet]'"
# The devices of this machine.
LOCAL = "auto"
START = "start one: ray start --head, then --fleet ray://HOST:10001 or --fleet HOST:6379"
CLIENT = "ray://"
# For a connection to a cluster's port.
_CONNECT_SECONDS = 5.0


def check_address(address: str) -> None:
    """Refuse what can never be a cluster here.

    Raises:
        InputError: Ray or what ``ray://`` needs is not installed, or it is no address.
    """
    if find_spec("ray") is None:
        raise InputError("Ray is not installed, which runs the workers of a fleet", INSTALL)
    if address == LOCAL:
        return
    _host_and_port(address)
    if address.startswith(CLIENT) and find_spec("grpc") is None:
        raise InputError(
            f"{address} needs grpcio, which is not installed",
            f"{INSTALL}, or --fleet HOST:6379 on a node of the cluster",
        )


def check_listens(address: str) -> None:
    """Connect to a cluster's port, and hang up.

    Raises:
        BackendError: nothing listens there.
    """
    try:
        socket.create_connection(_host_and_port(address), _CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BackendError(f"there is no cluster of Ray at {address} ({reason})", START) from None


def _host_and_port(address: str) -> tuple[str, int]:
    """Raises: InputError: it has none."""
    text = address.removeprefix(CLIENT)
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # what no name of a host can be
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != text or "@" in text:
        raise InputError(
            f"{address!r} is no address of a fleet", "use auto, HOST:6379 or ray://HOST:10001"
        )
    return host, port
