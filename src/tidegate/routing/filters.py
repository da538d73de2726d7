"""What rules and backends do to requests and answers: HTTPRoute filters as data, and applied.

`compile_filters` reads the manifest's lists once; the other functions apply the result and
are all that the data path calls. A filter that is not supported is never skipped: it makes
the rule, or the backend, fail (Gateway API, `HTTPRouteFilter`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from tidegate.api import gateway
from tidegate.routing.match import Request
from tidegate.routing.table import (
    NO_FILTERS,
    Backend,
    Failure,
    Filters,
    HeaderEdits,
    Mirror,
    PathEdit,
    Redirect,
    Rewrite,
)

Headers = list[tuple[bytes, bytes]]
Resolve = Callable[[gateway.BackendObjectReference], Backend | Failure]

FRAMING: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers of the connection and of a message's end: no filter may touch them. Host may be set."""

PATH_CHARACTERS: Final = "/%:@!$&'()*+,;=-._~"
"""Kept as they are in a path (RFC 3986, section 3.3); others are percent-encoded."""

WELL_KNOWN_PORTS: Final = {"http": 80, "https": 443}


@dataclass(slots=True)
class Compiled:
    """Filters as data, and what was wrong with the list."""

    filters: Filters = NO_FILTERS
    unsupported: list[str] = field(default_factory=list)
    """What is not supported, each as a sentence."""
    unresolved: list[Failure] = field(default_factory=list)
    """Mirrors without a backend: they are left out, the request itself is served."""


def compile_filters(
    filters: Iterable[gateway.HTTPRouteFilter],
    resolve: Resolve,
    *,
    by_prefix: bool,
) -> Compiled:
    """Return a filter list of a rule or of a backend as data.

    Args:
        filters: In the manifest's order.
        resolve: Finds the backends of mirrors.
        by_prefix: Whether all matches of the rule are path prefixes, so that one can be replaced.

    """
    done = Compiled()
    request, response = HeaderEdits(), HeaderEdits()
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    mirrors: list[Mirror] = []
    for one in filters:
        if one.type == "RequestHeaderModifier" and one.request_header_modifier is not None:
            request = _merge(request, one.request_header_modifier, done)
        elif one.type == "ResponseHeaderModifier" and one.response_header_modifier is not None:
            response = _merge(response, one.response_header_modifier, done)
        elif one.type == "URLRewrite" and one.url_rewrite is not None:
            path = _path_edit(one.url_rewrite.path, by_prefix, done)
            rewrite = Rewrite(one.url_rewrite.hostname, path)
        elif one.type == "RequestRedirect" and one.request_redirect is not None:
            redirect = _redirect(one.request_redirect, by_prefix, done)
        elif one.type == "RequestMirror" and one.request_mirror is not None:
            mirrors += _mirrors(one.request_mirror, resolve, done)
        else:
            done.unsupported.append(f"filter {one.type} is not supported here")
    done.filters = Filters(request, response, rewrite, redirect, tuple(mirrors))
    return done


def edit_headers(headers: Headers, edits: HeaderEdits) -> Headers:
    """Return the headers after `edits`; lower-case names. Without edits, `headers` itself.

    What is set replaces all lines of its name, what is added becomes a line of its own.
    """
    if not edits:
        return headers
    replaced = {name for name, _ in edits.set}
    kept = [line for line in headers if line[0] not in replaced]
    kept += [*edits.set, *edits.add]
    return [line for line in kept if line[0] not in edits.remove] if edits.remove else kept


def rewrite_path(target: str, edit: PathEdit, prefix: str) -> str:
    """Return a path with query after `edit`; the query stays.

    Args:
        target: Path and query as on the wire.
        edit: What replaces the path or the matched prefix.
        prefix: The path prefix that the rule matched.

    """
    path, mark, query = target.partition("?")
    return _edited(path, edit, prefix) + mark + query


