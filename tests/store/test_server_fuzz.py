"""Whatever is sent to the embedded API, it answers sensibly and goes on."""

import asyncio
import ssl

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.api.scheme import SCHEME, by_kind
from tidegate.testing.api import serving
from tidegate.testing.manifests import JSON, broken
from tidegate.testing.rest import ROUTES, Rest, route

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOME = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MEDIA = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
]
PARAMETERS = ["dryRun", "fieldManager", "fieldValidation", "force", "limit", "labelSelector"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory):
    async with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def rest(server):
    return Rest(server[1])


def url(kind, name=""):
    root = f"/apis/{kind.group}/{kind.storage}" if kind.group else f"/api/{kind.storage}"
    scope = "/namespaces/default" if kind.namespaced else ""
    return f"{root}{scope}/{kind.plural}" + (f"/{name}" if name else "")


def sensible(reply):
    """A refusal is a Status that says so; never an internal error."""
    assert reply.code < 500, reply.text
    if reply.code >= 400:
        status = reply.json()
        assert (status["kind"], status["code"]) == ("Status", reply.code)
        assert status["message"]


@SOME
@given(st.sampled_from(SCHEME).flatmap(lambda kind: st.tuples(st.just(kind), broken(kind))))
async def test_a_broken_manifest_is_stored_whole_or_not_at_all(rest, sent):
    kind, manifest = sent
    reply = await rest.ask("POST", f"{url(kind)}?dryRun=All&fieldValidation=Strict", manifest)
    sensible(reply)


@SOME
@given(
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    value=JSON,
    media=st.sampled_from(MEDIA),
    parameters=st.dictionaries(st.sampled_from(PARAMETERS), st.sampled_from(["", "x", "true"])),
)
async def test_any_json_to_any_method_is_answered(rest, method, value, media, parameters):
    query = "&".join(f"{name}={text}" for name, text in parameters.items())
    path = ROUTES if method == "POST" else f"{ROUTES}/fuzzed"
    await rest.ask("POST", ROUTES, route("fuzzed"))
    sensible(await rest.ask(method, f"{path}?{query}", value, media=media))
    sensible(await rest.ask("GET", ROUTES))


@SOME
@given(
    patch=st.dictionaries(
        st.sampled_from(["metadata", "spec", "status", "kind", "apiVersion", "data"]), JSON
    ),
    kind=st.sampled_from([by_kind("", "ConfigMap"), by_kind("", "Service")]),
    media=st.sampled_from(MEDIA),
)
async def test_any_patch_leaves_an_object_of_the_same_identity(rest, patch, kind, media):
    base = {"apiVersion": "v1", "kind": kind.kind, "metadata": {"name": "fuzzed"}}
    if kind.kind == "Service":
        base["spec"] = {"ports": [{"port": 80}]}
    await rest.ask("POST", url(kind), base)
    before = (await rest.ask("GET", url(kind, "fuzzed"))).json()
    path = f"{url(kind, 'fuzzed')}?fieldManager=me"
    sensible(await rest.ask("PATCH", path, patch, media=media))
    after = (await rest.ask("GET", url(kind, "fuzzed"))).json()
    for field in ("name", "namespace", "uid", "creationTimestamp"):
        assert after["metadata"][field] == before["metadata"][field]


@SOME
@given(st.binary(max_size=200))
async def test_bytes_that_are_not_http_end_in_an_answer_or_a_closed_connection(server, raw):
    credentials = server[1]
    tls = ssl.create_default_context(cafile=str(credentials.ca_path))
    reader, writer = await asyncio.open_connection("127.0.0.1", credentials.port, ssl=tls)
    # An end that is wrong wherever it falls: TLS has no way to close one direction.
    writer.write(raw + b"\r\n\x00 \x00\r\n\r\n")
    await asyncio.wait_for(reader.read(), 10)
    writer.close()
    sensible(await Rest(credentials).ask("GET", ROUTES))


async def test_endless_headers_are_cut_off(server):
    credentials = server[1]
    tls = ssl.create_default_context(cafile=str(credentials.ca_path))
    reader, writer = await asyncio.open_connection("127.0.0.1", credentials.port, ssl=tls)
    writer.write(b"GET /version HTTP/1.1\r\nx: " + b"y" * 200_000)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 4")
