"""The schemas are structural, complete, and readable by other implementations."""

import json
import re
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect as types

from tidegate.api.crds import CUSTOM_KINDS, crd, schema
from tidegate.api.meta import Model
from tidegate.api.schema import Node, fill, node_of
from tidegate.api.scheme import SCHEME, Kind, by_kind
from tidegate.api.structure import Check

EACH = pytest.mark.parametrize("kind", SCHEME, ids=str)
CUSTOM = pytest.mark.parametrize("kind", CUSTOM_KINDS, ids=str)
TYPES = {"object", "array", "string", "integer", "number", "boolean"}


def places(schema: dict, path: str = "") -> Iterator[tuple[str, dict]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from places(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from places(schema[key], f"{path}[]")


@EACH
def test_a_schema_is_structural(kind: Kind):
    """Every place has a type; what belongs to a type stands at that type only."""
    for path, place in places(schema(kind, kind.storage)):
        open_place = place.get("x-kubernetes-preserve-unknown-fields")
        if place.get("x-kubernetes-int-or-string") or (open_place and "type" not in place):
            continue
        assert place.get("type") in TYPES, path
        assert ("items" in place) == (place["type"] == "array"), path
        assert not {"properties", "additionalProperties"} <= place.keys(), path
        if place["type"] != "object":
            assert not {"properties", "required", "additionalProperties"} & place.keys(), path
        if place["type"] != "string":
            assert not {"pattern", "minLength", "maxLength"} & place.keys(), path
        assert not {"$ref", "nullable", "deprecated", "const", "oneOf"} & place.keys(), path


@EACH
def test_required_fields_and_list_keys_exist(kind: Kind):
    for path, place in places(schema(kind, kind.storage)):
        assert set(place.get("required", [])) <= place.get("properties", {}).keys(), path
        for key in place.get("x-kubernetes-list-map-keys", []):
            item = place["items"]
            assert key in item["properties"], path
            assert key in item.get("required", []) or "default" in item["properties"][key], path


@EACH
def test_defaults_fit_their_schema_and_are_filled_in(kind: Kind):
    def check(node: Node) -> None:
        if node.default is not msgspec.UNSET:
            assert Check().walk(node, node.default, "")
            assert fill(node, node.default) == node.default
        for child in (*node.fields.values(), *([node.items] if node.items else [])):
            check(child)

    check(node_of(kind.model))


@EACH
def test_every_field_of_every_model_has_a_schema(kind: Kind):
    def check(node: Node) -> None:
        if node.model is not None and node.fields:
            struct = types.type_info(node.model)
            assert node.fields.keys() == {each.encode_name for each in struct.fields}
        for child in (*node.fields.values(), *([node.items] if node.items else [])):
            check(child)

    check(node_of(kind.model))


@EACH
def test_kinds_and_their_parts_are_explained(kind: Kind):
    whole = schema(kind, kind.storage)
    assert whole["description"]
    for path, place in places(whole["properties"].get("spec", {})):
        if place.get("properties"):
            assert place.get("description"), path


def test_a_field_is_explained_by_the_text_under_it():
    server = by_kind("tidegate.dev", "ModelServer")
    assert server is not None
    spec = schema(server, "v1alpha1")["properties"]["spec"]["properties"]
    assert spec["replicas"]["description"].startswith("How many processes")
    assert spec["health"]["description"] == "How a model server is asked whether it is well."
    pool = by_kind("inference.networking.k8s.io", "InferencePool")
    assert pool is not None
    inherited = schema(pool, "v1")["properties"]["spec"]["properties"]["selector"]["properties"]
    assert inherited["matchLabels"]["description"] == (
        "Labels and their values; all must be equal."
    )


@EACH
def test_patterns_mean_the_same_to_python_and_to_go(kind: Kind):
    """No look-around and back-references, which RE2 lacks; no classes that Unicode widens."""
    for path, place in places(schema(kind, kind.storage)):
        pattern = place.get("pattern", "")
        assert not re.search(r"\(\?[=!<P]|\\[1-9swdbWSDB]", pattern), path


@pytest.mark.parametrize(
    ("group", "kind", "path", "markers"),
    [
        (
            "gateway.networking.k8s.io",
            "Gateway",
            ".spec.listeners",
            {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
        (
            "gateway.networking.k8s.io",
            "HTTPRoute",
            ".status.parents[].conditions",
            {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
        (
            "gateway.networking.k8s.io",
            "HTTPRoute",
            ".spec.rules",
            {"x-kubernetes-list-type": "atomic"},
        ),
        (
            "gateway.networking.k8s.io",
            "HTTPRoute",
            ".spec.rules[].backendRefs[].weight",
            {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 1},
        ),
        (
            "inference.networking.k8s.io",
            "InferencePool",
            ".spec.selector.matchLabels",
            {"minProperties": 1, "maxProperties": 64},
        ),
        (
            "tidegate.dev",
            "ModelServer",
            ".spec.health.periodSeconds",
            {"minimum": 0, "exclusiveMinimum": True, "default": 2},
        ),
        (
            "gateway.networking.k8s.io",
            "HTTPRoute",
            ".status",
            {"x-kubernetes-preserve-unknown-fields": True},
        ),
    ],
)
def test_markers_stand_where_they_belong(group: str, kind: str, path: str, markers: dict):
    found = by_kind(group, kind)
    assert found is not None
    place = dict(places(schema(found, found.storage)))[path]
    assert markers.items() <= place.items()


@CUSTOM
def test_a_crd_has_what_an_api_server_asks_for(kind: Kind):
    made = crd(kind)
    spec = made["spec"]
    assert made["metadata"]["name"] == f"{kind.plural}.{kind.group}"
    assert spec["scope"] == ("Namespaced" if kind.namespaced else "Cluster")
    assert [each["name"] for each in spec["versions"]] == list(kind.versions)
    assert [each["storage"] for each in spec["versions"]].count(True) == 1
    for version in spec["versions"]:
        whole = version["schema"]["openAPIV3Schema"]
        assert whole["properties"]["metadata"] == {"type": "object"}
        assert ("status" in version["subresources"]) == kind.has_status
        for column in version["additionalPrinterColumns"]:
            assert column["jsonPath"].startswith(".")
    if kind.group.endswith(".k8s.io"):
        approval = made["metadata"]["annotations"]["api-approved.kubernetes.io"]
        assert approval.startswith("unapproved")
    json.dumps(made, allow_nan=False)


def test_a_model_server_can_be_scaled():
    server = by_kind("tidegate.dev", "ModelServer")
    assert server is not None
    (version,) = crd(server)["spec"]["versions"]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
    }


def test_built_in_kinds_have_no_crd():
    secret = by_kind("", "Secret")
    assert secret is not None
    with pytest.raises(ValueError, match="built into"):
        crd(secret)


def test_a_version_that_is_not_served_has_no_schema():
    with pytest.raises(ValueError, match="not in v9"):
        schema(SCHEME[0], "v9")


def test_schemas_share_nothing_that_can_change():
    first = schema(SCHEME[2], "v1")
    first["properties"]["spec"]["properties"]["rules"]["default"].append("changed")
    second = schema(SCHEME[2], "v1")
    assert second["properties"]["spec"]["properties"]["rules"]["default"] == [
        {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}
    ]


@pytest.mark.parametrize("odd", [bytes, set[str], str | bool])
def test_a_type_without_a_schema_is_refused_when_the_schema_is_made(odd: type):
    model = msgspec.defstruct("Odd", [("x", odd)], bases=(Model,), frozen=True, kw_only=True)
    with pytest.raises(TypeError, match="no schema"):
        node_of(model)
