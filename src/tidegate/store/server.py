"""The embedded Kubernetes API: HTTPS on a loopback port over the engine.

The server holds nothing itself: what it acknowledged is in the engine, on disk, so it may be
killed at any moment and started again.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from tidegate.api.errors import UnavailableError
from tidegate.store.access import Guard
from tidegate.store.application import application
from tidegate.store.credentials import Credentials
from tidegate.store.sqlite import Engine
from tidegate.store.verbs import Verbs

BOOKMARK_S: Final = 10.0
"""How often a quiet watch says which version it has reached."""
GRACE_S: Final = 5
"""How long requests may take to end once the server stops; watches end at once."""
BACKLOG: Final = 512


async def serve(
    engine: Engine,
    credentials: Credentials,
    *,
    host: str,
    port: int,
    now: Callable[[], float],
    started: Callable[[], None] | None = None,
    bookmark_s: float = BOOKMARK_S,
) -> None:
    """Serve the API until the task is cancelled; then answer what is under way and return.

    Args:
        engine: Stays open: who opened it closes it.
        credentials: Made for this host and port.
        host: The address to listen on.
        port: The port to listen on.
        now: Seconds since the epoch, for the ages that tables show.
        started: Called once requests are taken.
        bookmark_s: How often a quiet watch says which version it has reached.

    Raises:
        UnavailableError: The port is taken.

    """
    listener = listen(host, port)
    stopping = asyncio.Event()
    verbs = Verbs(engine, now=now, bookmark_s=bookmark_s, stopping=stopping)
    app = Guard(application(verbs), token=credentials.token, hosts=[host, credentials.host])
    server = _Server(_config(app, credentials), started)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        # A cancelled server would drop requests that it has half answered.
        await asyncio.shield(serving)
    finally:
        stopping.set()
        server.should_exit = True
        await serving


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UnavailableError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without its protocol asyncio leaves out TCP_NODELAY, and answers wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"can't listen on {host}:{port}: {error.strerror}; choose another port with --api-port"
        ) from error
    return listener


def _config(app: Guard, credentials: Credentials) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # Unlike uvicorn's other parser this one bounds the headers (64 KiB), which come before
        # any token is seen.
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        ssl_certfile=credentials.certificate_path,
        ssl_keyfile=credentials.key_path,
        timeout_graceful_shutdown=GRACE_S,
    )


class _Server(uvicorn.Server):
    """uvicorn inside somebody else's event loop: signals are not its business."""

    def __init__(self, config: uvicorn.Config, when_started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._when_started = when_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self._when_started:
            self._when_started()
