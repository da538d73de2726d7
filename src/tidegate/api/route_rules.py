"""What an HTTPRoute must fulfil beyond its shape: the rules that upstream writes in CEL.

Each function takes one model's value and yields what is wrong, with paths relative to it.
Source: the validations in Gateway API's `gateway.networking.k8s.io_httproutes.yaml`. On top
come regular expressions that compile, and paths that can't break a request line.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tidegate.api.durations import parse_duration
from tidegate.api.errors import Described, FieldError
from tidegate.api.gateway import (
    BackendObjectReference,
    Fraction,
    HTTPBackendRef,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPQueryParamMatch,
    HTTPRouteFilter,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteSpec,
    HTTPRouteTimeouts,
    ParentReference,
    PathModifier,
    RequestMirrorFilter,
    SessionPersistence,
)
from tidegate.api.meta import Model
from tidegate.api.structure import MAPPING, Rule, counted

Errors = Iterator[FieldError]

MOST_MATCHES: Final = 128
LONGEST_REGEX: Final = 1024


def check_spec(spec: HTTPRouteSpec) -> Errors:
    """Limits over all rules, unique rule names, parents that can be told apart."""
    total = sum(len(rule.matches) for rule in spec.rules)
    if total > MOST_MATCHES:
        words = f"at most {MOST_MATCHES} matches in all rules together"
        yield FieldError(".rules", Described(f"{total} matches"), words)
    yield from _repeated_names(spec.rules)
    yield from _repeated_parents(spec.parent_refs)


def _repeated_names(rules: Sequence[HTTPRouteRule]) -> Errors:
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        if rule.name is not None and rule.name in seen:
            words = "a name that no other rule of the route has"
            yield FieldError(f".rules[{index}].name", rule.name, words, "FieldValueDuplicate")
        seen.add(rule.name or "")


def _repeated_parents(parents: Sequence[ParentReference]) -> Errors:
    """Two references to one parent must name two different listeners or ports."""
    for index, parent in enumerate(parents):
        for earlier in parents[:index]:
            if _same_parent(parent, earlier) and not _apart(parent, earlier):
                words = "another sectionName or port than each other reference to the same parent"
                path = f".parentRefs[{index}]"
                yield FieldError(path, parent.name, words, "FieldValueDuplicate")
                break


def _same_parent(one: ParentReference, other: ParentReference) -> bool:
    return (one.group, one.kind, one.namespace or "", one.name) == (
        other.group,
        other.kind,
        other.namespace or "",
        other.name,
    )


def _apart(one: ParentReference, other: ParentReference) -> bool:
    """Whether both say which part of the parent they mean, and mean different ones."""
    sections = (one.section_name or "", other.section_name or "")
    ports = (one.port or 0, other.port or 0)
    if bool(sections[0]) != bool(sections[1]) or bool(ports[0]) != bool(ports[1]):
        return False
    return sections[0] != sections[1] or ports[0] != ports[1]


def check_rule(rule: HTTPRouteRule) -> Errors:
    """Redirects don't go with backends; a replaced prefix needs one prefix to replace."""
    redirects = any(step.request_redirect for step in rule.filters)
    if redirects and rule.backend_refs:
        found = Described(counted(len(rule.backend_refs), "backend"))
        words = "none: the rule's RequestRedirect filter answers instead"
        yield FieldError(".backendRefs", found, words, "FieldValueForbidden")
    yield from _repeated_filters(rule.filters, ".filters")
    yield from _prefixes(rule, rule.filters, ".filters")
    for index, backend in enumerate(rule.backend_refs):
        path = f".backendRefs[{index}].filters"
        yield from _repeated_filters(backend.filters, path)
        yield from _prefixes(rule, backend.filters, path)


_ONCE: Final = (
    "CORS",
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
)


