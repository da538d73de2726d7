"""Gateway API: GatewayClass, Gateway, HTTPRoute, ReferenceGrant (`gateway.networking.k8s.io/v1`).

Fields and limits follow the Gateway API v1 types (`apis/v1/*_types.go`).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.api.meta import Condition, Model, Name, Resource

Hostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
Duration = Annotated[str, Meta(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
HeaderName = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$")
]
SectionName = Annotated[str, Meta(min_length=1, max_length=253)]

GROUP = "gateway.networking.k8s.io"


class GatewayClassSpec(Model, frozen=True, kw_only=True):
    """Which controller serves the Gateways of this class."""

    controller_name: Annotated[str, Meta(min_length=1, max_length=253)]
    description: Annotated[str, Meta(max_length=64)] | None = None


class GatewayClassStatus(Model, frozen=True, kw_only=True):
    """What the controller says of the class."""

    conditions: tuple[Condition, ...] = ()


class GatewayClass(Resource, frozen=True, kw_only=True):
    """A class of Gateways; ours has controllerName `tidegate.dev/gateway`."""

    spec: GatewayClassSpec
    status: GatewayClassStatus = GatewayClassStatus()


class SecretObjectReference(Model, frozen=True, kw_only=True):
    """A Secret, by default in the same namespace."""

    group: str = ""
    kind: str = "Secret"
    name: Name
    namespace: str | None = None


class ListenerTLS(Model, frozen=True, kw_only=True):
    """How a listener ends TLS."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Meta(max_length=64)] = ()
    options: dict[str, str] = {}


class NamespaceSelector(Model, frozen=True, kw_only=True):
    """Labels of namespaces whose routes may attach."""

    match_labels: dict[str, str] = {}


class RouteNamespaces(Model, frozen=True, kw_only=True):
    """From which namespaces routes may attach."""

    from_: Literal["All", "Selector", "Same", "None"] = msgspec.field(default="Same", name="from")
    selector: NamespaceSelector | None = None


class RouteGroupKind(Model, frozen=True, kw_only=True):
    """A kind of route."""

    group: str = GROUP
    kind: Annotated[str, Meta(min_length=1, max_length=63)]


class AllowedRoutes(Model, frozen=True, kw_only=True):
    """Which routes may attach to a listener."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Meta(max_length=8)] = ()


class Listener(Model, frozen=True, kw_only=True):
    """A port, protocol and hostname that a Gateway serves."""

    name: SectionName
    hostname: Hostname | None = None
    port: Port
    protocol: Annotated[str, Meta(min_length=1, max_length=255)]
    tls: ListenerTLS | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewaySpec(Model, frozen=True, kw_only=True):
    """The listeners of a Gateway and the class that serves it."""

    gateway_class_name: Name
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]


class GatewayAddress(Model, frozen=True, kw_only=True):
    """Where a Gateway can be reached."""

    type: str = "IPAddress"
    value: str


class ListenerStatus(Model, frozen=True, kw_only=True):
    """What the controller says of one listener."""

    name: str
    supported_kinds: tuple[RouteGroupKind, ...] = ()
    attached_routes: int = 0
    conditions: tuple[Condition, ...] = ()


class GatewayStatus(Model, frozen=True, kw_only=True):
    """What the controller says of a Gateway."""

    addresses: tuple[GatewayAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()


class Gateway(Resource, frozen=True, kw_only=True):
    """Where requests come in."""

    spec: GatewaySpec
    status: GatewayStatus = GatewayStatus()


class ParentReference(Model, frozen=True, kw_only=True):
    """What a route attaches to: a Gateway, or one of its listeners."""

    group: str = GROUP
    kind: str = "Gateway"
    namespace: str | None = None
    name: Name
    section_name: SectionName | None = None
    port: Port | None = None


class BackendObjectReference(Model, frozen=True, kw_only=True):
    """A Service or an InferencePool, by default in the route's namespace."""

    group: str = ""
    kind: Annotated[str, Meta(min_length=1, max_length=63)] = "Service"
    name: Name
    namespace: str | None = None
    port: Port | None = None


class HTTPHeader(Model, frozen=True, kw_only=True):
    """A header to set or add."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HeaderModifier(Model, frozen=True, kw_only=True):
    """Headers to set (replace), add and remove, in this order."""

    set: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HTTPHeader, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16)] = ()


class Fraction(Model, frozen=True, kw_only=True):
    """A share as numerator / denominator."""

    numerator: Annotated[int, Meta(ge=0)]
    denominator: Annotated[int, Meta(ge=1)] = 100


class RequestMirrorFilter(Model, frozen=True, kw_only=True):
    """A copy of a share of the requests goes to `backend_ref`; its answer is dropped."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


