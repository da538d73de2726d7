"""Which listeners of our Gateways serve, and which routes attach to which of them.

Every listener of every Gateway gets a `State`, broken or not; only those without a problem
come into the table. Within one Gateway no listener wins a conflict: all that claim the same
port and hostname are out, as Gateway API asks. Between Gateways the oldest holds a port's
protocol, so that a new Gateway never takes down what is served; listeners that agree merge.
"""

import base64
import binascii
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from tidegate.api import core, gateway
from tidegate.api.meta import Key
from tidegate.routing.references import World
from tidegate.routing.table import Certificate, Failure

ROUTE_KIND: Final = (gateway.GROUP, "HTTPRoute")
"""The only kind of route that we serve."""
SERVED_PROTOCOLS: Final = ("HTTP", "HTTPS")


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason from Gateway API, and what to do about it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class State:
    """One listener, and what is wrong with it."""

    owner: gateway.Gateway
    listener: gateway.Listener
    unsupported: Problem | None = None
    conflict: Problem | None = None
    unresolved: Problem | None = None
    certificates: tuple[Certificate, ...] = ()
    kinds: tuple[tuple[str, str], ...] = (ROUTE_KIND,)
    """Group and kind of the routes that may attach."""

    @property
    def protocol(self) -> Literal["HTTP", "HTTPS"]:
        """What the port speaks, where nothing is unsupported."""
        return "HTTPS" if self.listener.protocol == "HTTPS" else "HTTP"

    @property
    def serves(self) -> bool:
        """Whether the listener comes into the table."""
        whole = not (self.unsupported or self.conflict)
        return whole and (self.protocol == "HTTP" or bool(self.certificates))

    @property
    def name(self) -> str:
        """`namespace/name/listener`."""
        return f"{self.owner.key}/{self.listener.name}"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A route at one of its parents: the listeners that it attached to, or why to none."""

    parent: gateway.ParentReference
    owner: gateway.Gateway
    states: tuple[State, ...] = ()
    problem: Problem | None = None


def assess(world: World) -> dict[Key, tuple[State, ...]]:
    """Return the states of all listeners by Gateway, the oldest Gateway first."""
    protocols: dict[int, str] = {}
    states: dict[Key, tuple[State, ...]] = {}
    for owner in world.gateways.values():
        conflicts = _inner_conflicts(owner)
        own = [_state(world, owner, one, conflicts, protocols) for one in owner.spec.listeners]
        for state in own:
            if state.serves:
                protocols.setdefault(state.listener.port, state.protocol)
        states[owner.key] = tuple(own)
    return states


def attach(
    world: World, states: Mapping[Key, Sequence[State]], route: gateway.HTTPRoute
) -> tuple[Attachment, ...]:
    """Return the attachments of `route`, one for each of its parents that is ours."""
    found = []
    for ref in route.spec.parent_refs:
        owner = world.parent(ref, route.metadata.namespace)
        if owner is not None:
            found.append(_attachment(world, route, ref, owner, states[owner.key]))
    return tuple(found)


def intersects(listener: str, route: str) -> bool:
    """Return whether a host can match both hostname patterns ('' = any)."""
    if not listener or not route or listener == route:
        return True
    if listener[0] == "*" and route.endswith(listener[1:]):
        return True
    return route[0] == "*" and listener.endswith(route[1:])


def _attachment(
    world: World,
    route: gateway.HTTPRoute,
    ref: gateway.ParentReference,
    owner: gateway.Gateway,
    states: Sequence[State],
) -> Attachment:
    named = [
        state
        for state in states
        if ref.section_name in (None, state.listener.name)
        and ref.port in (None, state.listener.port)
    ]
    if not named:
        message = f"Gateway {owner.key} has no such listener: see sectionName and port"
        return Attachment(ref, owner, problem=Problem("NoMatchingParent", message))
    allowed = [state for state in named if _allows(world, state, route)]
    if not allowed:
        message = (
            f"no listener of Gateway {owner.key} allows this route: see protocol and allowedRoutes"
        )
        return Attachment(ref, owner, problem=Problem("NotAllowedByListeners", message))
    hosts = route.spec.hostnames or ("",)
    fitting = [
        state
        for state in allowed
        if any(intersects(state.listener.hostname or "", host) for host in hosts)
    ]
    if not fitting:
        message = f"no listener of Gateway {owner.key} has a hostname in common with the route"
        return Attachment(ref, owner, problem=Problem("NoMatchingListenerHostname", message))
    return Attachment(ref, owner, tuple(fitting))


def _allows(world: World, state: State, route: gateway.HTTPRoute) -> bool:
    namespaces = state.listener.allowed_routes.namespaces
    if ROUTE_KIND not in state.kinds:
        return False
    match namespaces.from_:
        case "All":
            return True
        case "Same":
            return route.metadata.namespace == state.owner.metadata.namespace
        case "Selector" if namespaces.selector is not None:
            return namespaces.selector.matches(world.namespace_labels(route.metadata.namespace))
        case _:
            return False


def _state(
    world: World,
    owner: gateway.Gateway,
    listener: gateway.Listener,
    conflicts: Mapping[str, Problem],
    protocols: Mapping[int, str],
) -> State:
    unsupported = _unsupported(listener)
    conflict = conflicts.get(listener.name)
    held = protocols.get(listener.port, listener.protocol)
    if conflict is None and unsupported is None and held != listener.protocol:
        message = f"port {listener.port} is {held} for an older Gateway"
        conflict = Problem("ProtocolConflict", message)
    kinds, unresolved = _kinds(listener)
    certificates: tuple[Certificate, ...] = ()
    if listener.protocol == "HTTPS" and unsupported is None:
        certificates, problem = _certificates(world, owner, listener)
        unresolved = problem or unresolved
    return State(owner, listener, unsupported, conflict, unresolved, certificates, kinds)


def _unsupported(listener: gateway.Listener) -> Problem | None:
    if listener.protocol not in SERVED_PROTOCOLS:
        message = f"protocol {listener.protocol} is not served: use HTTP or HTTPS"
        return Problem("UnsupportedProtocol", message)
    passes = listener.tls is not None and listener.tls.mode != "Terminate"
    if listener.protocol == "HTTPS" and passes:
        return Problem("UnsupportedValue", "tls.mode must be Terminate for HTTPS")
    return None


def _inner_conflicts(owner: gateway.Gateway) -> dict[str, Problem]:
    """Return the listeners of one Gateway that can't be told apart, by name."""
    protocols: defaultdict[int, set[str]] = defaultdict(set)
    for one in owner.spec.listeners:
        protocols[one.port].add(one.protocol)
    hosts = Counter((one.port, one.hostname or "") for one in owner.spec.listeners)
    names = Counter(one.name for one in owner.spec.listeners)
    conflicts = {}
    for one in owner.spec.listeners:
        if len(protocols[one.port]) > 1:
            message = f"listeners of port {one.port} have different protocols"
            conflicts[one.name] = Problem("ProtocolConflict", message)
        elif hosts[one.port, one.hostname or ""] > 1 or names[one.name] > 1:
            message = f"another listener has port {one.port} and the same hostname, or this name"
            conflicts[one.name] = Problem("HostnameConflict", message)
    return conflicts


