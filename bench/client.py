"""The load: a loop that keeps connections busy, or one that sends by the clock.

    python -m bench.client closed  PORT      N connections, each sends as soon as it may
    python -m bench.client stream  PORT      N connections, one streamed answer each
    python -m bench.client open    PORT...   a request every 1/rate s to each port, in turns

`open` sends to a gateway and directly in turns, so that both meet the same moments of a noisy
machine; it takes times from the request's sending, and tells how late that was. Answers are
checked: status, length, number of events. Prints one JSON object; ends when its stdin does.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Final, cast

import uvloop

from bench.backend import MODEL

CONVERSATIONS: Final = 256
"""Different bodies: a gateway that keeps sessions together must see many."""
SPREAD: Final = 101
"""Their sizes differ by up to this many bytes."""
TIMEOUT_S: Final = 30.0
_LENGTH: Final = b"\r\ncontent-length: "
_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_EVENT: Final = b'data: {"id"'


def requests(models: int, *, size: int, **fields: Any) -> list[bytes]:
    """Return whole requests with bodies of about `size` bytes, for `models` models (1: `MODEL`)."""
    names = [MODEL] if models < 2 else [f"model-{number}" for number in range(models)]
    count = max(CONVERSATIONS, models)
    return [
        _request(_body(names[number % len(names)], number, size, fields)) for number in range(count)
    ]


def _body(model: str, number: int, size: int, fields: dict[str, Any]) -> bytes:
    instructions = "You are a helpful assistant. Answer briefly and say when you don't know. "
    chat = {
        "model": model,
        "messages": [
            {"role": "system", "content": instructions},
            {"role": "user", "content": f"Conversation {number:05d}. "},
        ],
        "max_tokens": 200,
        "temperature": 0.7,
        **fields,
    }
    size += number * 37 % SPREAD - SPREAD // 2
    missing = max(0, size - len(json.dumps(chat)))
    filler = "Please explain how a rollout of a new model works, step by step. "
    chat["messages"][1]["content"] += (filler * (missing // len(filler) + 1))[:missing]
    return json.dumps(chat).encode()


def _request(body: bytes) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Accept: application/json\r\nContent-Type: application/json\r\n"
        b"User-Agent: OpenAI/Python 2.8.0\r\nAuthorization: Bearer sk-0123456789abcdef\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


class Connection(asyncio.Protocol):
    """One connection, one answer at a time."""

    __slots__ = ("_done", "_ends_at", "_have", "_head", "_parts", "sent_at", "transport")

    def __init__(self, done: "Callable[[Connection, bytes | None], None]") -> None:
        self._done = done
        self._parts: list[bytes] = []
        self._have = 0
        self._head = True
        self._ends_at = 0
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone: whatever was under way failed."""
        self._done(self, None)

    def send(self, request: bytes) -> None:
        """Send; `done` is called with the whole answer."""
        self._parts = []
        self._have = 0
        self._head = True
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect until the answer is whole."""
        self._parts.append(data)
        self._have += len(data)
        if self._head and not self._read_head():
            return
        if self._ends_at:
            whole = self._have >= self._ends_at
        else:
            whole = data.endswith(_LAST_CHUNK) or self._ends_in_pieces(data)
        if whole:
            parts = self._parts
            self._done(self, parts[0] if len(parts) == 1 else b"".join(parts))

    def _read_head(self) -> bool:
        data = b"".join(self._parts)
        end = data.find(_END)
        if end < 0:
            return False
        self._parts = [data]
        self._head = False
        head = data[:end].lower()
        at = head.find(_LENGTH)
        self._ends_at = 0
        if at >= 0:
            length = head[at + len(_LENGTH) :].split(b"\r", 1)[0]
            self._ends_at = end + len(_END) + int(length)
        return True

    def _ends_in_pieces(self, data: bytes) -> bool:
        return len(data) < len(_LAST_CHUNK) and b"".join(self._parts[-5:]).endswith(_LAST_CHUNK)


class Tally:
    """What came back."""

    def __init__(self, events: int = 0) -> None:
        self._wanted = events
        self.latencies: list[float] = []
        self.events = 0
        self.errors: Counter[str] = Counter()

    def take(self, connection: Connection, answer: bytes | None, now: float) -> None:
        """Count an answer."""
        if answer is None:
            self.errors["connection lost"] += 1
            return
        if not answer.startswith(b"HTTP/1.1 200"):
            self.errors[answer.partition(b"\r\n")[0].decode("latin-1")] += 1
            return
        if self._wanted:
            events = answer.count(_EVENT)
            self.events += events
            if events != self._wanted:
                self.errors[f"{events} events instead of {self._wanted}"] += 1
        self.latencies.append(now - connection.sent_at)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return it for JSON; times in microseconds."""
        latencies = sorted(self.latencies)
        return {
            "answers": len(latencies),
            "events": self.events,
            "errors": dict(self.errors),
            "seconds": seconds,
            "p50_us": _percentile(latencies, 0.5) * 1e6,
            "p99_us": _percentile(latencies, 0.99) * 1e6,
        }


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def _connect(
    port: int, count: int, done: Callable[[Connection, bytes | None], None]
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(done), "127.0.0.1", port)
        for _ in range(count)
    ]
    return [connection for _, connection in made]