class PathModifier(Model, frozen=True, kw_only=True):
    """How a path is rewritten."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None


class RequestRedirectFilter(Model, frozen=True, kw_only=True):
    """Answer with a redirect."""

    scheme: Literal["http", "https"] | None = None
    hostname: Hostname | None = None
    path: PathModifier | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class URLRewriteFilter(Model, frozen=True, kw_only=True):
    """Change host or path on the way to the backend."""

    hostname: Hostname | None = None
    path: PathModifier | None = None


class LocalObjectReference(Model, frozen=True, kw_only=True):
    """An object in the same namespace."""

    group: str
    kind: str
    name: Name


class HTTPRouteFilter(Model, frozen=True, kw_only=True):
    """One step of a rule or of a backend; `type` says which field is set."""

    type: Annotated[str, Meta(min_length=1)]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirrorFilter | None = None
    request_redirect: RequestRedirectFilter | None = None
    url_rewrite: URLRewriteFilter | None = msgspec.field(default=None, name="urlRewrite")
    extension_ref: LocalObjectReference | None = None


class HTTPBackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A backend with its weight (missing = 1; 0 = no request) and filters of its own."""

    weight: Weight | None = None
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()


class HTTPPathMatch(Model, frozen=True, kw_only=True):
    """A path: exact, by whole segments, or by regular expression."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class HTTPHeaderMatch(Model, frozen=True, kw_only=True):
    """A header's value; names are case-insensitive."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class HTTPQueryParamMatch(Model, frozen=True, kw_only=True):
    """A query parameter's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class HTTPRouteMatch(Model, frozen=True, kw_only=True):
    """All of these must hold."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[tuple[HTTPHeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], Meta(max_length=16)] = ()
    method: (
        Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
        | None
    ) = None


class HTTPRouteTimeouts(Model, frozen=True, kw_only=True):
    """`request` bounds the whole exchange, `backendRequest` one try; 0s switches off."""

    request: Duration | None = None
    backend_request: Duration | None = None


class HTTPRouteRetry(Model, frozen=True, kw_only=True):
    """When and how often a request is tried again."""

    codes: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Meta(ge=1)] | None = None
    backoff: Duration | None = None


class SessionPersistence(Model, frozen=True, kw_only=True):
    """Which header (or cookie) names the session."""

    session_name: Annotated[str, Meta(max_length=128)] | None = None
    type: Literal["Cookie", "Header"] = "Cookie"


class HTTPRouteRule(Model, frozen=True, kw_only=True):
    """Matches (one must hold), then filters, then a weighted choice of backends."""

    name: SectionName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Meta(max_length=64)] = ()
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Meta(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class HTTPRouteSpec(Model, frozen=True, kw_only=True):
    """Where the route attaches, which hosts it serves, and its rules."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(min_length=1, max_length=16)] = (
        HTTPRouteRule(),
    )


class RouteParentStatus(Model, frozen=True, kw_only=True):
    """What one parent's controller says of the route."""

    parent_ref: ParentReference
    controller_name: str
    conditions: tuple[Condition, ...] = ()


class HTTPRouteStatus(Model, frozen=True, kw_only=True):
    """What each parent says of the route."""

    parents: tuple[RouteParentStatus, ...] = ()


class HTTPRoute(Resource, frozen=True, kw_only=True):
    """Which requests go to which backends, by weight."""

    spec: HTTPRouteSpec = HTTPRouteSpec()
    status: HTTPRouteStatus = HTTPRouteStatus()


class ReferenceGrantFrom(Model, frozen=True, kw_only=True):
    """Who may refer."""

    group: str
    kind: str
    namespace: str


class ReferenceGrantTo(Model, frozen=True, kw_only=True):
    """What may be referred to; no name means all of the kind."""

    group: str
    kind: str
    name: str | None = None


class ReferenceGrantSpec(Model, frozen=True, kw_only=True):
    """References into this namespace that are allowed."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], Meta(min_length=1, max_length=16)] = (
        msgspec.field(name="from")
    )
    to: Annotated[tuple[ReferenceGrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Resource, frozen=True, kw_only=True):
    """Lets routes of other namespaces refer to objects of this one."""

    spec: ReferenceGrantSpec