def _kinds(listener: gateway.Listener) -> tuple[tuple[tuple[str, str], ...], Problem | None]:
    if listener.protocol not in SERVED_PROTOCOLS:
        return (), None
    wanted = [(one.group, one.kind) for one in listener.allowed_routes.kinds]
    if not wanted:
        return (ROUTE_KIND,), None
    served = (ROUTE_KIND,) if ROUTE_KIND in wanted else ()
    wrong = sorted({kind for group, kind in wanted if (group, kind) != ROUTE_KIND})
    message = f"allowedRoutes.kinds: not served here: {', '.join(wrong)}; use HTTPRoute"
    return served, Problem("InvalidRouteKinds", message) if wrong else None


def _certificates(
    world: World, owner: gateway.Gateway, listener: gateway.Listener
) -> tuple[tuple[Certificate, ...], Problem | None]:
    """Return the certificates that can be used, and what is wrong with the others."""
    refs = listener.tls.certificate_refs if listener.tls is not None else ()
    if not refs:
        return (), Problem("InvalidCertificateRef", "tls.certificateRefs is empty")
    certificates, problem = [], None
    for ref in refs:
        secret = world.secret(ref, owner.metadata.namespace)
        if isinstance(secret, Failure):
            problem = problem or Problem(secret.reason, secret.message)
        elif (certificate := _certificate(secret)) is not None:
            certificates.append(certificate)
        else:
            message = f"Secret {secret.key} has no tls.crt and tls.key (PEM) that belong together"
            problem = problem or Problem("InvalidCertificateRef", message)
    return tuple(certificates), problem


def _certificate(secret: core.Secret) -> Certificate | None:
    chain, key = _value(secret, "tls.crt"), _value(secret, "tls.key")
    return Certificate(chain, key) if chain and key and _belong_together(chain, key) else None


def _value(secret: core.Secret, name: str) -> bytes | None:
    if name in secret.string_data:
        return secret.string_data[name].encode()
    try:
        return base64.b64decode(secret.data.get(name, ""), validate=True)
    except (binascii.Error, ValueError):
        return None


@lru_cache(maxsize=256)
def _belong_together(chain: bytes, key: bytes) -> bool:
    """Return whether `key` is the private key of the first certificate; both PEM.

    A pair that doesn't fit would fail when the port is bound, when it is too late to say so.
    """
    try:
        public = x509.load_pem_x509_certificates(chain)[0].public_key()
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm):
        return False
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public.public_bytes(*form) == private.public_key().public_bytes(*form)
