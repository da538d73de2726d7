"""Ports for the servers that we start.

They lie below the range from which the system takes ports for outgoing connections (Linux:
32768, macOS: 49152). A port from that range could be taken by one of the gateway's own
connections between the moment we choose it and the moment the server binds it.
"""

import socket
import zlib
from collections.abc import Container
from typing import Final

from tidegate.api.errors import UnavailableError

FIRST: Final = 20_000
COUNT: Final = 12_000


def choose_port(host: str, name: str, taken: Container[int]) -> int:
    """Return a port on `host` that can be bound and isn't in `taken`.

    Args:
        host: Where the server will listen.
        name: Whose port it is. Two names seldom look at the same port first, so two
            programs that choose at the same time seldom collide.
        taken: Ports that were given out and may not be bound yet.

    Raises:
        UnavailableError: There is none.

    """
    start = zlib.crc32(name.encode())
    for step in range(COUNT):
        port = FIRST + (start + step) % COUNT
        if port not in taken and can_bind(host, port):
            return port
    raise UnavailableError(f"no free port from {FIRST} to {FIRST + COUNT - 1} on {host}")


def can_bind(host: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    return bind_problem(host, port, shared=False) == ""


def bind_problem(host: str, port: int, *, shared: bool) -> str:
    """Return the system's reason why nobody can bind there; the empty string where one can.

    Args:
        host: An address of this machine.
        port: A TCP port.
        shared: Bind as workers do, who share their ports (SO_REUSEPORT): then their own
            listening is no hindrance, other programs' is.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
        if not shared:
            # With SO_REUSEADDR alone, bind passes beside a socket that is bound and doesn't
            # listen yet; listen doesn't.
            return _listen_problem(probe)
    return ""


def _listen_problem(probe: socket.socket) -> str:
    try:
        probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""
