"""What a URL of the API names: a kind in a version, a namespace, an object, a part of it."""

from dataclasses import dataclass

from tidegate.api import scheme
from tidegate.api.meta import Key
from tidegate.api.scheme import Kind


@dataclass(frozen=True, slots=True)
class Target:
    """A collection (no name), an object, or a subresource of an object."""

    kind: Kind
    version: str
    namespace: str = ""
    """Empty for cluster-scoped kinds, and for a collection over all namespaces."""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """The object's key."""
        return Key(self.namespace, self.name)

    @property
    def api_version(self) -> str:
        """The group and version that the URL names."""
        return self.kind.api_version(self.version)

    @property
    def spans_namespaces(self) -> bool:
        """Whether it is a namespaced kind's collection over all namespaces."""
        return self.kind.namespaced and not self.namespace


def parse_target(path: str) -> Target | None:
    """Return what `path` names; None where there is no such thing.

    Spoken are `/api/V/…` for the core group and `/apis/GROUP/V/…`, then
    `[namespaces/NAMESPACE/]PLURAL[/NAME[/SUBRESOURCE]]`.
    """
    match path.strip("/").split("/"):
        case ["api", version, *rest]:
            return _parse("", version, rest)
        case ["apis", group, version, *rest]:
            return _parse(group, version, rest)
        case _:
            return None


def _parse(group: str, version: str, rest: list[str]) -> Target | None:
    match rest:
        # A namespace is an object itself: /namespaces/x, /namespaces/x/status.
        case ["namespaces", _, "status" | "finalize"] if not group:
            return _target(group, version, "", rest)
        case ["namespaces", namespace, plural, *below] if namespace:
            return _target(group, version, namespace, [plural, *below])
        case _:
            return _target(group, version, "", rest)


def _target(group: str, version: str, namespace: str, rest: list[str]) -> Target | None:
    if not 1 <= len(rest) <= 3 or not all(rest):
        return None
    plural, name, subresource = (*rest, "", "")[:3]
    kind = scheme.by_resource(group, plural)
    if kind is None or version not in kind.versions:
        return None
    if namespace and not kind.namespaced:
        return None
    if name and kind.namespaced and not namespace:
        return None
    if subresource and not _has(kind, subresource):
        return None
    return Target(kind, version, namespace, name, subresource)


def _has(kind: Kind, subresource: str) -> bool:
    return (subresource == "status" and kind.has_status) or (
        subresource == "scale" and kind.scale is not None
    )
