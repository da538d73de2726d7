"""The workers' datagrams: each has a Unix socket in the run folder and writes to all others'.

What is said is `picker.sharing`'s affair; here it is only carried. Messages are collected for
`FLUSH_S`, so that their number doesn't grow with the requests. A socket that is full is tried
again with the next flush, and after `MOST_WAITING` messages the oldest is dropped: whoever can't
read as fast as that learns the counts from the next whole message.

Where no socket can be had a worker goes on alone, as it does where it is the only one.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from tidegate.picker.sharing import Sharing

log = structlog.get_logger("tidegate.gateway")

SUFFIX: Final = ".mesh"
FLUSH_S: Final = 0.005
BEAT_S: Final = 0.25
"""Between two whole messages, which also say that the worker lives."""
MOST_WAITING: Final = 256
MOST_READ: Final = 64
"""Messages read in a row, so that requests have their turn."""
BUFFER_BYTES: Final = 1 << 20


class Mesh:
    """One worker's socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        sharing: Sharing,
        *,
        clock: Callable[[], float],
        on_workers: Callable[[], None],
    ) -> None:
        """Prepare a socket at `path`; `on_workers` is called when there are others than before."""
        self._loop = loop
        self._path = path
        self._sharing = sharing
        self._clock = clock
        self._on_workers = on_workers
        self._socket: socket.socket | None = None
        self._waiting: dict[str, deque[bytes]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self.dropped = 0
        """Messages that a sibling had no room for."""

    def start(self) -> None:
        """Bind the socket, and look for others."""
        self._path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            made.bind(str(self._path))
            self._path.chmod(0o600)
        except OSError as error:
            made.close()
            log.warning("picking without siblings", socket=str(self._path), error=str(error))
            return
        self._socket = made
        self._loop.add_reader(made, self._read, made)
        self._tick()

    def wake(self) -> None:
        """Say soon what there is to say."""
        if self._timer is None and self._socket is not None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    def close(self) -> None:
        """Say goodbye."""
        if self._socket is None:
            return
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()
        self._send(self._sharing.take(leaving=True))
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self._path.unlink(missing_ok=True)

    def _tick(self) -> None:
        self._beat = self._loop.call_later(BEAT_S, self._tick)
        if self._sharing.expire(self._clock()):
            self._on_workers()
        self._find()
        self._send(self._sharing.take(whole=True))

    def _find(self) -> None:
        """Look whose sockets are there."""
        here = {str(path) for path in self._path.parent.glob(f"*{SUFFIX}") if path != self._path}
        self._waiting = {path: self._waiting.get(path, deque()) for path in here}

    def _flush(self) -> None:
        self._timer = None
        self._send(self._sharing.take())

    def _send(self, messages: list[bytes]) -> None:
        for path, waiting in self._waiting.items():
            waiting.extend(messages)
            while len(waiting) > MOST_WAITING:
                waiting.popleft()
                self.dropped += 1
            self._write(path, waiting)
        if any(self._waiting.values()):
            self.wake()

    def _write(self, path: str, waiting: deque[bytes]) -> None:
        assert self._socket is not None  # noqa: S101  # closed sockets send nothing
        while waiting:
            try:
                self._socket.sendto(waiting[0], path)
            except BlockingIOError:
                return
            except OSError:
                # Nobody reads it (it was killed), or the message is longer than a datagram gets.
                self.dropped += 1
            waiting.popleft()

    def _read(self, made: socket.socket) -> None:
        changed = False
        for _ in range(MOST_READ):
            try:
                data = made.recv(BUFFER_BYTES)
            except (BlockingIOError, ConnectionError):
                break
            changed |= self._sharing.hear(data, self._clock())
        if changed:
            self._find()
            self._on_workers()
