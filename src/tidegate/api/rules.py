"""What kinds must fulfil beyond their shape.

`route_rules` has the HTTPRoute's, `rollout_rules` the InferenceRollout's.

Each function takes one model's value and yields what is wrong, with paths relative to it.
Sources: the CEL validations of Gateway API and of the Inference Extension's CRDs.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tidegate.api.core import ConfigMap, Secret, Service
from tidegate.api.errors import Described, FieldError
from tidegate.api.gateway import (
    GatewaySpec,
    GatewaySpecAddress,
    LabelRequirement,
    Listener,
    RouteNamespaces,
)
from tidegate.api.inference import (
    EndpointPickerRef,
    InferenceModelSpec,
    InferencePoolSpec,
    LegacyPoolSpec,
    LegacyTargetModel,
    RewriteRule,
    TargetModel,
)
from tidegate.api.meta import Model
from tidegate.api.names import (
    KEY_WORDS,
    VALUE_WORDS,
    is_label_value,
    is_qualified_name,
    is_subdomain,
)
from tidegate.api.rollout_rules import ROLLOUT_RULES
from tidegate.api.route_rules import ROUTE_RULES
from tidegate.api.structure import MAPPING, Rule
from tidegate.api.tidegate import ModelServerSpec

Errors = Iterator[FieldError]


def check_gateway(spec: GatewaySpec) -> Errors:
    """Listeners can be told apart by port, protocol and hostname."""
    seen: set[tuple[int, str, str | None]] = set()
    for index, each in enumerate(spec.listeners):
        place = (each.port, each.protocol, each.hostname)
        if place in seen:
            host = each.hostname or "every host"
            found = Described(f"{each.port}, {each.protocol}, {host}")
            words = "a port, protocol and hostname that no other listener has"
            yield FieldError(f".listeners[{index}]", found, words, "FieldValueDuplicate")
        seen.add(place)


def check_address(address: GatewaySpecAddress) -> Errors:
    """An IP address where the type says so."""
    if address.type != "IPAddress" or not address.value:
        return
    try:
        ipaddress.ip_address(address.value)
    except ValueError:
        words = "an IPv4 or IPv6 address, as type is IPAddress"
        yield FieldError(".value", address.value, words)


_PLAIN: Final = ("HTTP", "TCP", "UDP")


def check_listener(listener: Listener) -> Errors:
    """TLS settings where the protocol has TLS, and only there."""
    if listener.protocol in _PLAIN and listener.tls is not None:
        words = f"none: {listener.protocol} has no TLS (use HTTPS)"
        yield FieldError(".tls", MAPPING, words, "FieldValueForbidden")
    if listener.protocol in ("HTTPS", "TLS") and listener.tls is None:
        words = f"certificateRefs, as the protocol is {listener.protocol}"
        yield FieldError(".tls", None, words, "FieldValueRequired")
    if listener.protocol in ("TCP", "UDP") and listener.hostname is not None:
        words = f"none: {listener.protocol} has no hosts"
        yield FieldError(".hostname", listener.hostname, words, "FieldValueForbidden")
    if listener.tls is not None and listener.protocol not in _PLAIN:
        yield from _tls(listener)


def _tls(listener: Listener) -> Errors:
    tls = listener.tls
    if tls is None:
        return
    if listener.protocol == "HTTPS" and tls.mode != "Terminate":
        yield FieldError(".tls.mode", tls.mode, '"Terminate", as the protocol is HTTPS')
    elif tls.mode == "Terminate" and not tls.certificate_refs and not tls.options:
        words = "a Secret with the certificate, as mode is Terminate"
        yield FieldError(".tls.certificateRefs", None, words, "FieldValueRequired")


def check_route_namespaces(namespaces: RouteNamespaces) -> Errors:
    """A selector is there if and only if it is asked for."""
    if namespaces.from_ == "Selector" and namespaces.selector is None:
        words = "labels of namespaces, as from is Selector"
        yield FieldError(".selector", None, words, "FieldValueRequired")


def check_requirement(requirement: LabelRequirement) -> Errors:
    """Values go with In and NotIn."""
    takes_values = requirement.operator in ("In", "NotIn")
    if takes_values and not requirement.values:
        words = f"at least one value, as operator is {requirement.operator}"
        yield FieldError(".values", None, words, "FieldValueRequired")
    if not takes_values and requirement.values:
        words = f"none, as operator is {requirement.operator}"
        yield FieldError(".values", list(requirement.values), words, "FieldValueForbidden")


def check_pool(spec: InferencePoolSpec) -> Errors:
    """Each port once; labels that an object can have."""
    seen: set[int] = set()
    for index, port in enumerate(spec.target_ports):
        if port.number in seen:
            words = "a port that isn't in the list yet"
            path = f".targetPorts[{index}].number"
            yield FieldError(path, port.number, words, "FieldValueDuplicate")
        seen.add(port.number)
    yield from _labels(spec.selector.match_labels, ".selector.matchLabels")


def check_legacy_pool(spec: LegacyPoolSpec) -> Errors:
    """Labels that an object can have."""
    return _labels(spec.selector, ".selector")


def _labels(labels: Mapping[str, str], path: str) -> Errors:
    for key, value in labels.items():
        if not is_qualified_name(key):
            yield FieldError(path, key, KEY_WORDS)
        if not is_label_value(value):
            yield FieldError(f"{path}[{key}]", value, VALUE_WORDS)


def check_picker(picker: EndpointPickerRef) -> Errors:
    """A Service has several ports: one must be named."""
    if picker.kind == "Service" and picker.port is None:
        words = "the Service's port as `port: {number: 9002}`, as kind is Service"
        yield FieldError(".port", None, words, "FieldValueRequired")


def check_rewrite(rule: RewriteRule) -> Errors:
    """All targets have a weight, or none has."""
    return _all_or_none(rule.targets or (), ".targets")


def check_inference_model(spec: InferenceModelSpec) -> Errors:
    """All targets have a weight, or none has."""
    return _all_or_none(spec.target_models, ".targetModels")


def _all_or_none(targets: Sequence[TargetModel | LegacyTargetModel], path: str) -> Errors:
    if all(each.weight is None for each in targets):
        return
    for index, each in enumerate(targets):
        if each.weight is None:
            words = "a weight, as other targets have one (give it to all or to none)"
            yield FieldError(f"{path}[{index}].weight", None, words, "FieldValueRequired")


HIGHEST_PORT: Final = 65535


def check_model_server(spec: ModelServerSpec) -> Errors:
    """One source of endpoints, with all that it needs."""
    sources = [
        name
        for name, value in (
            ("addresses", spec.addresses or None),
            ("command", spec.command or None),
            ("simulator", spec.simulator),
        )
        if value is not None
    ]
    if len(sources) != 1:
        found = Described(" and ".join(sources)) if sources else None
        yield FieldError("", found, "exactly one of addresses, command and simulator")
    for index, address in enumerate(spec.addresses):
        if not 1 <= int(address.rpartition(":")[2]) <= HIGHEST_PORT:
            words = f"a port from 1 to {HIGHEST_PORT}"
            yield FieldError(f".addresses[{index}]", address, words)
    yield from _command(spec.command)


def _command(command: Sequence[str]) -> Errors:
    if not command:
        return
    if not command[0]:
        yield FieldError(".command[0]", "", "the program to run")
    for index, argument in enumerate(command):
        if "\0" in argument:
            yield FieldError(f".command[{index}]", argument, "an argument without NUL characters")
    if not any("{port}" in argument for argument in command):
        words = 'an argument with {port}, such as "--port={port}": each replica has its own port'
        yield FieldError(".command", " ".join(command), words)


_DATA_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")


def _keys(data: Mapping[str, str], path: str) -> Errors:
    for key in data:
        if not _DATA_KEY.match(key) or key in (".", ".."):
            yield FieldError(path, key, "a key of letters, digits, '-', '_' and '.'")


def _base64(data: Mapping[str, str], path: str, plain: str) -> Errors:
    for key, value in data.items():
        try:
            base64.b64decode(value.encode(), validate=True)
        except binascii.Error:
            # The value may be a secret: it isn't shown.
            words = f"base64 (or write plain text in {plain})"
            yield FieldError(f"{path}[{key}]", Described("other text"), words)


TLS_SECRET: Final = "kubernetes.io/tls"  # noqa: S105  # a type, not a secret


def check_secret(secret: Secret) -> Errors:
    """Values are base64; a TLS secret has a certificate and a key."""
    yield from _keys(secret.data, ".data")
    yield from _base64(secret.data, ".data", "stringData")
    if secret.type == TLS_SECRET:
        for key in ("tls.crt", "tls.key"):
            if key not in secret.data:
                words = f"a value, as type is {TLS_SECRET}"
                yield FieldError(f".data[{key}]", None, words, "FieldValueRequired")


def check_config_map(config: ConfigMap) -> Errors:
    """Binary values are base64; a key is in one of the two."""
    yield from _keys(config.data, ".data")
    yield from _keys(config.binary_data, ".binaryData")
    yield from _base64(config.binary_data, ".binaryData", "data")
    for key in sorted(config.data.keys() & config.binary_data.keys()):
        yield FieldError(".binaryData", key, "a key that isn't in data", "FieldValueDuplicate")


_SERVICE_TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")


def check_service(service: Service) -> Errors:
    """An external name where the type is ExternalName; ports that can be told apart."""
    spec = service.spec
    if spec.type not in _SERVICE_TYPES:
        words = "one of " + ", ".join(_SERVICE_TYPES)
        yield FieldError(".spec.type", spec.type, words, "FieldValueNotSupported")
    if spec.type == "ExternalName":
        if not spec.external_name:
            words = "the host that answers, as type is ExternalName"
            yield FieldError(".spec.externalName", None, words, "FieldValueRequired")
        elif not is_subdomain(spec.external_name.removesuffix(".")):
            words = 'a host name such as "llm.example.com"'
            yield FieldError(".spec.externalName", spec.external_name, words)
    elif not spec.ports and spec.cluster_ip != "None":
        yield FieldError(".spec.ports", None, "at least one port", "FieldValueRequired")
    yield from _service_ports(service)


def _service_ports(service: Service) -> Errors:
    ports = service.spec.ports
    seen: set[tuple[Any, ...]] = set()
    names: set[str | None] = set()
    for index, port in enumerate(ports):
        path = f".spec.ports[{index}]"
        if (port.port, port.protocol) in seen:
            words = "a port and protocol that isn't in the list yet"
            yield FieldError(path, port.port, words, "FieldValueDuplicate")
        if len(ports) > 1 and not port.name:
            words = "a name, as there are several ports"
            yield FieldError(f"{path}.name", None, words, "FieldValueRequired")
        elif port.name in names:
            words = "a name that no other port has"
            yield FieldError(f"{path}.name", port.name, words, "FieldValueDuplicate")
        seen.add((port.port, port.protocol))
        names.add(port.name)


RULES: Final[Mapping[type[Model], Rule]] = {
    **ROUTE_RULES,
    **ROLLOUT_RULES,
    GatewaySpec: check_gateway,
    GatewaySpecAddress: check_address,
    Listener: check_listener,
    RouteNamespaces: check_route_namespaces,
    LabelRequirement: check_requirement,
    InferencePoolSpec: check_pool,
    LegacyPoolSpec: check_legacy_pool,
    EndpointPickerRef: check_picker,
    RewriteRule: check_rewrite,
    InferenceModelSpec: check_inference_model,
    ModelServerSpec: check_model_server,
    Secret: check_secret,
    ConfigMap: check_config_map,
    Service: check_service,
}
"""The rule of each model that has one."""
