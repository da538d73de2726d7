"""Gateway API: GatewayClass, Gateway, HTTPRoute, ReferenceGrant (`gateway.networking.k8s.io/v1`).

Fields and limits follow the Gateway API v1 types (`apis/v1/*_types.go`), including the
experimental channel. What Tidegate doesn't read is an open mapping, so that it is kept.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tidegate.api.meta import Model, Name, Resource
from tidegate.api.scalars import (
    Conditions,
    ControllerName,
    Duration,
    Group,
    HeaderName,
    HeaderValue,
    Hostname,
    KindName,
    NamespaceName,
    Port,
    PreciseHostname,
    ProtocolName,
    SectionName,
    Weight,
)

GROUP = "gateway.networking.k8s.io"


class ParametersReference(Model, frozen=True, kw_only=True):
    """An object with settings of an implementation. Tidegate has none and reads none."""

    group: Group
    kind: KindName
    name: Name
    namespace: NamespaceName | None = None


class GatewayClassSpec(Model, frozen=True, kw_only=True):
    """Which controller serves the Gateways of this class."""

    controller_name: ControllerName
    """The controller, as a domain and a path. Tidegate's is `tidegate.dev/gateway`. Immutable."""
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, Meta(max_length=64)] | None = None
    """For people."""


class GatewayClassStatus(Model, frozen=True, kw_only=True):
    """What the controller says of the class."""

    conditions: Conditions = ()


class GatewayClass(Resource, frozen=True, kw_only=True):
    """A class of Gateways; ours has controllerName `tidegate.dev/gateway`."""

    spec: GatewayClassSpec
    status: GatewayClassStatus = GatewayClassStatus()


class SecretObjectReference(Model, frozen=True, kw_only=True):
    """A Secret, by default in the same namespace."""

    group: Group = ""
    kind: KindName = "Secret"
    name: Name
    namespace: NamespaceName | None = None
    """Another namespace needs a ReferenceGrant there."""


class ListenerTLS(Model, frozen=True, kw_only=True):
    """How a listener ends TLS."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Meta(max_length=64)] = ()
    """Secrets of type kubernetes.io/tls."""
    frontend_validation: dict[str, Any] | None = None
    options: Annotated[dict[str, str], Meta(max_length=16)] = {}


class LabelRequirement(Model, frozen=True, kw_only=True):
    """What must hold of one label."""

    key: Annotated[str, Meta(min_length=1)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether it holds of `labels`. A missing label is NotIn anything."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class NamespaceSelector(Model, frozen=True, kw_only=True):
    """Labels of namespaces whose routes may attach."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether a namespace with `labels` is selected: all labels and expressions hold."""
        equal = all(labels.get(name) == value for name, value in self.match_labels.items())
        return equal and all(each.matches(labels) for each in self.match_expressions)


class RouteNamespaces(Model, frozen=True, kw_only=True):
    """From which namespaces routes may attach."""

    from_: Literal["All", "Selector", "Same", "None"] = msgspec.field(default="Same", name="from")
    selector: NamespaceSelector | None = None
    """Which namespaces, where `from` is Selector."""


class RouteGroupKind(Model, frozen=True, kw_only=True):
    """A kind of route."""

    group: Group = GROUP
    kind: KindName


class AllowedRoutes(Model, frozen=True, kw_only=True):
    """Which routes may attach to a listener."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: Annotated[tuple[RouteGroupKind, ...], Meta(max_length=8)] = ()
    """Kinds of routes; none means those that fit the protocol."""


class Listener(Model, frozen=True, kw_only=True):
    """A port, protocol and hostname that a Gateway serves."""

    name: SectionName
    """Unique in the Gateway; a route's `sectionName` names it."""
    hostname: Hostname | None = None
    """The host to serve; `*.example.com` serves all below it; none serves all."""
    port: Port
    protocol: ProtocolName
    """HTTP or HTTPS are served."""
    tls: ListenerTLS | None = None
    """Needed for HTTPS, not allowed for HTTP."""
    allowed_routes: AllowedRoutes = AllowedRoutes()


class GatewaySpecAddress(Model, frozen=True, kw_only=True):
    """An address that a Gateway asks for."""

    type: Annotated[str, Meta(min_length=1, max_length=253)] = "IPAddress"
    value: Annotated[str, Meta(max_length=253)] | None = None


