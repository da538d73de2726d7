"""The OpenAPI v3 documents that clients read: one for each version of a group, and an index.

kubectl needs two things of them: the schemas, for `explain`, and a PATCH operation with the
parameter `fieldValidation` for each kind, which tells it that the server validates. Schemas
come from the models (`api.crds`), so what is explained is what is checked.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from tidegate.api import crds
from tidegate.api.scheme import SCHEME, Kind

Json = dict[str, Any]

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1"
_STRINGS: Final = {"type": "object", "additionalProperties": {"type": "string"}}


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


OBJECT_META: Final[Json] = {
    "description": "What every object has: names, labels, versions.",
    "type": "object",
    "properties": {
        "name": _text("Unique among the kind's objects in a namespace; can't be changed."),
        "generateName": _text("A prefix: the server adds a random end where `name` is missing."),
        "namespace": _text("The scope of the name; empty for cluster-scoped kinds."),
        "labels": {**_STRINGS, "description": "What selectors select by."},
        "annotations": {**_STRINGS, "description": "Notes of people and programs."},
        "uid": _text("Tells this object from a later one of the same name. Read-only."),
        "resourceVersion": _text(
            "Changes with every write; a write that names an older one is refused. Opaque."
        ),
        "generation": {
            "type": "integer",
            "format": "int64",
            "description": "Counts the changes of the spec. Read-only.",
        },
        "creationTimestamp": {
            "type": "string",
            "format": "date-time",
            "description": "When the object was made. Read-only.",
        },
        "deletionTimestamp": {
            "type": "string",
            "format": "date-time",
            "description": "When the deletion was asked for; set while finalizers remain.",
        },
        "finalizers": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Who has work to do before the object goes.",
        },
        "ownerReferences": {
            "type": "array",
            "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "description": "The objects that this one belongs to.",
        },
        "managedFields": {
            "type": "array",
            "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "description": "Who owns which fields. Kept by the server.",
        },
    },
}
LIST_META: Final[Json] = {
    "description": "The version that a list shows.",
    "type": "object",
    "properties": {
        "resourceVersion": _text("The version to watch from."),
        "continue": _text("Where the next page starts."),
    },
}


def _v2() -> bytes:
    """Return an OpenAPI v2 document that describes nothing, in the protobuf of gnostic.

    kubectl falls back to v2 for kinds that v3 doesn't have. Told "not found" it would advise to
    turn validation off; told that there is no such kind, it says so.
    """
    title = b"\x0a\x08Tidegate" + b"\x12\x02v1"
    swagger, info = b"\x0a\x032.0", b"\x12" + bytes([len(title)]) + title
    no_paths, no_definitions = b"\x42\x00", b"\x4a\x00"
    return swagger + info + no_paths + no_definitions


V2: Final = _v2()
V2_MEDIA: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def index() -> Json:
    """Return what `/openapi/v3` answers: a document's URL changes with its content."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest(path)}"}
            for path in _documents()
        }
    }


@cache
def document(path: str) -> bytes | None:
    """Return the document of a path such as `apis/tidegate.dev/v1alpha1`, as JSON."""
    found = _documents().get(path)
    return msgspec.json.encode(_document(*found)) if found else None


@cache
def digest(path: str) -> str:
    """Return the hash of the document of `path`, as its URL has it."""
    return hashlib.sha256(document(path) or b"").hexdigest().upper()


@cache
def _documents() -> Mapping[str, tuple[str, str]]:
    """Return group and version by path."""
    pairs = dict.fromkeys((k.group, v) for k in SCHEME for v in k.versions)
    return {_root(group, version): (group, version) for group, version in pairs}


