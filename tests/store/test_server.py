"""The embedded API as any HTTP client meets it: who is let in, verbs, refusals."""

import json

import pytest
import pytest_asyncio

from tidegate.store.bodies import MAX_BODY
from tidegate.testing.api import serving
from tidegate.testing.rest import ROUTES, Rest, route

pytestmark = pytest.mark.asyncio(loop_scope="module")

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory):
    async with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def rest(server):
    client = Rest(server[1])
    yield client
    await client.ask("DELETE", ROUTES)


async def created(rest, *args, **kwargs):
    reply = await rest.ask("POST", ROUTES, route(*args, **kwargs))
    assert reply.code == 201, reply.text
    return reply.json()


def reason(reply):
    status = reply.json()
    assert status["kind"] == "Status"
    assert status["code"] == reply.code
    return status["code"], status["reason"]


# Who is let in


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Basic dGlkZWdhdGU6eA==", "Bearer \xe9", "{token}"],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/version"), ("GET", "/apis"), ("POST", ROUTES), ("GET", "/openapi/v3")],
)
async def test_nobody_gets_in_without_the_token(server, rest, method, path, authorization):
    if authorization == "{token}":
        authorization = server[1].token
    body = route("intruder") if method == "POST" else None
    reply = await rest.ask(method, path, body, headers={"authorization": authorization})
    assert reason(reply) == (401, "Unauthorized")
    assert (await rest.ask("GET", f"{ROUTES}/intruder")).code == 404


async def test_health_is_told_to_everybody(rest):
    for path in ("/livez", "/readyz", "/healthz"):
        reply = await rest.ask("GET", path, headers={"authorization": None})
        assert (reply.code, reply.text) == (200, "ok")


async def test_a_web_page_gets_in_neither_by_origin_nor_by_a_rebound_name(rest):
    reply = await rest.ask("GET", ROUTES, headers={"origin": "https://evil.example"})
    assert reason(reply) == (403, "Forbidden")
    assert not reply.header("access-control-allow-origin")
    for host in ("evil.example", "evil.example:443", "127.0.0.1.evil.example", None):
        reply = await rest.ask("GET", "/livez", headers={"host": host})
        assert reply.code in (400, 403)
    for host in ("localhost", "LOCALHOST:7", "[::1]:7443", "127.0.0.1"):
        assert (await rest.ask("GET", ROUTES, headers={"host": host})).code == 200


# Bodies


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_forms_and_other_media_types_are_refused(rest, media):
    reply = await rest.ask("POST", ROUTES, route("x"), media=media)
    assert reason(reply) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize("media", ["application/json", "application/yaml", MERGE, APPLY])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'{"kind": 7}',
        b'{"metadata": []}',
        b"[" * 9999,
    ],
)
async def test_garbage_is_a_bad_request(rest, media, body):
    await created(rest, "x")
    patches = media in (MERGE, APPLY)
    path = f"{ROUTES}/x?fieldManager=me" if patches else ROUTES
    reply = await rest.ask("PATCH" if patches else "POST", path, body, media=media)
    assert reply.code in (400, 422)
    assert (await rest.ask("GET", f"{ROUTES}/x")).json()["metadata"]["generation"] == 1


async def test_a_body_has_a_limit_and_the_server_goes_on(rest):
    big = json.dumps(route("big", annotations={"a": "x" * MAX_BODY})).encode()
    reply = await rest.ask("POST", ROUTES, big)
    assert reason(reply) == (413, "RequestEntityTooLarge")
    assert (await rest.ask("GET", ROUTES)).json()["items"] == []


