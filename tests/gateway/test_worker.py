"""Real workers: one that is told to stop takes no request with it."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import uvloop

from tidegate.testing.deployment import EXAMPLES, Deployment, deployed
from tidegate.testing.waiting import wait_until

CLIENTS = 12
ASK = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"


async def connect_and_ask(port: int, stop: threading.Event, seen: Counter[str]) -> None:
    """Open a connection for each request."""
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ASK + b"Connection: close\r\n\r\n")
            seen[(await reader.read())[9:12].decode()] += 1
            writer.close()
        except OSError as err:
            seen[type(err).__name__] += 1


async def keep_and_ask(port: int, stop: threading.Event, seen: Counter[str]) -> None:
    """Ask on one connection until its server ends it."""
    while not stop.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        last = False
        while not stop.is_set() and not last:
            writer.write(ASK + b"\r\n")
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            except (OSError, asyncio.IncompleteReadError) as err:
                seen[type(err).__name__] += 1
                break
            seen[head[9:12].decode()] += 1
            last = b"connection: close" in head
        writer.close()


def storm(port: int, stop: threading.Event, seen: Counter[str]) -> None:
    async def main() -> None:
        ways = [connect_and_ask] * CLIENTS + [keep_and_ask] * CLIENTS
        await asyncio.gather(*(way(port, stop, seen) for way in ways))

    uvloop.run(main())


def ready(up: Deployment) -> int:
    """Count the workers that say so."""
    return sum(says_ready(path) for path in (up.folder / "data" / "run").glob("worker-*.sock"))


def says_ready(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        return b" 200 " in client.recv(100)
    return False


def test_a_worker_that_is_told_to_stop_loses_no_request(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        stop, seen = threading.Event(), Counter[str]()
        thread = threading.Thread(target=storm, args=(up.port, stop, seen))
        thread.start()
        try:
            for victim in up.children("worker"):
                begun = sum(seen.values())
                wait_until(lambda begun=begun: sum(seen.values()) > begun + 200, 20, "traffic")
                victim.send_signal(signal.SIGTERM)
                wait_until(lambda victim=victim: not victim.is_running(), 20, "its end")
                wait_until(lambda: ready(up) == 2, 20, "a new one")
        finally:
            stop.set()
            thread.join()
        assert set(seen) == {"200"}, seen