def _repeated_filters(filters: Sequence[HTTPRouteFilter], path: str) -> Errors:
    used = [step.type for step in filters]
    if "RequestRedirect" in used and "URLRewrite" in used:
        words = "either RequestRedirect or URLRewrite, not both"
        yield FieldError(path, Described(" and ".join(used)), words)
    for index, kind in enumerate(used):
        if kind in _ONCE and kind in used[:index]:
            words = f"at most one {kind} filter"
            yield FieldError(f"{path}[{index}].type", kind, words, "FieldValueDuplicate")


def _prefixes(rule: HTTPRouteRule, filters: Sequence[HTTPRouteFilter], path: str) -> Errors:
    if len(rule.matches) == 1 and rule.matches[0].path.type == "PathPrefix":
        return
    for index, step in enumerate(filters):
        for field, holder in (
            ("requestRedirect", step.request_redirect),
            ("urlRewrite", step.url_rewrite),
        ):
            if holder and holder.path and holder.path.replace_prefix_match is not None:
                where = f"{path}[{index}].{field}.path.replacePrefixMatch"
                words = "a rule with exactly one match, of type PathPrefix"
                yield FieldError(where, holder.path.replace_prefix_match, words)


_FILTER_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "RequestHeaderModifier": ("requestHeaderModifier", "request_header_modifier"),
    "ResponseHeaderModifier": ("responseHeaderModifier", "response_header_modifier"),
    "RequestMirror": ("requestMirror", "request_mirror"),
    "RequestRedirect": ("requestRedirect", "request_redirect"),
    "URLRewrite": ("urlRewrite", "url_rewrite"),
    "CORS": ("cors", "cors"),
    "ExtensionRef": ("extensionRef", "extension_ref"),
    "ExternalAuth": ("externalAuth", "external_auth"),
}


def check_filter(step: HTTPRouteFilter) -> Errors:
    """The field that goes with `type` is set, and no other."""
    for kind, (field, attribute) in _FILTER_FIELDS.items():
        is_set = getattr(step, attribute) is not None
        if kind == step.type and not is_set:
            words = f"a value, as type is {kind}"
            yield FieldError(f".{field}", None, words, "FieldValueRequired")
        elif kind != step.type and is_set:
            words = f"none: it goes with type {kind}, and type is {step.type}"
            yield FieldError(f".{field}", MAPPING, words, "FieldValueForbidden")


def check_backend(ref: BackendObjectReference) -> Errors:
    """A Service has several ports: one must be named."""
    if (ref.group, ref.kind) == ("", "Service") and ref.port is None:
        words = "the Service's port (for an InferencePool write its group and kind)"
        yield FieldError(".port", None, words, "FieldValueRequired")


def check_mirror(mirror: RequestMirrorFilter) -> Errors:
    """Percent or fraction."""
    if mirror.percent is not None and mirror.fraction is not None:
        words = "either percent or fraction, not both"
        yield FieldError(".fraction", Described("both"), words, "FieldValueForbidden")


def check_fraction(fraction: Fraction) -> Errors:
    """At most the whole."""
    if fraction.numerator > fraction.denominator:
        words = f"at most the denominator, {fraction.denominator}"
        yield FieldError(".numerator", fraction.numerator, words)


_PATH_TEXT: Final = re.compile(r"[!-~]*\Z")


def check_path_modifier(path: PathModifier) -> Errors:
    """The field that goes with `type` is set, and no other; it is fit for a request line."""
    for kind, field, value in (
        ("ReplaceFullPath", "replaceFullPath", path.replace_full_path),
        ("ReplacePrefixMatch", "replacePrefixMatch", path.replace_prefix_match),
    ):
        if kind == path.type and value is None:
            words = f"a path, as type is {kind}"
            yield FieldError(f".{field}", None, words, "FieldValueRequired")
        elif kind != path.type and value is not None:
            words = f"none: it goes with type {kind}, and type is {path.type}"
            yield FieldError(f".{field}", value, words, "FieldValueForbidden")
        elif value is not None and not _PATH_TEXT.match(value):
            # Spaces and line ends would make another request of it.
            words = "a path of visible ASCII characters (percent-encode the others)"
            yield FieldError(f".{field}", value, words)