async def test_yaml_is_taken_too(rest):
    text = b"""
    apiVersion: gateway.networking.k8s.io/v1
    kind: HTTPRoute
    metadata: {name: y}
    spec:
      rules:
      - backendRefs:
        - {name: llm, port: 80}
    """
    reply = await rest.ask("POST", ROUTES, text, media="application/yaml")
    assert reply.code == 201
    assert reply.json()["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1


# Reads


async def test_a_list_has_what_a_client_needs_to_watch_from_it(rest):
    await created(rest, "b")
    await created(rest, "a")
    found = (await rest.ask("GET", f"{ROUTES}?limit=1")).json()
    assert found["kind"] == "HTTPRouteList"
    assert found["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert [item["metadata"]["name"] for item in found["items"]] == ["a", "b"]
    newest = max(int(item["metadata"]["resourceVersion"]) for item in found["items"])
    assert int(found["metadata"]["resourceVersion"]) >= newest


async def test_all_versions_show_the_same_object(rest):
    await created(rest, "a")
    path = f"{ROUTES}/a".replace("/v1/", "/v1beta1/")
    old = (await rest.ask("GET", path)).json()
    assert old["apiVersion"] == "gateway.networking.k8s.io/v1beta1"
    assert old["spec"] == (await rest.ask("GET", f"{ROUTES}/a")).json()["spec"]
    old["spec"]["hostnames"] = ["a.example"]
    assert (await rest.ask("PUT", path, old)).json()["metadata"]["generation"] == 2
    assert (await rest.ask("GET", f"{ROUTES}/a")).json()["spec"]["hostnames"] == ["a.example"]
    assert reason(await rest.ask("PUT", f"{ROUTES}/a", old)) == (400, "BadRequest")


async def test_metadata_alone_can_be_asked_for(rest):
    await created(rest, "a")
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    found = (await rest.ask("GET", ROUTES, headers={"accept": accept})).json()
    assert found["kind"] == "PartialObjectMetadataList"
    assert [sorted(item) for item in found["items"]] == [["apiVersion", "kind", "metadata"]]


@pytest.mark.parametrize("include", ["Metadata", "Object", "None"])
async def test_rows_of_a_table_carry_as_much_as_is_asked_for(rest, include):
    await created(rest, "a")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    path = f"{ROUTES}?includeObject={include}"
    table = (await rest.ask("GET", path, headers={"accept": accept})).json()
    names = [column["name"] for column in table["columnDefinitions"]]
    assert (names[0], len(table["rows"][0]["cells"])) == ("Name", len(names))
    carried = table["rows"][0]["object"]
    assert {
        "Metadata": carried and carried["kind"] == "PartialObjectMetadata",
        "Object": carried and "spec" in carried,
        "None": carried is None,
    }[include]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v2", 404),
        ("GET", "/apis/nope", 404),
        ("GET", "/apis/gateway.networking.k8s.io/v9/httproutes", 404),
        ("GET", "/apis/gateway.networking.k8s.io/v1/nope", 404),
        ("GET", "/apis/gateway.networking.k8s.io/v1/httproutes/x", 404),
        ("GET", "/apis/gateway.networking.k8s.io/v1/namespaces/default/gatewayclasses", 404),
        ("GET", f"{ROUTES}/x/scale", 404),
        ("GET", f"{ROUTES}/x/status/more", 404),
        ("GET", f"{ROUTES}//status", 404),
        ("GET", "/openapi/v2", 404),
        ("GET", "/openapi/v3/apis/nope/v1", 404),
        ("POST", "/version", 405),
        ("POST", f"{ROUTES}/x", 405),
        ("PUT", ROUTES, 405),
        ("PATCH", ROUTES, 405),
        ("OPTIONS", ROUTES, 405),
        ("POST", "/apis/gateway.networking.k8s.io/v1/httproutes", 405),
        ("DELETE", "/apis/gateway.networking.k8s.io/v1/httproutes", 405),
        ("GET", f"{ROUTES}?watch=maybe", 400),
        ("GET", f"{ROUTES}?labelSelector=a%20b", 400),
        ("GET", f"{ROUTES}?watch=1&resourceVersion=abc", 400),
        ("GET", f"{ROUTES}?watch=1&timeoutSeconds=-1", 400),
        ("GET", f"{ROUTES}?watch=1&sendInitialEvents=true", 422),
    ],
)
async def test_what_makes_no_sense_has_its_status(rest, method, path, expected):
    reply = await rest.ask(method, path)
    assert reason(reply)[0] == expected, reply.text


# Writes