def location(redirect: Redirect, request: Request, scheme: str, port: int, prefix: str) -> str:
    """Return the Location of a redirect (Gateway API, `HTTPRequestRedirectFilter`).

    A redirect that names a scheme but no port means the scheme's own port; one that names
    neither keeps the listener's. The well-known port of the scheme is not written.

    Args:
        redirect: What changes.
        request: The request as it came.
        scheme: "http" or "https", as the listener speaks.
        port: The listener's.
        prefix: The path prefix that the rule matched.

    """
    new_scheme = redirect.scheme or scheme
    usual = WELL_KNOWN_PORTS[new_scheme]
    new_port = redirect.port or (usual if redirect.scheme else port)
    authority = redirect.hostname or request.host
    if new_port != usual:
        authority += f":{new_port}"
    path = request.path if redirect.path is None else _edited(request.path, redirect.path, prefix)
    query = f"?{request.query}" if request.query else ""
    return f"{new_scheme}://{authority}{path}{query}"


def mirror_drawn(mirror: Mirror, point: int) -> bool:
    """Return whether the request at `point` (in [0, 2**64)) is copied.

    The point must be drawn for this mirror alone: with the split's own point, a mirror would
    see the sessions of one arm only.
    """
    return point < mirror.share * 2**64


def _edited(path: str, edit: PathEdit, prefix: str) -> str:
    """Return the edited path; slashes meet as in the table of Gateway API's `HTTPPathModifier`."""
    if edit.kind == "full":
        return edit.value
    return edit.value.rstrip("/") + path[len(prefix.rstrip("/")) :] or "/"


def _merge(edits: HeaderEdits, more: gateway.HeaderModifier, done: Compiled) -> HeaderEdits:
    set_ = [(one.name.lower().encode(), one.value.encode()) for one in more.set]
    add = [(one.name.lower().encode(), one.value.encode()) for one in more.add]
    remove = [name.lower().encode() for name in more.remove]
    for name in (*(name for name, _ in set_ + add), *remove):
        if name in FRAMING:
            done.unsupported.append(f"header {name.decode()} can't be edited by a filter")
    if any(_breaks_out(value) for _, value in set_ + add):
        done.unsupported.append("header values must not have line breaks or NUL")
    return HeaderEdits((*edits.set, *set_), (*edits.add, *add), edits.remove.union(remove))


def _breaks_out(value: bytes) -> bool:
    return any(byte in value for byte in (b"\r", b"\n", b"\0"))


def _path_edit(
    edit: gateway.PathModifier | None, by_prefix: bool, done: Compiled
) -> PathEdit | None:
    if edit is None:
        return None
    if edit.type == "ReplacePrefixMatch":
        if not by_prefix:
            done.unsupported.append("ReplacePrefixMatch needs a rule that matches by PathPrefix")
        return PathEdit("prefix", _path(edit.replace_prefix_match))
    return PathEdit("full", _path(edit.replace_full_path) or "/")


def _path(value: str | None) -> str:
    path = quote(value or "", safe=PATH_CHARACTERS, errors="replace")
    return path if path[:1] in ("", "/") else f"/{path}"


def _redirect(redirect: gateway.RequestRedirectFilter, by_prefix: bool, done: Compiled) -> Redirect:
    path = _path_edit(redirect.path, by_prefix, done)
    return Redirect(redirect.status_code, redirect.scheme, redirect.hostname, path, redirect.port)


def _mirrors(
    mirror: gateway.RequestMirrorFilter, resolve: Resolve, done: Compiled
) -> Sequence[Mirror]:
    backend = resolve(mirror.backend_ref)
    if isinstance(backend, Failure):
        done.unresolved.append(backend)
        return []
    return [Mirror(backend, _share(mirror))]


def _share(mirror: gateway.RequestMirrorFilter) -> float:
    if mirror.percent is not None:
        return mirror.percent / 100
    if mirror.fraction is not None:
        return min(1.0, mirror.fraction.numerator / mirror.fraction.denominator)
    return 1.0
