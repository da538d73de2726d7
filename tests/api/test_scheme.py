from itertools import groupby

import pytest

from tidegate.api.gateway import Gateway
from tidegate.api.meta import Resource
from tidegate.api.scheme import SCHEME, Kind, by_kind, by_model, by_resource

EACH = pytest.mark.parametrize("kind", SCHEME, ids=str)


@EACH
def test_a_kind_is_found_by_each_of_its_names(kind: Kind):
    assert by_resource(kind.group, kind.plural) is kind
    assert by_kind(kind.group, kind.kind) is kind
    assert by_model(kind.model) is kind


def test_unknown_names_are_no_kind():
    assert by_resource("apps", "deployments") is None
    assert by_kind("gateway.networking.k8s.io", "TLSRoute") is None
    with pytest.raises(KeyError):
        by_model(Resource)


def test_no_two_kinds_share_a_model():
    assert len({kind.model for kind in SCHEME}) == len(SCHEME)


def test_no_two_kinds_share_a_short_name():
    names = sorted(name for kind in SCHEME for name in kind.short_names)
    assert [name for name, same in groupby(names) if len(list(same)) > 1] == []


@pytest.mark.parametrize(
    ("group", "kind", "versions"),
    [
        ("gateway.networking.k8s.io", "GatewayClass", ("v1", "v1beta1")),
        ("gateway.networking.k8s.io", "Gateway", ("v1", "v1beta1")),
        ("gateway.networking.k8s.io", "HTTPRoute", ("v1", "v1beta1")),
        ("gateway.networking.k8s.io", "ReferenceGrant", ("v1", "v1beta1")),
        ("inference.networking.k8s.io", "InferencePool", ("v1",)),
        ("inference.networking.x-k8s.io", "InferencePool", ("v1alpha2",)),
        ("inference.networking.x-k8s.io", "InferenceModel", ("v1alpha2",)),
        ("inference.networking.x-k8s.io", "InferenceObjective", ("v1alpha2",)),
        ("inference.networking.x-k8s.io", "InferenceModelRewrite", ("v1alpha2",)),
        ("llm-d.ai", "InferenceObjective", ("v1alpha2",)),
        ("llm-d.ai", "InferenceModelRewrite", ("v1alpha2",)),
        ("tidegate.dev", "ModelServer", ("v1alpha1",)),
        ("", "Namespace", ("v1",)),
        ("", "Secret", ("v1",)),
        ("", "ConfigMap", ("v1",)),
        ("", "Service", ("v1",)),
    ],
)
def test_the_promised_kinds_are_served(group: str, kind: str, versions: tuple[str, ...]):
    found = by_kind(group, kind)
    assert found is not None
    assert found.versions == versions
    assert found.storage == versions[0]


def test_a_kind_writes_its_names_as_kubernetes_does():
    gateway, namespace = by_model(Gateway), by_kind("", "Namespace")
    assert namespace is not None
    assert gateway.resource == "gateways.gateway.networking.k8s.io"
    assert gateway.api_version("v1beta1") == "gateway.networking.k8s.io/v1beta1"
    assert (namespace.resource, namespace.api_version()) == ("namespaces", "v1")


@EACH
def test_plurals_are_what_kubectl_guesses_from_the_kind(kind: Kind):
    # kubectl and client libraries make plurals of kinds by this rule where they must guess.
    singular = kind.kind.lower()
    ending = "es" if singular.endswith("s") else "s"
    assert (kind.singular, kind.plural) == (singular, singular + ending)