def check_timeouts(timeouts: HTTPRouteTimeouts) -> Errors:
    """One try can't take longer than all of them, unless those have no limit."""
    if timeouts.request is None or timeouts.backend_request is None:
        return
    whole, one = parse_duration(timeouts.request), parse_duration(timeouts.backend_request)
    if whole and one > whole:
        words = f"at most the request timeout, {timeouts.request}"
        yield FieldError(".backendRequest", timeouts.backend_request, words)


def check_session(session: SessionPersistence) -> Errors:
    """Settings of the other type are a mistake."""
    cookie = session.cookie is not None or session.cookie_config is not None
    if session.type == "Header" and cookie:
        field = ".cookie" if session.cookie is not None else ".cookieConfig"
        words = "none, as type is Header"
        yield FieldError(field, MAPPING, words, "FieldValueForbidden")
    if session.type == "Cookie" and session.header is not None:
        words = "none, as type is Cookie"
        yield FieldError(".header", MAPPING, words, "FieldValueForbidden")


_PATH_CHARACTERS: Final = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+\Z")
_NOT_IN_PATHS: Final = ("//", "/./", "/../", "%2f", "%2F", "#")
_NOT_AT_THE_END: Final = ("/..", "/.")


def check_path(path: HTTPPathMatch) -> Errors:
    """Absolute and in normal form, or a regular expression that compiles."""
    if path.type == "RegularExpression":
        yield from _regex(path.value)
        return
    if not path.value.startswith("/"):
        yield FieldError(".value", path.value, "an absolute path, starting with '/'")
    for part in _NOT_IN_PATHS:
        if part in path.value:
            yield FieldError(".value", path.value, f"a path without '{part}'")
    for end in _NOT_AT_THE_END:
        if path.value.endswith(end):
            yield FieldError(".value", path.value, f"a path that doesn't end with '{end}'")
    if "#" not in path.value and not _PATH_CHARACTERS.match(path.value):
        yield FieldError(".value", path.value, "a path of the characters of RFC 3986")


def check_header_or_query(match: HTTPHeaderMatch | HTTPQueryParamMatch) -> Errors:
    """A regular expression compiles."""
    if match.type == "RegularExpression":
        yield from _regex(match.value)


def check_match(match: HTTPRouteMatch) -> Errors:
    """No two header matches whose names differ in case only: one of them would be ignored."""
    seen: set[str] = set()
    for index, header in enumerate(match.headers):
        if header.name.lower() in seen:
            words = "a header that no other match of these names (case doesn't count)"
            path = f".headers[{index}].name"
            yield FieldError(path, header.name, words, "FieldValueDuplicate")
        seen.add(header.name.lower())


def _regex(text: str) -> Errors:
    if len(text) > LONGEST_REGEX:
        words = f"a regular expression of at most {LONGEST_REGEX} characters"
        yield FieldError(".value", text, words)
        return
    try:
        with warnings.catch_warnings():
            # What Python only warns of means something else to other engines.
            warnings.simplefilter("error")
            re.purge()  # what was compiled before is not warned of again
            re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        yield FieldError(".value", text, f"a valid regular expression ({error})")


ROUTE_RULES: Final[Mapping[type[Model], Rule]] = {
    HTTPRouteSpec: check_spec,
    HTTPRouteRule: check_rule,
    HTTPRouteFilter: check_filter,
    HTTPBackendRef: check_backend,
    BackendObjectReference: check_backend,
    RequestMirrorFilter: check_mirror,
    Fraction: check_fraction,
    PathModifier: check_path_modifier,
    HTTPRouteTimeouts: check_timeouts,
    SessionPersistence: check_session,
    HTTPPathMatch: check_path,
    HTTPHeaderMatch: check_header_or_query,
    HTTPQueryParamMatch: check_header_or_query,
    HTTPRouteMatch: check_match,
}
"""The rule of each model of an HTTPRoute."""
