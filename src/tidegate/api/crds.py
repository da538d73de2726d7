"""CRDs and OpenAPI schemas, rendered from the models.

What `kubectl explain` shows and what a cluster's API server enforces is what `validate`
enforces here, as both come from the same nodes. Rules of meaning are not in a schema:
a cluster learns of their violations from conditions.
"""

from collections.abc import Iterator
from typing import Any, Final

from tidegate.api.columns import Column
from tidegate.api.schema import INT32, MISSING, Node, copied, node_of
from tidegate.api.scheme import SCHEME, Kind

Schema = dict[str, Any]

CUSTOM_KINDS: Final = tuple(kind for kind in SCHEME if kind.group)
"""The kinds that a cluster needs a CRD for."""


def schema(kind: Kind, version: str) -> Schema:
    """Return the OpenAPI v3 schema of a kind's objects: structural, as CRDs need it.

    All versions of a kind have the same fields. `metadata` is a plain object, whose schema
    the API server has.

    Raises:
        ValueError: The kind has no such version.

    """
    if version not in kind.versions:
        raise ValueError(f"{kind} is served in {', '.join(kind.versions)}, not in {version}")
    rendered = _render(node_of(kind.model))
    rendered["properties"]["metadata"] = {"type": "object"}
    return rendered


def _render(node: Node) -> Schema:
    return dict(_parts(node))


def _parts(node: Node) -> Iterator[tuple[str, Any]]:
    description = node.description or (node.items.description if node.items else "")
    if description:
        yield "description", description
    if node.default is not MISSING:
        yield "default", copied(node.default)
    match node.form:
        case "object":
            yield from _object(node)
        case "map":
            yield from _map(node)
        case "array":
            yield from _array(node)
        case "string":
            yield from _string(node)
        case "integer" | "number":
            yield from _number(node)
        case "boolean":
            yield "type", "boolean"
        case "int-or-string":
            yield "x-kubernetes-int-or-string", True
            yield "anyOf", [{"type": "integer"}, {"type": "string"}]
        case "any":
            yield "x-kubernetes-preserve-unknown-fields", True


def _object(node: Node) -> Iterator[tuple[str, Any]]:
    yield "type", "object"
    if node.fields:
        yield "properties", {name: _render(child) for name, child in node.fields.items()}
    if node.required:
        yield "required", sorted(node.required)
    if node.keeps_unknown:
        yield "x-kubernetes-preserve-unknown-fields", True


def _map(node: Node) -> Iterator[tuple[str, Any]]:
    yield "type", "object"
    if node.items is not None:
        yield "additionalProperties", _render(node.items)
    yield from _sizes(node, "Properties")


def _array(node: Node) -> Iterator[tuple[str, Any]]:
    yield "type", "array"
    if node.items is not None:
        yield "items", _render(node.items)
    yield from _sizes(node, "Items")
    if node.list_keys is None:
        yield "x-kubernetes-list-type", "atomic"
    elif not node.list_keys:
        yield "x-kubernetes-list-type", "set"
    else:
        yield "x-kubernetes-list-type", "map"
        yield "x-kubernetes-list-map-keys", list(node.list_keys)


def _string(node: Node) -> Iterator[tuple[str, Any]]:
    yield "type", "string"
    if node.enum:
        yield "enum", list(node.enum)
    if node.pattern:
        yield "pattern", node.pattern
    yield from _sizes(node, "Length")


def _sizes(node: Node, what: str) -> Iterator[tuple[str, int]]:
    if node.min_size is not None:
        yield f"min{what}", node.min_size
    if node.max_size is not None:
        yield f"max{what}", node.max_size


def _number(node: Node) -> Iterator[tuple[str, Any]]:
    yield "type", node.form
    if node.form == "integer":
        low, high = node.minimum, node.maximum
        small = high is not None and high <= INT32[1] and (low is None or low >= INT32[0])
        yield "format", "int32" if small else "int64"
    if node.enum:
        yield "enum", list(node.enum)
    if node.minimum is not None:
        yield "minimum", node.minimum
    if node.exclusive_minimum:
        yield "exclusiveMinimum", True
    if node.maximum is not None:
        yield "maximum", node.maximum


# Groups under k8s.io are protected: a CRD in one must say how it came to be there.
_APPROVAL: Final = {
    "api-approved.kubernetes.io": "unapproved, rendered from the models of Tidegate"
}


def crd(kind: Kind) -> dict[str, Any]:
    """Return the `apiextensions.k8s.io/v1` CustomResourceDefinition of a kind.

    Columns that only a function can fill are left out.

    Raises:
        ValueError: The kind is of the core group, which has no CRDs.

    """
    if not kind.group:
        raise ValueError(f"{kind} is built into every API server")
    metadata: dict[str, Any] = {"name": kind.resource}
    if kind.group.endswith(".k8s.io"):
        metadata["annotations"] = dict(_APPROVAL)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.group,
            "names": _names(kind),
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [_version(kind, version) for version in kind.versions],
        },
    }


def _names(kind: Kind) -> dict[str, Any]:
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": kind.list_kind,
        "plural": kind.plural,
        "singular": kind.singular,
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    if kind.categories:
        names["categories"] = list(kind.categories)
    return names


def _version(kind: Kind, version: str) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}} if kind.has_status else {}
    if kind.scale is not None:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.spec_path,
            "statusReplicasPath": kind.scale.status_path,
        }
    return {
        "name": version,
        "served": True,
        "storage": version == kind.storage,
        "schema": {"openAPIV3Schema": schema(kind, version)},
        "subresources": subresources,
        "additionalPrinterColumns": [
            _column(column, column.source)
            for column in kind.columns
            if isinstance(column.source, str)
        ],
    }


def _column(column: Column, path: str) -> dict[str, Any]:
    rendered: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": path}
    if column.priority:
        rendered["priority"] = column.priority
    if column.description:
        rendered["description"] = column.description
    return rendered
