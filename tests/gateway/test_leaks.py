"""After thousands of requests of every fate nothing is left: no count, no connection, no memory."""

import asyncio
import contextlib
import gc
import tracemalloc
from random import Random

from tidegate.gateway.settings import Limits
from tidegate.testing.endpoints import Seen, answer, scripted
from tidegate.testing.gateway import GatewayUnderTest, gateway, pool, route, to
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_for

BATCH = 300
AT_ONCE = 40
LIMITS = Limits(
    header_timeout_s=0.3,
    body_timeout_s=0.3,
    body_rate=1_000_000,
    keep_alive_s=0.5,
    client_stall_s=0.5,
    silence_timeout_s=0.5,
    answer_timeout_s=0.5,
    upstream_idle_s=0.2,
    linger_s=0.2,
    mirrors=8,
)
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n"
)


async def pause(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    timer = loop.call_later(seconds, done.set_result, None)
    try:
        await done
    finally:
        timer.cancel()


async def endpoint(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Do what the path says."""
    match seen.target.strip("/"):
        case "ok" | "mirrored":
            writer.write(answer(body=b"x" * 1000))
        case "big":
            writer.write(answer(body=b"x" * 300_000))
        case "stream":
            writer.write(STREAM)
            await pause(0.02)
            if not writer.is_closing():
                writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        case "slow":
            await pause(0.05)
            if not writer.is_closing():
                writer.write(answer())
        case "busy":
            writer.write(answer(503))
        case "garbage":
            writer.write(b"garbage\r\n\r\n")
        case "more":
            writer.write(answer(body=b"{}") + b"and more")
        case "reset":
            writer.transport.abort()
        case "cut":
            writer.write(STREAM)
            await writer.drain()
            writer.transport.abort()
        case "closing":
            writer.write(answer())
            await writer.drain()
            writer.close()
        case "silent":
            await pause(0.8)
        case "stalled":
            writer.write(STREAM)
            await pause(0.8)


FATES = {
    "ok": 8,
    "mirrored": 4,
    "big": 2,
    "stream": 4,
    "slow": 4,
    "busy": 2,
    "garbage": 2,
    "more": 2,
    "reset": 2,
    "cut": 2,
    "closing": 4,
    "silent": 1,
    "stalled": 1,
}
"""What happens to a request, and how often."""


async def client(gw: GatewayUnderTest, rng: Random) -> None:
    """Ask for something in some way, good or bad, and go."""
    fate = rng.choices(list(FATES), list(FATES.values()))[0]
    body = b"x" * rng.choice([0, 2, 5000, 300_000])
    head = f"POST /{fate} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gw.port)
    try:
        match rng.randrange(10):
            case 0:  # leaves at some moment
                writer.write(head + body)
                await pause(rng.random() * 0.05)
                writer.transport.abort()
            case 1:  # leaves politely
                writer.write(head + body)
                await pause(rng.random() * 0.01)
            case 2:  # stops sending, and waits
                writer.write(head + body)
                writer.write_eof()
                await reader.read()
            case 3:  # never finishes its request
                writer.write((head + body)[: rng.randrange(len(head) + len(body))])
                await reader.read()
            case 4:  # makes no sense
                writer.write(b"Content-Length: 1, 2\r\n".join(head.split(b"\r\n", 1)))
                await reader.read()
            case 5:  # asks for much at once, and takes what comes for a moment
                writer.write((head + body) * 20)
                await pause(rng.random() * 0.05)
            case 6:  # reads nothing
                writer.transport.pause_reading()
                writer.write((head + body) * 5)
                await pause(0.1)
            case _:
                writer.write(head + body)
                await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


async def batch(gw: GatewayUnderTest, rng: Random) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with limit:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.wait_for(client(gw, rng), 20)

    await asyncio.gather(*(one() for _ in range(BATCH)))
    plane = gw.plane
    await wait_for(lambda: plane.connections == 0, what="the clients' connections to close")
    await wait_for(lambda: plane.pool.open == 0, what="the endpoints' connections to close")
    assert (plane.in_flight, plane.mirrors, plane.body_bytes) == (0, 0, 0)
    assert plane.running == {}
    assert {each.state.in_flight for each in gw.registry.all().values()} == {0}
    assert len({id(record) for record in gw.records}) == len(gw.records)
    assert all(record.status for record in gw.records)


async def test_nothing_is_left_of_requests_of_every_fate():
    rng = Random(7)
    dead = f"127.0.0.1:{free_port()}"
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": to("copy")}}
    rules = [
        {
            "matches": [{"path": {"value": "/mirrored"}}],
            "filters": [mirror],
            "backendRefs": [to("llm")],
        },
        {"backendRefs": [to("llm")], "timeouts": {"request": "2s", "backendRequest": "300ms"}},
    ]
    async with scripted(endpoint) as one, scripted(endpoint) as other:
        pools = pool("llm", one.address, other.address, dead), pool("copy", other.address)
        async with gateway(*pools, route(*rules), limits=LIMITS) as gw:
            await batch(gw, rng)
            kinds = {(record.status, record.reason) for record in gw.records}
            assert len(kinds) > 5, "the requests were too much alike to show anything"
            await batch(gw, rng)
            tracemalloc.start()
            try:
                await batch(gw, rng)
                gw.records.clear()
                assert held_by_the_gateway() < 40 * BATCH
            finally:
                tracemalloc.stop()


def held_by_the_gateway() -> int:
    """Return the bytes that its code asked for since tracing began and still holds."""
    gc.collect()
    ours = tracemalloc.Filter(True, "*/tidegate/gateway/*")
    snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(one.size for one in snapshot.statistics("filename"))