async def test_a_name_is_made_up_from_generate_name(rest):
    body = route("")
    body["metadata"] = {"generateName": "r-"}
    names = {(await rest.ask("POST", ROUTES, body)).json()["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("r-") and len(name) > 4 for name in names)


async def test_a_second_object_of_a_name_already_exists(rest):
    await created(rest, "a")
    reply = await rest.ask("POST", ROUTES, route("a"))
    assert reason(reply) == (409, "AlreadyExists")
    details = {"name": "a", "group": "gateway.networking.k8s.io", "kind": "httproutes"}
    assert reply.json()["details"] == details
    message = 'httproutes.gateway.networking.k8s.io "a" already exists'
    assert reply.json()["message"] == message


async def test_a_stale_version_is_a_conflict(rest):
    old = await created(rest, "a")
    new = await rest.ask("PUT", f"{ROUTES}/a", {**old, "spec": route("a", 7)["spec"]})
    assert new.code == 200
    reply = await rest.ask("PUT", f"{ROUTES}/a", old)
    assert reason(reply) == (409, "Conflict")
    assert "the object has been modified" in reply.json()["message"]
    patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"], "labels": {}}}
    assert (await rest.ask("PATCH", f"{ROUTES}/a", patch, media=MERGE)).code == 409
    assert (await rest.ask("GET", f"{ROUTES}/a")).json() == new.json()


async def test_an_invalid_object_names_every_field_and_nothing_is_stored(rest):
    bad = route("bad", -1)
    bad["spec"]["hostnames"] = ["UPPER"]
    reply = await rest.ask("POST", ROUTES, bad)
    assert reason(reply) == (422, "Invalid")
    status = reply.json()
    causes = {cause["field"]: cause["message"] for cause in status["details"]["causes"]}
    assert set(causes) == {"spec.rules[0].backendRefs[0].weight", "spec.hostnames[0]"}
    assert causes["spec.rules[0].backendRefs[0].weight"].startswith("Invalid value: -1: ")
    assert status["message"].startswith(
        'HTTPRoute.gateway.networking.k8s.io "bad" is invalid: [spec.'
    )
    assert (status["details"]["kind"], status["details"]["name"]) == ("HTTPRoute", "bad")
    assert (await rest.ask("GET", f"{ROUTES}/bad")).code == 404


async def test_unknown_fields_are_refused_warned_of_or_dropped(rest):
    body = route("typo")
    body["spec"]["rulez"] = []
    strict = await rest.ask("POST", f"{ROUTES}?fieldValidation=Strict", body)
    assert reason(strict) == (400, "BadRequest")
    assert 'unknown field "spec.rulez"' in strict.json()["message"]
    warned = await rest.ask("POST", f"{ROUTES}?fieldValidation=Warn&dryRun=All", body)
    assert warned.header("warning")[0].startswith('299 - "unknown field \\"spec.rulez\\"')
    assert (await rest.ask("POST", f"{ROUTES}?dryRun=All", body)).header("warning")
    silent = await rest.ask("POST", f"{ROUTES}?fieldValidation=Ignore", body)
    assert (silent.code, silent.header("warning")) == (201, [])
    assert "rulez" not in silent.json()["spec"]
    wrong = await rest.ask("POST", f"{ROUTES}?fieldValidation=Loose", body)
    assert reason(wrong) == (422, "Invalid")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"kind": "Gateway"}, "does not match the expected kind"),
        ({"kind": ""}, "Object 'Kind' is missing"),
        ({"apiVersion": "v1"}, "does not match the expected API version"),
        ({"metadata": {"name": "x", "namespace": "other"}}, "the namespace of the provided object"),
        ({"metadata": {"name": "x", "resourceVersion": "1"}}, "resourceVersion should not be set"),
    ],
)
async def test_an_object_that_contradicts_its_url_is_refused(rest, change, what):
    reply = await rest.ask("POST", ROUTES, {**route("x"), **change})
    assert reason(reply) == (400, "BadRequest")
    assert what in reply.json()["message"]


async def test_an_object_without_any_name_is_refused(rest):
    for metadata in ({}, None, {"name": ""}):
        reply = await rest.ask("POST", ROUTES, {**route(""), "metadata": metadata})
        assert reason(reply) == (422, "Invalid"), reply.text


async def test_a_dry_run_answers_and_stores_nothing(rest):
    assert (await rest.ask("POST", f"{ROUTES}?dryRun=All", route("dry"))).code == 201
    before = await created(rest, "a")
    changed = await rest.ask(
        "PUT", f"{ROUTES}/a?dryRun=All", {**before, "spec": route("a", 9)["spec"]}
    )
    assert changed.json()["metadata"]["generation"] == 2
    patch = {"metadata": {"labels": {"x": "y"}}}
    await rest.ask("PATCH", f"{ROUTES}/a?dryRun=All", patch, media=MERGE)
    assert (await rest.ask("DELETE", f"{ROUTES}/a?dryRun=All")).code == 200
    assert (await rest.ask("DELETE", f"{ROUTES}/a", {"dryRun": ["All"]})).code == 200
    assert (await rest.ask("DELETE", f"{ROUTES}?dryRun=All")).code == 200
    assert (await rest.ask("GET", ROUTES)).json()["items"] == [before]
    assert reason(await rest.ask("DELETE", f"{ROUTES}/a?dryRun=Some")) == (422, "Invalid")


