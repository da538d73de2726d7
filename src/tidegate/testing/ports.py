"""Ports that nobody uses at the moment.

Taken from below the range of outgoing connections, which would else take a port between the
asking and the use. No process gets a port twice, and processes begin at different places, so
tests that run beside each other don't meet.
"""

import os
import socket
from itertools import count
from typing import Final

LOW: Final = 10_000
SPAN: Final = 10_000

_numbers = count(os.getpid() * 211)


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that was free when asked.

    Raises:
        OSError: There is none.

    """
    for _ in range(SPAN):
        port = LOW + next(_numbers) % SPAN
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {LOW} to {LOW + SPAN - 1}")


def reserve() -> socket.socket:
    """Return a socket that keeps a free TCP port of 127.0.0.1 from other tests until it is closed.

    Gateways can bind the port all the same, since they share ports (SO_REUSEPORT); so two of
    them that chose one port by chance would not notice, and each would get half of the requests.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held
