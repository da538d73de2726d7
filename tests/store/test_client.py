"""What the client makes of answers that our own server doesn't give."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import yaml

from tidegate.api.core import ConfigMap
from tidegate.api.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from tidegate.api.meta import Key
from tidegate.store.client import HttpStore

M = Key("default", "m")


@asynccontextmanager
async def answering(tmp_path, *answers):
    """Yield a store whose server gives these raw answers, one a connection."""
    left = list(answers)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if left else b"")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    store = HttpStore.from_kubeconfig(path)
    try:
        yield store
    finally:
        await store.close()
        server.close()
        await server.wait_closed()


def response(code, body, content_type="application/json"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {code} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(raw)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + raw


def status(code, reason, message="why", **details):
    return response(
        code,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            **({"details": details} if details else {}),
        },
    )


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(404, "NotFound"), NotFoundError),
        (status(409, "AlreadyExists"), AlreadyExistsError),
        (status(409, "Conflict"), ConflictError),
        (status(410, "Expired"), GoneError),
        (status(410, "Gone"), GoneError),
        (status(400, "BadRequest"), BadRequestError),
        (status(403, "Forbidden"), ForbiddenError),
        (status(405, "MethodNotAllowed"), UnsupportedError),
        (status(415, "UnsupportedMediaType"), UnsupportedError),
        (status(401, "Unauthorized"), UnavailableError),
        (status(429, "TooManyRequests"), UnavailableError),
        (status(500, "InternalError"), UnavailableError),
        (status(404, ""), NotFoundError),
        (response(502, b"<html>", "text/html"), UnavailableError),
        (response(200, b"garbage"), UnavailableError),
        (response(200, b"7"), UnavailableError),
        (b"garbage", UnavailableError),
        (b"", UnavailableError),
    ],
)
async def test_an_answer_becomes_one_of_our_errors(tmp_path, answer, error):
    async with answering(tmp_path, answer) as store:
        with pytest.raises(error) as raised:
            await store.get(ConfigMap, M)
        assert type(raised.value) is error


async def test_items_of_a_list_may_lack_their_kind(tmp_path):
    items = [{"metadata": {"name": "m", "namespace": "default"}, "data": {"a": "1"}}]
    body = {"kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": items}
    async with answering(tmp_path, response(200, body)) as store:
        found, version = await store.list(ConfigMap)
    assert version == "7"
    assert [(each.key, each.data, each.kind) for each in found] == [(M, {"a": "1"}, "ConfigMap")]


async def test_causes_keep_their_paths(tmp_path):
    causes = [
        {"reason": "FieldValueInvalid", "message": "Invalid value: -1", "field": "spec.a"},
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.b"},
    ]
    async with answering(tmp_path, status(422, "Invalid", "bad", causes=causes)) as store:
        with pytest.raises(InvalidError) as raised:
            await store.get(ConfigMap, M)
    assert [each.path for each in raised.value.errors] == ["spec.a", "spec.b"]
    assert str(raised.value) == "spec.a: Invalid value: -1; spec.b: Required value"


async def test_a_conflict_names_its_owners(tmp_path):
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "ann" using v1',
            "field": ".data.a",
        }
    ]
    async with answering(tmp_path, status(409, "Conflict", causes=causes)) as store:
        with pytest.raises(ConflictError) as raised:
            await store.apply(ConfigMap, M, {}, manager="bob")
    assert raised.value.owners == (("ann", ".data.a"),)


async def first_change(store):
    async for change in store.watch(ConfigMap, "1"):
        return change
    return None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(410, "Expired"), GoneError),
        (
            response(200, {"type": "ERROR", "object": {"code": 410, "reason": "Expired"}}),
            GoneError,
        ),
        (response(200, {"type": "ERROR", "object": {"code": 500}}), UnavailableError),
        (response(200, b"garbage\n"), UnavailableError),
        (response(200, b'{"type": "ADDED", "object": 7}\n'), UnavailableError),
        (response(200, b'{"type": "ADDED", "object": {}}\n'), UnavailableError),
        (status(503, "ServiceUnavailable"), UnavailableError),
        (b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n", UnavailableError),
    ],
)
async def test_a_watch_that_fails_says_whether_to_list_again(tmp_path, answer, error):
    async with answering(tmp_path, answer) as store:
        with pytest.raises(error):
            await first_change(store)