async def test_who_writes_is_asked_for_or_taken_from_the_user_agent(rest):
    async def manager(query, agent):
        reply = await rest.ask(
            "POST", f"{ROUTES}?dryRun=All{query}", route("x"), headers={"user-agent": agent}
        )
        return reply.json()["metadata"]["managedFields"][0]["manager"]

    assert await manager("&fieldManager=me", "curl/8") == "me"
    assert await manager("", "curl/8 (x)") == "curl"
    assert await manager("", None) == "unknown"
    too_long = await rest.ask("POST", f"{ROUTES}?fieldManager={'x' * 129}", route("x"))
    assert reason(too_long) == (422, "Invalid")


async def test_patches_of_each_type_change_one_field(rest):
    await created(rest, "a")
    weight = "/spec/rules/0/backendRefs/0/weight"
    operations = [
        {"op": "test", "path": weight, "value": 1},
        {"op": "replace", "path": weight, "value": 5},
    ]
    done = await rest.ask("PATCH", f"{ROUTES}/a", operations, media=JSON_PATCH)
    assert done.json()["spec"]["rules"][0]["backendRefs"][0]["weight"] == 5
    again = await rest.ask("PATCH", f"{ROUTES}/a", operations, media=JSON_PATCH)
    assert reason(again) == (422, "Invalid")
    merged = await rest.ask(
        "PATCH", f"{ROUTES}/a", {"metadata": {"labels": {"a": "b"}}}, media=MERGE
    )
    assert merged.json()["metadata"]["labels"] == {"a": "b"}
    applied = await rest.ask(
        "PATCH", f"{ROUTES}/a?fieldManager=me&force=true", route("a", 6), media=APPLY
    )
    assert applied.json()["spec"]["rules"][0]["backendRefs"][0]["weight"] == 6


async def test_strategic_merge_patches_are_refused_with_what_would_do(rest):
    await created(rest, "a")
    media = "application/strategic-merge-patch+json"
    reply = await rest.ask("PATCH", f"{ROUTES}/a", {}, media=media)
    assert reason(reply) == (415, "UnsupportedMediaType")
    assert MERGE in reply.json()["message"]


async def test_an_apply_creates_and_names_who_is_in_the_way(rest):
    first = await rest.ask("PATCH", f"{ROUTES}/a?fieldManager=one", route("a", 1), media=APPLY)
    assert first.code == 201
    second = await rest.ask("PATCH", f"{ROUTES}/a?fieldManager=two", route("a", 2), media=APPLY)
    assert reason(second) == (409, "Conflict")
    cause = {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "one"',
        "field": ".spec.rules",
    }
    assert second.json()["details"]["causes"] == [cause]
    nobody = await rest.ask("PATCH", f"{ROUTES}/a", route("a", 2), media=APPLY)
    assert reason(nobody) == (422, "Invalid")
    assert "fieldManager: Required value" in nobody.json()["message"]
    forced = await rest.ask("PATCH", f"{ROUTES}/a?force=true", {"metadata": {}}, media=MERGE)
    assert "force: Forbidden" in forced.json()["message"]


async def test_the_status_is_written_apart(rest):
    await created(rest, "a")
    status = {"status": {"parents": []}, "spec": {"hostnames": ["no.example"]}}
    reply = await rest.ask("PATCH", f"{ROUTES}/a/status", status, media=MERGE)
    assert reply.json()["status"] == {"parents": []}
    assert "hostnames" not in reply.json()["spec"]
    assert reply.json()["metadata"]["generation"] == 1
    both = await rest.ask("PATCH", f"{ROUTES}/a", {"status": {"parents": None}}, media=MERGE)
    assert both.json()["status"] == {"parents": []}
    assert (await rest.ask("GET", f"{ROUTES}/a/status")).json() == both.json()
    assert (await rest.ask("DELETE", f"{ROUTES}/a/status")).code == 405


