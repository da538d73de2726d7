"""Values that fields of many kinds hold, with the limits of the Gateway API (`apis/v1/*_types.go`).

What breaks one is told in words (`expected`) and not by its pattern.
"""

from typing import Annotated

from msgspec import Meta

from tidegate.api.meta import Condition

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

Hostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$",
        extra={"expected": 'a host name such as "example.com" or "*.example.com"'},
    ),
]
PreciseHostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{_LABEL}(\.{_LABEL})*$",
        extra={"expected": 'a host name such as "example.com"'},
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        extra={"expected": 'a duration such as "30s", "1m30s" or "500ms"'},
    ),
]
HeaderName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$",
        extra={"expected": "a name of letters, digits and the other token characters of RFC 9110"},
    ),
]
HeaderValue = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4096,
        # Upstream's pattern, written so that it can't backtrack.
        pattern=r"^[!-~]+([\t ][!-~]+)*$",
        extra={"expected": "visible ASCII text of 1 to 4096 characters, words one space apart"},
    ),
]
ProtocolName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=rf"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|^{_LABEL}(\.{_LABEL})*\/[A-Za-z0-9]+$",
        extra={"expected": "a protocol such as HTTP or HTTPS"},
    ),
]
SectionName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{_LABEL}(\.{_LABEL})*$",
        extra={"expected": "a lowercase name: letters a-z, digits, '-' and '.'"},
    ),
]
Group = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=rf"^$|^{_LABEL}(\.{_LABEL})*$",
        extra={"expected": 'an API group such as "gateway.networking.k8s.io", or "" for core'},
    ),
]
KindName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
        extra={"expected": 'the name of a kind such as "Service"'},
    ),
]
NamespaceName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=rf"^{_LABEL}$",
        extra={"expected": "the name of a namespace"},
    ),
]
ControllerName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{_LABEL}(\.{_LABEL})*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
        extra={"expected": 'a domain and a path such as "tidegate.dev/gateway"'},
    ),
]
Conditions = Annotated[tuple[Condition, ...], Meta(extra={"list_keys": ("type",)})]
