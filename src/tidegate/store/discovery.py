"""What the API says of itself: its version, its groups, the resources of each.

Clients pick the first group that has a resource of the wanted name, so newer groups come
first: `inferencepools` means those of `inference.networking.k8s.io`.
"""

import importlib.metadata
import platform
from collections.abc import Iterator
from typing import Any, Final

from tidegate.api.scheme import LEGACY_GROUP, SCHEME, Kind

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
SUBRESOURCE_VERBS: Final = ("get", "patch", "update")
AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
KUBERNETES_MINOR: Final = 35
"""The Kubernetes whose API is spoken: kubectl warns when it differs by more than one minor."""


def server_version() -> dict[str, str]:
    """Return what `/version` answers."""
    ours = importlib.metadata.version("tidegate")
    return {
        "major": "1",
        "minor": str(KUBERNETES_MINOR),
        "gitVersion": f"v1.{KUBERNETES_MINOR}.0+tidegate.{ours}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def groups() -> list[str]:
    """Return the named groups, newest first."""
    found = dict.fromkeys(kind.group for kind in SCHEME if kind.group)
    return sorted(found, key=lambda group: group == LEGACY_GROUP)


def versions(group: str) -> list[str]:
    """Return the versions of `group`, preferred first; none where it isn't served."""
    return list(dict.fromkeys(v for kind in SCHEME if kind.group == group for v in kind.versions))


def kinds(group: str, version: str) -> list[Kind]:
    """Return the kinds served under `group` and `version`."""
    return [kind for kind in SCHEME if kind.group == group and version in kind.versions]


def core_versions() -> dict[str, Any]:
    """Return what `/api` answers to clients that don't ask for the aggregated form."""
    return {"kind": "APIVersions", "versions": versions(""), "serverAddressByClientCIDRs": []}


def group_list() -> dict[str, Any]:
    """Return what `/apis` answers to clients that don't ask for the aggregated form."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g) for g in groups()]}


def group_document(group: str) -> dict[str, Any] | None:
    """Return what `/apis/GROUP` answers."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)} if group in groups() else None


def _group(group: str) -> dict[str, Any]:
    served = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions(group)]
    return {"name": group, "versions": served, "preferredVersion": served[0]}


def resource_list(group: str, version: str) -> dict[str, Any] | None:
    """Return the resources of a version of a group, subresources among them."""
    found = kinds(group, version)
    if not found:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version(version),
        "resources": [entry for kind in found for entry in _resources(kind)],
    }


def _resources(kind: Kind) -> Iterator[dict[str, Any]]:
    base = {"singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind}
    yield {
        "name": kind.plural,
        **base,
        "verbs": VERBS,
        **({"shortNames": kind.short_names} if kind.short_names else {}),
        **({"categories": kind.categories} if kind.categories else {}),
    }
    part = {"singularName": "", "namespaced": kind.namespaced, "verbs": SUBRESOURCE_VERBS}
    if kind.has_status:
        yield {"name": f"{kind.plural}/status", "kind": kind.kind, **part}
    if kind.scale:
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        yield {"name": f"{kind.plural}/scale", **scale, **part}


def aggregated(*, core: bool) -> dict[str, Any]:
    """Return all of `/api` or `/apis` in one document (KEP-3352)."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [_discovered(group) for group in ([""] if core else groups())],
    }


def _discovered(group: str) -> dict[str, Any]:
    return {
        "metadata": {"name": group, "creationTimestamp": None} if group else {},
        "versions": [
            {
                "version": version,
                "freshness": "Current",
                "resources": [_described(kind, version) for kind in kinds(group, version)],
            }
            for version in versions(group)
        ],
    }


def _described(kind: Kind, version: str) -> dict[str, Any]:
    return {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": VERBS,
        "shortNames": kind.short_names,
        "categories": kind.categories,
        "subresources": list(_subresources(kind, version)),
    }


def _subresources(kind: Kind, version: str) -> Iterator[dict[str, Any]]:
    own = {"group": kind.group, "version": version, "kind": kind.kind}
    if kind.has_status:
        yield {"subresource": "status", "responseKind": own, "verbs": SUBRESOURCE_VERBS}
    if kind.scale:
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        yield {"subresource": "scale", "responseKind": scale, "verbs": SUBRESOURCE_VERBS}