async def closed(port: int, args: argparse.Namespace) -> dict[str, Any]:
    """Keep all connections busy for some seconds."""
    bodies = cycle(requests(args.models, size=args.size))
    tally = Tally()
    finished = asyncio.get_running_loop().create_future()
    clock = time.perf_counter
    until = 0.0

    def done(connection: Connection, answer: bytes | None) -> None:
        nonlocal busy
        now = clock()
        tally.take(connection, answer, now)
        if now < until and answer is not None:
            connection.send(next(bodies))
            return
        busy -= 1
        if busy == 0 and not finished.done():
            finished.set_result(None)

    connections = await _connect(port, args.connections, done)
    busy = len(connections)
    began = clock()
    until = began + args.seconds
    for connection in connections:
        connection.send(next(bodies))
    async with asyncio.timeout(args.seconds + TIMEOUT_S):
        await finished
    return tally.summary(clock() - began)


async def stream(port: int, args: argparse.Namespace) -> dict[str, Any]:
    """Have one streamed answer on each connection."""
    fields = {"stream": True, "max_tokens": args.events, "seed": args.pace_ms}
    bodies = cycle(requests(args.models, size=args.size, **fields))
    tally = Tally(args.events)
    finished = asyncio.get_running_loop().create_future()
    left = args.connections * args.answers

    def done(connection: Connection, answer: bytes | None) -> None:
        nonlocal left
        tally.take(connection, answer, time.perf_counter())
        left -= 1
        if left >= args.connections and answer is not None:
            connection.send(next(bodies))
        elif left == 0 and not finished.done():
            finished.set_result(None)

    connections = await _connect(port, args.connections, done)
    began = time.perf_counter()
    for connection in connections:
        connection.send(next(bodies))
    async with asyncio.timeout(args.answers * args.events * args.pace_ms / 1e3 + TIMEOUT_S):
        await finished
    return tally.summary(time.perf_counter() - began)


class Paced:
    """One target of `open`: a request every tick, on whichever connection is free."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._bodies = cycle(bodies)
        self._free: list[Connection] = []
        self.tally = Tally()
        self.sent = 0

    async def connect(self, port: int, count: int) -> None:
        """Open the connections."""
        self._free = await _connect(port, count, self._done)

    def send(self) -> None:
        """Send the next request."""
        self.sent += 1
        if self._free:
            self._free.pop(0).send(next(self._bodies))
        else:
            self.tally.errors["no free connection"] += 1

    def _done(self, connection: Connection, answer: bytes | None) -> None:
        self.tally.take(connection, answer, time.perf_counter())
        if answer is not None:
            self._free.append(connection)

    @property
    def settled(self) -> bool:
        """Whether all answers are in."""
        return len(self.tally.latencies) + self.tally.errors.total() >= self.sent


async def opened(ports: Sequence[int], args: argparse.Namespace) -> dict[str, Any]:
    """Send to all ports in turns, whatever comes back."""
    loop = asyncio.get_running_loop()
    bodies = requests(args.models, size=args.size)
    targets = [Paced(bodies) for _ in ports]
    for target, port in zip(targets, ports, strict=True):
        await target.connect(port, args.connections)
    gap = 1 / args.rate / len(targets)
    total = int(args.seconds * args.rate) * len(targets)
    began = loop.time() + 0.05
    late = 0.0
    sent = 0
    finished = loop.create_future()

    def tick() -> None:
        nonlocal sent, late
        late = max(late, loop.time() - began - sent * gap)
        targets[sent % len(targets)].send()
        sent += 1
        if sent < total:
            loop.call_at(began + sent * gap, tick)
        else:
            loop.call_later(0.2, settle)

    def settle() -> None:
        if all(target.settled for target in targets):
            finished.set_result(None)
        else:
            loop.call_later(0.2, settle)

    loop.call_at(began, tick)
    async with asyncio.timeout(args.seconds + TIMEOUT_S):
        await finished
    return {
        "targets": [target.tally.summary(args.seconds) for target in targets],
        "late_us": late * 1e6,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.client")
    parser.add_argument("mode", choices=["closed", "stream", "open"])
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second and port")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--pace-ms", type=int, default=20)
    parser.add_argument("--answers", type=int, default=1, help="streams on each connection")
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--size", type=int, default=1000, help="bytes of a body")
    return parser.parse_args()


def main() -> None:
    """Run one load."""
    args = _arguments()
    match args.mode:
        case "closed":
            result = uvloop.run(closed(args.ports[0], args))
        case "stream":
            result = uvloop.run(stream(args.ports[0], args))
        case _:
            result = uvloop.run(opened(args.ports, args))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