class GatewaySpec(Model, frozen=True, kw_only=True):
    """The listeners of a Gateway and the class that serves it."""

    gateway_class_name: Name
    """The GatewayClass; other controllers' classes are left to them."""
    listeners: Annotated[
        tuple[Listener, ...],
        Meta(min_length=1, max_length=64, extra={"list_keys": ("name",)}),
    ]
    addresses: Annotated[tuple[GatewaySpecAddress, ...], Meta(max_length=16)] = ()
    infrastructure: dict[str, Any] | None = None
    allowed_listeners: dict[str, Any] | None = None
    default_scope: Literal["All", "None"] | None = None
    backend_tls: dict[str, Any] | None = msgspec.field(default=None, name="backendTLS")
    tls: dict[str, Any] | None = None


class GatewayAddress(Model, frozen=True, kw_only=True):
    """Where a Gateway can be reached."""

    type: str = "IPAddress"
    value: str


class ListenerStatus(Model, frozen=True, kw_only=True):
    """What the controller says of one listener."""

    name: str
    supported_kinds: tuple[RouteGroupKind, ...] = ()
    attached_routes: int = 0
    conditions: Conditions = ()


class GatewayStatus(Model, frozen=True, kw_only=True):
    """What the controller says of a Gateway."""

    addresses: tuple[GatewayAddress, ...] = ()
    conditions: Conditions = ()
    listeners: Annotated[tuple[ListenerStatus, ...], Meta(extra={"list_keys": ("name",)})] = ()


class Gateway(Resource, frozen=True, kw_only=True):
    """Where requests come in."""

    spec: GatewaySpec
    status: GatewayStatus = GatewayStatus()


class ParentReference(Model, frozen=True, kw_only=True):
    """What a route attaches to: a Gateway, or one of its listeners."""

    group: Group = GROUP
    kind: KindName = "Gateway"
    namespace: NamespaceName | None = None
    """The Gateway's namespace, by default the route's."""
    name: Name
    section_name: SectionName | None = None
    """One listener; none means all."""
    port: Port | None = None
    """The listeners with this port; none means all."""


class BackendObjectReference(Model, frozen=True, kw_only=True):
    """A Service or an InferencePool, by default in the route's namespace."""

    group: Group = ""
    kind: KindName = "Service"
    name: Name
    namespace: NamespaceName | None = None
    """Another namespace needs a ReferenceGrant there."""
    port: Port | None = None
    """The Service's port. An InferencePool has its own ports, and this is not read."""


class HTTPHeader(Model, frozen=True, kw_only=True):
    """A header to set or add."""

    name: HeaderName
    value: HeaderValue


_HEADERS = Meta(max_length=16, extra={"list_keys": ("name",)})


class HeaderModifier(Model, frozen=True, kw_only=True):
    """Headers to set (replace), add and remove, in this order."""

    set: Annotated[tuple[HTTPHeader, ...], _HEADERS] = ()
    add: Annotated[tuple[HTTPHeader, ...], _HEADERS] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16, extra={"list_keys": ()})] = ()


class Fraction(Model, frozen=True, kw_only=True):
    """A share as numerator / denominator."""

    numerator: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    denominator: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 100


class RequestMirrorFilter(Model, frozen=True, kw_only=True):
    """A copy of a share of the requests goes to `backend_ref`; its answer is dropped."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    """How many of 100 requests are copied; without it and `fraction`, all are."""
    fraction: Fraction | None = None


class PathModifier(Model, frozen=True, kw_only=True):
    """How a path is rewritten."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None
    """Stands in for the prefix that the rule's one PathPrefix match has."""


class RequestRedirectFilter(Model, frozen=True, kw_only=True):
    """Answer with a redirect."""

    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class URLRewriteFilter(Model, frozen=True, kw_only=True):
    """Change host or path on the way to the backend."""

    hostname: PreciseHostname | None = None
    path: PathModifier | None = None


class LocalObjectReference(Model, frozen=True, kw_only=True):
    """An object in the same namespace."""

    group: Group
    kind: KindName
    name: Name


FILTER_TYPES = (
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
    "ExtensionRef",
    "ExternalAuth",
)


class HTTPRouteFilter(Model, frozen=True, kw_only=True):
    """One step of a rule or of a backend; `type` says which field is set."""

    type: Annotated[str, Meta(min_length=1, extra={"enum": FILTER_TYPES})]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirrorFilter | None = None
    request_redirect: RequestRedirectFilter | None = None
    url_rewrite: URLRewriteFilter | None = msgspec.field(default=None, name="urlRewrite")
    cors: dict[str, Any] | None = None
    """Kept, but not served: a route with it is not accepted."""
    extension_ref: LocalObjectReference | None = None
    external_auth: dict[str, Any] | None = None
    """Kept, but not served: a route with it is not accepted."""


class HTTPBackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A backend with its weight (missing = 1; 0 = no request) and filters of its own."""

    weight: Annotated[Weight | None, Meta(extra={"default": 1})] = None
    """The backend's share is its weight divided by the sum of the rule's weights."""
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()
    """Steps for the requests that go to this backend only."""


class HTTPPathMatch(Model, frozen=True, kw_only=True):
    """A path: exact, by whole segments, or by regular expression."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class HTTPHeaderMatch(Model, frozen=True, kw_only=True):
    """A header's value; names are case-insensitive."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: HeaderValue


class HTTPQueryParamMatch(Model, frozen=True, kw_only=True):
    """A query parameter's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class HTTPRouteMatch(Model, frozen=True, kw_only=True):
    """All of these must hold."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[tuple[HTTPHeaderMatch, ...], _HEADERS] = ()
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], _HEADERS] = ()
    method: (
        Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
        | None
    ) = None


class HTTPRouteTimeouts(Model, frozen=True, kw_only=True):
    """`request` bounds the whole exchange, `backendRequest` one try; 0s switches off."""

    request: Duration | None = None
    backend_request: Duration | None = None
    """Covers the whole answer of the backend, so it also ends long streams."""


class HTTPRouteRetry(Model, frozen=True, kw_only=True):
    """When and how often a request is tried again."""

    codes: Annotated[
        tuple[Annotated[int, Meta(ge=400, le=599)], ...], Meta(extra={"list_keys": ()})
    ] = ()
    """Statuses of the backend after which another try is made."""
    attempts: Annotated[int, Meta(ge=1)] | None = None
    backoff: Duration | None = None
    """The least time between two tries."""


class SessionPersistence(Model, frozen=True, kw_only=True):
    """Which header (or cookie) names the session.

    `header` and `cookie` are the newer spelling of `sessionName` and `cookieConfig`.
    """

    session_name: Annotated[str, Meta(max_length=128)] | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    absolute_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    cookie_config: dict[str, Any] | None = None
    cookie: dict[str, Any] | None = None
    header: dict[str, Any] | None = None


_ANY_PATH = ({"path": {"type": "PathPrefix", "value": "/"}},)


class HTTPRouteRule(Model, frozen=True, kw_only=True):
    """Matches (one must hold), then filters, then a weighted choice of backends."""

    name: SectionName | None = None
    matches: Annotated[
        tuple[HTTPRouteMatch, ...], Meta(max_length=64, extra={"default": _ANY_PATH})
    ] = ()
    """One must hold; none means every request."""
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Meta(max_length=16)] = ()
    """Who answers, by weight."""
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class HTTPRouteSpec(Model, frozen=True, kw_only=True):
    """Where the route attaches, which hosts it serves, and its rules."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    """The Gateways that the route attaches to."""
    use_default_gateways: Literal["All", "None"] | None = None
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    """The hosts that the route serves; none means all of its listeners'."""
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(min_length=1, max_length=16)] = (
        HTTPRouteRule(),
    )


class RouteParentStatus(Model, frozen=True, kw_only=True):
    """What one parent's controller says of the route."""

    parent_ref: ParentReference
    controller_name: str
    conditions: Conditions = ()


class HTTPRouteStatus(Model, frozen=True, kw_only=True):
    """What each parent says of the route."""

    parents: tuple[RouteParentStatus, ...] = ()


class HTTPRoute(Resource, frozen=True, kw_only=True):
    """Which requests go to which backends, by weight."""

    spec: Annotated[HTTPRouteSpec, Meta(extra={"required": True})] = HTTPRouteSpec()
    status: HTTPRouteStatus = HTTPRouteStatus()


class ReferenceGrantFrom(Model, frozen=True, kw_only=True):
    """Who may refer."""

    group: Group
    kind: KindName
    namespace: NamespaceName


class ReferenceGrantTo(Model, frozen=True, kw_only=True):
    """What may be referred to; no name means all of the kind."""

    group: Group
    kind: KindName
    name: Name | None = None


class ReferenceGrantSpec(Model, frozen=True, kw_only=True):
    """References into this namespace that are allowed."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], Meta(min_length=1, max_length=16)] = (
        msgspec.field(name="from")
    )
    to: Annotated[tuple[ReferenceGrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Resource, frozen=True, kw_only=True):
    """Lets routes of other namespaces refer to objects of this one."""

    spec: ReferenceGrantSpec
