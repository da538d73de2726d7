"""What the API's URLs name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.meta import Key
from tidegate.api.scheme import SCHEME
from tidegate.store.targets import parse_target

G = "/apis/gateway.networking.k8s.io/v1"


@pytest.mark.parametrize(
    ("path", "kind", "key", "subresource"),
    [
        (f"{G}/namespaces/team/httproutes/r", "HTTPRoute", Key("team", "r"), ""),
        (f"{G}/namespaces/team/httproutes/r/status", "HTTPRoute", Key("team", "r"), "status"),
        (f"{G}/namespaces/team/httproutes", "HTTPRoute", Key("team", ""), ""),
        (f"{G}/httproutes", "HTTPRoute", Key("", ""), ""),
        (f"{G}/gatewayclasses/c", "GatewayClass", Key("", "c"), ""),
        ("/api/v1/namespaces", "Namespace", Key("", ""), ""),
        ("/api/v1/namespaces/team", "Namespace", Key("", "team"), ""),
        ("/api/v1/namespaces/team/status", "Namespace", Key("", "team"), "status"),
        ("/api/v1/namespaces/team/secrets/status", "Secret", Key("team", "status"), ""),
        (
            "/apis/tidegate.dev/v1alpha1/namespaces/team/modelservers/m/scale",
            "ModelServer",
            Key("team", "m"),
            "scale",
        ),
    ],
)
def test_a_url_names_a_collection_an_object_or_a_part_of_it(path, kind, key, subresource):
    target = parse_target(path)
    assert (target.kind.kind, target.key, target.subresource) == (kind, key, subresource)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api",
        "/api/v1",
        "/apis/gateway.networking.k8s.io",
        G,
        f"{G}/nope",
        f"{G}/httproutes/r",
        f"{G}/namespaces/team",
        f"{G}/namespaces//httproutes",
        f"{G}/namespaces/team/gatewayclasses/c",
        f"{G}/namespaces/team/httproutes/r/scale",
        f"{G}/namespaces/team/httproutes/r/status/x",
        "/apis/gateway.networking.k8s.io/v2/httproutes",
        "/api/v1/namespaces/team/namespaces/x",
        "/api/v1/namespaces/team/secrets/s/status",
    ],
)
def test_other_urls_name_nothing(path):
    assert parse_target(path) is None


@given(st.lists(st.sampled_from([*"ab", "", "api", "apis", "v1", "namespaces", "secrets"])))
def test_any_path_is_parsed_or_names_nothing(parts):
    parse_target("/" + "/".join(parts))


def test_every_kind_is_found_in_each_of_its_versions():
    for kind in SCHEME:
        for version in kind.versions:
            root = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
            target = parse_target(f"{root}/{kind.plural}")
            assert (target.kind, target.version) == (kind, version)