async def test_a_deletion_says_what_is_gone(rest):
    uid = (await created(rest, "a"))["metadata"]["uid"]
    body = {"preconditions": {"uid": "other"}, "propagationPolicy": "Background"}
    assert reason(await rest.ask("DELETE", f"{ROUTES}/a", body)) == (409, "Conflict")
    done = await rest.ask("DELETE", f"{ROUTES}/a", {"preconditions": {"uid": uid}})
    details = {"name": "a", "group": "gateway.networking.k8s.io", "kind": "httproutes", "uid": uid}
    assert (done.code, done.json()["status"], done.json()["details"]) == (200, "Success", details)
    assert reason(await rest.ask("DELETE", f"{ROUTES}/a")) == (404, "NotFound")


async def test_an_object_with_a_finalizer_stays_until_it_is_released(rest):
    await created(rest, "a", finalizers=["example.com/hold"])
    marked = await rest.ask("DELETE", f"{ROUTES}/a")
    assert marked.json()["metadata"]["deletionTimestamp"]
    assert (await rest.ask("GET", f"{ROUTES}/a")).code == 200
    release = {"metadata": {"finalizers": None}}
    assert (await rest.ask("PATCH", f"{ROUTES}/a", release, media=MERGE)).code == 200
    assert (await rest.ask("GET", f"{ROUTES}/a")).code == 404


async def test_a_collection_is_deleted_as_far_as_it_is_selected(rest):
    for name, tier in (("a", "gold"), ("b", "gold"), ("c", "tin")):
        await created(rest, name, labels={"tier": tier})
    gone = await rest.ask("DELETE", f"{ROUTES}?labelSelector=tier%3Dgold")
    assert [item["metadata"]["name"] for item in gone.json()["items"]] == ["a", "b"]
    left = (await rest.ask("GET", ROUTES)).json()["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]


async def test_a_namespace_goes_with_all_that_is_in_it(rest):
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    inside = ROUTES.replace("default", "team")
    missing = await rest.ask("POST", inside, route("a"))
    assert reason(missing) == (404, "NotFound")
    assert missing.json()["message"] == 'namespaces "team" not found'
    made = await rest.ask("POST", "/api/v1/namespaces", namespace)
    assert made.json()["status"] == {"phase": "Active"}
    assert (await rest.ask("POST", inside, route("a"))).code == 201
    assert (await rest.ask("DELETE", "/api/v1/namespaces/team")).code == 200
    assert (await rest.ask("GET", f"{inside}/a")).code == 404
    refused = await rest.ask("DELETE", "/api/v1/namespaces/default")
    assert reason(refused) == (403, "Forbidden")


async def test_a_scale_is_read_and_written_as_a_number(rest):
    servers = "/apis/tidegate.dev/v1alpha1/namespaces/default/modelservers"
    body = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "m"},
        "spec": {"replicas": 2, "simulator": {}},
    }
    assert (await rest.ask("POST", servers, body)).code == 201
    scale = (await rest.ask("GET", f"{servers}/m/scale")).json()
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 2})
    put = await rest.ask("PUT", f"{servers}/m/scale", {**scale, "spec": {"replicas": 3}})
    assert put.json()["spec"] == {"replicas": 3}
    stale = await rest.ask("PUT", f"{servers}/m/scale", {**scale, "spec": {"replicas": 4}})
    assert reason(stale) == (409, "Conflict")
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 5}]
    await rest.ask("PATCH", f"{servers}/m/scale", operations, media=JSON_PATCH)
    assert (await rest.ask("GET", f"{servers}/m")).json()["spec"]["replicas"] == 5
    for wrong in (-1, "many", None, 1.5, True, 10**9):
        reply = await rest.ask(
            "PATCH", f"{servers}/m/scale", {"spec": {"replicas": wrong}}, media=MERGE
        )
        assert reply.code == (422 if wrong is not None else 200), reply.text
    assert (await rest.ask("DELETE", f"{servers}/m")).code == 200


async def test_warnings_can_always_be_sent_as_a_header(rest):
    body = route("w")
    body["spec"]["rules"] = body["spec"]["rules"][0]
    body["spec"]["ünïcode\r\nSet-Cookie: x"] = 1
    reply = await rest.ask("POST", ROUTES, body)
    assert reply.code == 201
    assert len(reply.header("warning")) == 2
    assert not reply.header("set-cookie")
