"""Filters, against the tables of Gateway API."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.routing.filters import edit_headers, location, mirror_drawn, rewrite_path
from tidegate.routing.match import Request
from tidegate.routing.table import NO_EDITS, Backend, HeaderEdits, Mirror, PathEdit, Redirect

BACKEND = Backend("InferencePool", "default", "llm", ())


@pytest.mark.parametrize(
    ("path", "prefix", "replacement", "result"),
    [
        # apis/v1/httproute_types.go, HTTPPathModifier.ReplacePrefixMatch
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
        ("/", "/", "/", "/"),
    ],
)
def test_a_prefix_is_replaced_with_slashes_as_upstream_lists_them(
    path, prefix, replacement, result
):
    edit = PathEdit("prefix", replacement)
    assert rewrite_path(path, edit, prefix) == result
    assert rewrite_path(f"{path}?a=b?c", edit, prefix) == f"{result}?a=b?c"


def test_a_whole_path_is_replaced_and_keeps_its_query():
    assert rewrite_path("/a/b?x=1", PathEdit("full", "/new"), "/a") == "/new?x=1"


REDIRECTED = Request("example.com", "GET", "/foo/bar", "q=1")


@pytest.mark.parametrize(
    ("redirect", "scheme", "port", "result"),
    [
        (Redirect(302), "http", 80, "http://example.com/foo/bar?q=1"),
        (Redirect(302), "http", 8080, "http://example.com:8080/foo/bar?q=1"),
        (Redirect(302), "https", 443, "https://example.com/foo/bar?q=1"),
        (Redirect(302, scheme="https"), "http", 8080, "https://example.com/foo/bar?q=1"),
        (Redirect(302, scheme="http"), "https", 8443, "http://example.com/foo/bar?q=1"),
        (Redirect(302, port=8443), "https", 443, "https://example.com:8443/foo/bar?q=1"),
        (Redirect(302, port=443), "https", 8443, "https://example.com/foo/bar?q=1"),
        (Redirect(302, "https", port=80), "http", 80, "https://example.com:80/foo/bar?q=1"),
        (Redirect(302, hostname="b.test"), "http", 80, "http://b.test/foo/bar?q=1"),
        (Redirect(302, path=PathEdit("full", "/x")), "http", 80, "http://example.com/x?q=1"),
        (Redirect(302, path=PathEdit("prefix", "/x")), "http", 80, "http://example.com/x/bar?q=1"),
    ],
)
def test_a_location_names_only_what_is_not_usual(redirect, scheme, port, result):
    assert location(redirect, REDIRECTED, scheme, port, "/foo") == result


def test_headers_are_set_added_and_removed():
    edits = HeaderEdits(((b"a", b"1"),), ((b"b", b"2"),), frozenset({b"c"}))
    headers = [(b"a", b"x"), (b"b", b"y"), (b"c", b"z"), (b"a", b"w"), (b"d", b"v")]
    kept = [(b"b", b"y"), (b"d", b"v")]
    assert edit_headers(headers, edits) == [*kept, (b"a", b"1"), (b"b", b"2")]
    assert edit_headers(headers, NO_EDITS) is headers


@given(point=st.integers(0, 2**64 - 1))
def test_a_mirror_gets_all_none_or_its_share(point):
    assert mirror_drawn(Mirror(BACKEND, 1.0), point)
    assert not mirror_drawn(Mirror(BACKEND, 0.0), point)
    assert mirror_drawn(Mirror(BACKEND, 0.25), point) == (point < 2**62)