def _root(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _document(group: str, version: str) -> Json:
    kinds = [k for k in SCHEME if k.group == group and version in k.versions]
    schemas: Json = {f"{_META}.ObjectMeta": OBJECT_META, f"{_META}.ListMeta": LIST_META}
    paths: Json = {}
    for kind in kinds:
        schemas |= _schemas(kind, version)
        paths |= dict(_paths(kind, version))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Tidegate", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema_name(kind: Kind, version: str) -> str:
    """Return the component's name: the group backwards, the version, the kind."""
    group = ".".join(reversed(kind.group.split("."))) if kind.group else "io.k8s.api.core"
    return f"{group}.{version}.{kind.kind}"


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _gvk(kind: Kind, version: str, *, is_list: bool = False) -> Json:
    name = kind.list_kind if is_list else kind.kind
    return {"group": kind.group, "version": version, "kind": name}


def _schemas(kind: Kind, version: str) -> Json:
    own = _said_once(crds.schema(kind, version))
    metadata = {"description": OBJECT_META["description"], "allOf": [_ref(f"{_META}.ObjectMeta")]}
    name = _schema_name(kind, version)
    return {
        name: {
            **own,
            "properties": {**own["properties"], "metadata": metadata},
            "x-kubernetes-group-version-kind": [_gvk(kind, version)],
        },
        f"{name}List": {
            "description": f"A list of {kind.kind}.",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": _text("The group and version of the list."),
                "kind": _text("The kind of the list."),
                "metadata": {"allOf": [_ref(f"{_META}.ListMeta")]},
                "items": {"type": "array", "items": _ref(name)},
            },
            "x-kubernetes-group-version-kind": [_gvk(kind, version, is_list=True)],
        },
    }


def _said_once(schema: Json) -> Json:
    """Return `schema` with no items described as their list is: explain shows both."""
    said = {name: _said_once(v) if isinstance(v, dict) else v for name, v in schema.items()}
    items = said.get("items")
    if isinstance(items, dict) and items.get("description") == said.get("description"):
        said["items"] = {name: v for name, v in items.items() if name != "description"}
    return said


def _paths(kind: Kind, version: str) -> Iterator[tuple[str, Json]]:
    """Yield each path with its operations."""
    root = f"/{_root(kind.group, version)}"
    scope = f"{root}/namespaces/{{namespace}}" if kind.namespaced else root
    collection, item = f"{scope}/{kind.plural}", f"{scope}/{kind.plural}/{{name}}"
    one, many = _schema_name(kind, version), f"{_schema_name(kind, version)}List"
    yield (
        collection,
        {
            "get": _operation(kind, version, "list", many),
            "post": _operation(kind, version, "post", one, body=True),
            "delete": _operation(kind, version, "deletecollection", many),
            "parameters": _path_parameters(kind, item=False),
        },
    )
    yield item, {**_item(kind, version, one), "parameters": _path_parameters(kind, item=True)}
    if kind.has_status:
        part = _item(kind, version, one)
        part.pop("delete")
        yield f"{item}/status", {**part, "parameters": _path_parameters(kind, item=True)}
    if kind.namespaced:
        everywhere = {"get": _operation(kind, version, "list", many)}
        yield f"{root}/{kind.plural}", everywhere


def _item(kind: Kind, version: str, schema: str) -> Json:
    return {
        "get": _operation(kind, version, "get", schema),
        "put": _operation(kind, version, "put", schema, body=True),
        "patch": _operation(kind, version, "patch", schema, body=True),
        "delete": _operation(kind, version, "delete", schema),
    }


def _operation(kind: Kind, version: str, action: str, schema: str, *, body: bool = False) -> Json:
    content = {"application/json": {"schema": _ref(schema)}}
    operation: Json = {
        "tags": [f"{kind.group or 'core'}_{version}"],
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind, version),
        "parameters": [_query(name) for name in _PARAMETERS[action]],
        "responses": {"200": {"description": "OK", "content": content}},
    }
    if body:
        operation["requestBody"] = {"content": content}
    return operation


_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "get": (),
    "list": ("labelSelector", "fieldSelector", "limit", "resourceVersion", "watch"),
    "post": ("dryRun", "fieldManager", "fieldValidation"),
    "put": ("dryRun", "fieldManager", "fieldValidation"),
    "patch": ("dryRun", "fieldManager", "fieldValidation", "force"),
    "delete": ("dryRun", "propagationPolicy"),
    "deletecollection": ("dryRun", "labelSelector", "fieldSelector", "propagationPolicy"),
}


def _query(name: str) -> Json:
    sort = {"limit": "integer", "watch": "boolean", "force": "boolean"}.get(name, "string")
    return {"name": name, "in": "query", "schema": {"type": sort, "uniqueItems": True}}


def _path_parameters(kind: Kind, *, item: bool) -> list[Json]:
    names = [*(["namespace"] if kind.namespaced else []), *(["name"] if item else [])]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
