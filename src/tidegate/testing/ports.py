"""Ports that nobody uses at the moment."""

import socket


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that was free when asked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def reserve() -> socket.socket:
    """Return a socket that keeps a free TCP port of 127.0.0.1 from other tests until it is closed.

    Gateways can bind the port all the same, since they share ports (SO_REUSEPORT); so two of
    them that chose one port by chance would not notice, and each would get half of the requests.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held
