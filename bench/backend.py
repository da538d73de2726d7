"""A model server that costs as little as possible, so that the gateways' costs stand out.

Answers are bytes made at the start. It takes what gateways ask of a server (models, health,
metrics with vLLM's names) and chats: an answer of about 400 bytes, or with `stream` as many
events as `max_tokens`, one every `seed` milliseconds (a field that every gateway passes on).
Like an engine's step, one tick sends the next event of all its streams. `seed` 0 sends all
events at once.

    python -m bench.backend LISTENERS [MODELS]

says its ports as JSON, and ends with its stdin. The first two ports serve so many models more.
"""

import asyncio
import json
import sys
from email.utils import formatdate
from typing import Final, cast

import httptools
import msgspec
import uvloop

MODEL: Final = "llama-3-8b"
DEFAULT_EVENTS: Final = 200

METRICS: Final = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="llama-3-8b"} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="llama-3-8b"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="llama-3-8b"} 0.25
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",num_gpu_blocks="27000"} 1.0
"""


class _Chat(msgspec.Struct):
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None


_CHAT: Final = msgspec.json.Decoder(_Chat)


def _answer(body: bytes, content_type: bytes = b"application/json") -> bytes:
    """Return what follows the date."""
    head = b"content-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (content_type, len(body)) + body


def _start() -> bytes:
    """Return an answer's first lines, as uvicorn writes them."""
    date = formatdate(usegmt=True).encode()
    return b"HTTP/1.1 200 OK\r\ndate: %b\r\nserver: uvicorn\r\n" % date


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event() -> bytes:
    piece = {
        "id": "chatcmpl-6fd2f0f5c9a14c0f8a1f3a6c0e6b7a55",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": MODEL,
        "choices": [
            {"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}
        ],
    }
    return b"data: " + json.dumps(piece, separators=(",", ":")).encode() + b"\n\n"


def _whole() -> bytes:
    text = "The quick brown fox jumps over the lazy dog."
    message = {"role": "assistant", "content": text, "tool_calls": []}
    return json.dumps(
        {
            "id": "chatcmpl-6fd2f0f5c9a14c0f8a1f3a6c0e6b7a55",
            "object": "chat.completion",
            "created": 1764000000,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 211, "total_tokens": 222, "completion_tokens": 11},
        }
    ).encode()


def _models(more: int) -> bytes:
    names = [MODEL, *(f"model-{number}" for number in range(more))]
    card = {"object": "model", "created": 1764000000, "owned_by": "vllm", "max_model_len": 8192}
    cards = [{"id": name, **card} for name in names]
    return json.dumps({"object": "list", "data": cards}).encode()


CHAT: Final = _answer(_whole())
EVENT: Final = _chunk(_event())
LAST: Final = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
STREAM_HEAD: Final = (
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
INFO: Final = _answer(json.dumps({"model_path": MODEL, "served_model_name": MODEL}).encode())
PAGES: Final = {
    b"/health": _answer(b"", b"text/plain"),
    b"/metrics": _answer(METRICS, b"text/plain; version=0.0.4; charset=utf-8"),
}


class Steps:
    """All streams of one pace on one listener: each tick sends everybody's next event."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pace_ms: int) -> None:
        self._loop = loop
        self._pace_s = pace_ms / 1e3
        self._left: dict[Connection, int] = {}
        self._at = 0.0

    def add(self, connection: "Connection", events: int) -> None:
        """Let `connection` get `events` events, the first with the next tick."""
        if not self._left:
            self._at = self._loop.time() + self._pace_s
            self._loop.call_at(self._at, self._tick)
        self._left[connection] = events

    def drop(self, connection: "Connection") -> None:
        """Forget a connection that is gone."""
        self._left.pop(connection, None)

    def _tick(self) -> None:
        for connection, left in list(self._left.items()):
            if left > 1:
                connection.transport.write(EVENT)
                self._left[connection] = left - 1
            else:
                connection.transport.write(EVENT + LAST)
                del self._left[connection]
        if self._left:
            self._at += self._pace_s
            self._loop.call_at(self._at, self._tick)


class Listener:
    """What the connections of one port share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, models: int) -> None:
        self._loop = loop
        self._steps: dict[int, Steps] = {}
        self.pages = {**PAGES, b"/v1/models": _answer(_models(models))}
        self._renew()

    def _renew(self) -> None:
        self.start = _start()
        self._loop.call_later(1.0, self._renew)

    def steps(self, pace_ms: int) -> Steps:
        """Return the streams of that pace."""
        found = self._steps.get(pace_ms)
        if found is None:
            found = self._steps[pace_ms] = Steps(self._loop, pace_ms)
        return found

    def drop(self, connection: "Connection") -> None:
        """Forget a connection that is gone."""
        for steps in self._steps.values():
            steps.drop(connection)


class Connection(asyncio.Protocol):
    """One gateway's connection."""

    __slots__ = ("_body", "_listener", "_parser", "_url", "transport")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It left."""
        self._listener.drop(self)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        """Its target."""
        self._url += url

    def on_body(self, data: bytes) -> None:
        """A piece of its body."""
        self._body = self._body + data if self._body else data

    def on_message_complete(self) -> None:
        """Answer."""
        if self._parser.get_method() != b"POST":
            page = self._listener.pages.get(self._url.partition(b"?")[0], INFO)
            self.transport.write(self._listener.start + page)
            return
        chat = _CHAT.decode(self._body)
        if chat.stream:
            # sglang-router writes the old name anew as the new one.
            events = chat.max_completion_tokens or chat.max_tokens or DEFAULT_EVENTS
            self._stream(events, chat.seed or 0)
        else:
            self.transport.write(self._listener.start + CHAT)

    def _stream(self, events: int, pace_ms: int) -> None:
        self.transport.write(self._listener.start + STREAM_HEAD)
        if pace_ms:
            self._listener.steps(pace_ms).add(self, events)
            return
        for _ in range(events):
            self.transport.write(EVENT)
        self.transport.write(LAST)


async def _serve(listeners: int, models: int) -> None:
    loop = asyncio.get_running_loop()
    ports = []
    for number in range(listeners):
        listener = Listener(loop, models if number < 2 else 0)
        server = await loop.create_server(
            lambda listener=listener: Connection(listener), "127.0.0.1", 0, backlog=4096
        )
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(_serve(*map(int, [*sys.argv[1:], "0"][:2])))
