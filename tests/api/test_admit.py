"""Admission: unknown fields, defaults, leniency, what can't change."""

import base64
import copy

import pytest

from tidegate.api.errors import FieldError, InvalidError, StrictDecodingError
from tidegate.api.scheme import SCHEME, Kind, by_kind
from tidegate.api.validate import Admitted, admit

GATEWAY_API = "gateway.networking.k8s.io"


def kind(group: str, name: str) -> Kind:
    found = by_kind(group, name)
    assert found is not None
    return found


ROUTE = kind(GATEWAY_API, "HTTPRoute")
POOL = kind("inference.networking.k8s.io", "InferencePool")
SECRET, SERVICE = kind("", "Secret"), kind("", "Service")


def made(kind: Kind, **parts: object) -> dict:
    head = {"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "x"}}
    return {**head, **parts}


def admitted(kind: Kind, strict: str = "Strict", old: dict | None = None, **parts: object):
    return admit(kind, kind.storage, made(kind, **parts), old=old, strict=strict)


def spec_of(result: Admitted) -> dict:
    return result.obj["spec"]


def errors_of(kind: Kind, **parts: object) -> list[FieldError]:
    with pytest.raises(InvalidError) as refused:
        admitted(kind, **parts)
    return list(refused.value.errors)


# Unknown fields.


def test_strict_refuses_unknown_fields_in_the_words_of_kubernetes():
    with pytest.raises(StrictDecodingError) as refused:
        admitted(ROUTE, spec={"rulez": [], "parentRefs": [{"name": "a", "zone": "b"}]})
    assert refused.value.fields == ("spec.rulez", "spec.parentRefs[0].zone")
    assert str(refused.value) == (
        'strict decoding error: unknown field "spec.rulez" (did you mean "rules"?), '
        'unknown field "spec.parentRefs[0].zone"'
    )
    assert refused.value.reason == "BadRequest"


def test_warn_prunes_unknown_fields_and_says_so():
    result = admitted(ROUTE, strict="Warn", spec={"zones": 1}, extra=2)
    assert result.warnings == ('unknown field "spec.zones"', 'unknown field "extra"')
    assert "zones" not in spec_of(result)
    assert "extra" not in result.obj


def test_ignore_prunes_unknown_fields_in_silence():
    result = admitted(ROUTE, strict="Ignore", spec={"zones": 1})
    assert result.warnings == ()
    assert "zones" not in spec_of(result)


def test_metadata_has_no_unknown_fields_either():
    with pytest.raises(StrictDecodingError) as refused:
        admitted(ROUTE, metadata={"name": "x", "label": {}}, spec={})
    assert 'unknown field "metadata.label" (did you mean "labels"?)' in str(refused.value)


def test_a_status_keeps_what_other_controllers_know():
    status = {"parents": [], "supportedFeatures": [{"name": "HTTPRoute"}]}
    assert admitted(ROUTE, spec={}, status=status).obj["status"] == status


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (
            kind(GATEWAY_API, "Gateway"),
            {
                "gatewayClassName": "a",
                "listeners": [
                    {
                        "name": "a",
                        "port": 443,
                        "protocol": "HTTPS",
                        "tls": {
                            "certificateRefs": [{"name": "c"}],
                            "frontendValidation": {"caCertificateRefs": []},
                        },
                    }
                ],
                "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
                "infrastructure": {"labels": {"a": "b"}, "parametersRef": {"name": "p"}},
                "backendTLS": {"clientCertificateRef": {"name": "c"}},
                "tls": {"backend": {}},
                "allowedListeners": {"namespaces": {"from": "None"}},
                "defaultScope": "None",
            },
        ),
        (
            kind(GATEWAY_API, "GatewayClass"),
            {
                "controllerName": "a.b/c",
                "parametersRef": {"group": "a.b", "kind": "K", "name": "n", "namespace": "ns"},
            },
        ),
        (
            ROUTE,
            {
                "useDefaultGateways": "All",
                "rules": [
                    {
                        "filters": [
                            {"type": "CORS", "cors": {"allowOrigins": ["*"]}},
                            {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP"}},
                        ],
                        "sessionPersistence": {
                            "sessionName": "s",
                            "type": "Cookie",
                            "absoluteTimeout": "1h",
                            "idleTimeout": "1m",
                            "cookieConfig": {"lifetimeType": "Permanent"},
                            "cookie": {"name": "s"},
                        },
                    }
                ],
            },
        ),
        (
            SERVICE,
            {
                "ports": [{"port": 80, "nodePort": 30080, "targetPort": "http"}],
                "type": "NodePort",
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1"],
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster",
            },
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Kind) else "",
)
def test_fields_that_tidegate_does_not_read_are_kept(kind: Kind, spec: dict):
    stored = spec_of(admitted(kind, spec=spec))

    def includes(whole: object, part: object) -> bool:
        if isinstance(part, dict):
            return isinstance(whole, dict) and all(
                key in whole and includes(whole[key], item) for key, item in part.items()
            )
        if isinstance(part, list):
            return len(whole) == len(part) and all(map(includes, whole, part))
        return whole == part

    assert includes(stored, spec)


# Defaults.


def test_a_route_gets_the_defaults_of_the_gateway_api():
    spec = {
        "parentRefs": [{"name": "gate"}],
        "rules": [
            {
                "matches": [{"headers": [{"name": "a", "value": "b"}]}, {"path": {"value": "/v1"}}],
                "filters": [{"type": "RequestRedirect", "requestRedirect": {}}],
            },
            {"backendRefs": [{"name": "web", "port": 80}]},
        ],
    }
    anywhere = {"type": "PathPrefix", "value": "/"}
    assert spec_of(admitted(ROUTE, spec=spec)) == {
        "parentRefs": [{"name": "gate", "group": GATEWAY_API, "kind": "Gateway"}],
        "rules": [
            {
                "matches": [
                    {
                        "headers": [{"name": "a", "value": "b", "type": "Exact"}],
                        "path": anywhere,
                    },
                    {"path": {"type": "PathPrefix", "value": "/v1"}},
                ],
                "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302}}],
            },
            {
                "matches": [{"path": anywhere}],
                "backendRefs": [
                    {"name": "web", "port": 80, "group": "", "kind": "Service", "weight": 1}
                ],
            },
        ],
    }


def test_a_route_without_rules_serves_every_path():
    rules = spec_of(admitted(ROUTE, spec={}))["rules"]
    assert rules == [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]


def test_a_weight_of_zero_is_not_missing():
    rules = [{"backendRefs": [{"name": "web", "port": 80, "weight": 0}]}]
    stored = spec_of(admitted(ROUTE, spec={"rules": rules}))
    assert stored["rules"][0]["backendRefs"][0]["weight"] == 0


def test_a_listener_takes_routes_of_its_own_namespace():
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    gateway = kind(GATEWAY_API, "Gateway")
    spec = spec_of(admitted(gateway, spec={"gatewayClassName": "a", "listeners": listeners}))
    assert spec["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "Same"}}


def test_a_pool_gets_its_defaults():
    picker = {"name": "epp", "port": {"number": 9002}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 8000}]}
    stored = spec_of(admitted(POOL, spec={**spec, "endpointPickerRef": picker}))
    assert stored["appProtocol"] == "http"
    assert stored["endpointPickerRef"] == {
        **picker,
        "group": "",
        "kind": "Service",
        "failureMode": "FailClose",
    }


def test_a_null_is_a_missing_field():
    ports = [{"name": "http", "port": 80, "targetPort": None}]
    spec = spec_of(admitted(SERVICE, spec={"ports": ports, "type": None}))
    assert spec["type"] == "ClusterIP"
    assert spec["ports"][0]["targetPort"] == 80


def test_text_of_a_secret_is_stored_as_base64_only():
    secret = admitted(SECRET, data={"a": "b2xk", "c": "ZA=="}, stringData={"a": "new"}).obj
    assert "stringData" not in secret
    assert secret["data"] == {"a": base64.b64encode(b"new").decode(), "c": "ZA=="}


def test_a_namespace_can_be_selected_by_its_name():
    metadata = admitted(kind("", "Namespace"), metadata={"name": "web"}).obj["metadata"]
    assert metadata["labels"] == {"kubernetes.io/metadata.name": "web"}


# Leniency.


def test_bare_target_ports_are_taken_as_ports_with_a_warning():
    spec = {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [8000, {"number": 8001}]}
    result = admitted(POOL, spec=spec)
    assert spec_of(result)["targetPorts"] == [{"number": 8000}, {"number": 8001}]
    (warning,) = result.warnings
    assert warning.startswith("spec.targetPorts: ")
    assert "`- number: 8000`" in warning


def test_the_older_group_is_admitted_with_a_word_about_its_successor():
    legacy = kind("inference.networking.x-k8s.io", "InferenceModel")
    result = admitted(legacy, spec={"modelName": "food", "poolRef": {"name": "llm"}})
    (warning,) = result.warnings
    assert warning == (
        "inference.networking.x-k8s.io/v1alpha2 InferenceModel is deprecated; "
        "use llm-d.ai/v1alpha2 InferenceObjective and InferenceModelRewrite"
    )


# Kind, version and what can't change.


@pytest.mark.parametrize("each", SCHEME, ids=str)
def test_another_kind_or_version_than_the_urls_is_refused(each: Kind):
    wrong = {"apiVersion": "other/v1", "kind": "Other", "metadata": {"name": "x"}}
    with pytest.raises(InvalidError) as refused:
        admit(each, each.storage, wrong)
    paths = [error.path for error in refused.value.errors]
    assert paths[:2] == ["apiVersion", "kind"]


def test_each_version_is_admitted_in_its_own_url_only():
    older = {**made(ROUTE, spec={}), "apiVersion": f"{GATEWAY_API}/v1beta1"}
    assert admit(ROUTE, "v1beta1", older).obj["apiVersion"] == f"{GATEWAY_API}/v1beta1"
    with pytest.raises(InvalidError):
        admit(ROUTE, "v1", older)


def test_a_name_may_be_left_to_the_server():
    assert admitted(ROUTE, metadata={"generateName": "route-"}, spec={}).warnings == ()


def test_the_controller_of_a_class_can_not_change():
    each = kind(GATEWAY_API, "GatewayClass")
    old = admitted(each, spec={"controllerName": "a.b/c"}).obj
    assert admitted(each, old=old, spec={"controllerName": "a.b/c", "description": "d"})
    with pytest.raises(InvalidError, match=r'"a.b/c": the field is immutable'):
        admitted(each, old=old, spec={"controllerName": "a.b/d"})


@pytest.mark.parametrize("each", [SECRET, kind("", "ConfigMap")], ids=str)
def test_immutable_data_can_not_change(each: Kind):
    old = admitted(each, immutable=True, data={"a": "YQ=="}).obj
    labelled = {"name": "x", "labels": {"a": "b"}}
    assert admitted(each, old=old, immutable=True, data={"a": "YQ=="}, metadata=labelled)
    with pytest.raises(InvalidError) as refused:
        admitted(each, old=old, immutable=False, data={"a": "Yg=="})
    assert [error.path for error in refused.value.errors] == ["data", "immutable"]


# Limits.


def test_at_most_128_matches_in_all_rules():
    match = {"path": {"value": "/v1"}}
    enough = [{"matches": [match] * 64}, {"matches": [match] * 64}]
    assert admitted(ROUTE, spec={"rules": enough})
    (error,) = errors_of(ROUTE, spec={"rules": [*enough, {"matches": [match]}]})
    assert (error.path, error.found) == ("spec.rules", "129 matches")


def test_a_regular_expression_has_at_most_1024_characters():
    match = {"headers": [{"name": "a", "type": "RegularExpression", "value": "a" * 1025}]}
    (error,) = errors_of(ROUTE, spec={"rules": [{"matches": [match]}]})
    assert error.path == "spec.rules[0].matches[0].headers[0].value"
    assert error.expected == "a regular expression of at most 1024 characters"


def test_deeply_nested_regular_expressions_are_refused_not_crashed_on():
    match = {"path": {"type": "RegularExpression", "value": "(" * 1000}}
    (error,) = errors_of(ROUTE, spec={"rules": [{"matches": [match]}]})
    assert error.path == "spec.rules[0].matches[0].path.value"


def test_a_header_value_that_would_backtrack_is_checked_at_once():
    value = "a" * 4095 + "\n"
    header = {"set": [{"name": "a", "value": value}]}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": header}]
    (error,) = errors_of(ROUTE, spec={"rules": [{"filters": filters}]})
    assert error.path.endswith(".value")


def test_an_object_nested_without_end_is_refused():
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    (error,) = errors_of(ROUTE, spec=deep)
    assert error.expected == "a flatter object"


def test_annotations_have_a_size():
    metadata = {"name": "x", "annotations": {"a": "b" * 262_144}}
    (error,) = errors_of(ROUTE, metadata=metadata, spec={})
    assert error.path == "metadata.annotations"


def test_a_secret_is_not_shown_in_an_error():
    (error,) = errors_of(SECRET, data={"password": "hunter2!"})
    assert "hunter2" not in str(error) + error.detail


def test_text_that_can_not_be_written_is_refused_with_a_writable_error():
    labels = {"a": "\ud800"}
    (error,) = errors_of(ROUTE, metadata={"name": "x", "labels": labels}, spec={})
    assert str(error).encode()


def test_parents_of_one_name_in_two_namespaces_are_two():
    parents = [{"name": "a"}, {"name": "a", "namespace": "b"}]
    assert admitted(ROUTE, spec={"parentRefs": parents})


def test_what_is_admitted_shares_nothing_with_what_was_given():
    given = made(ROUTE, spec={"rules": [{"backendRefs": [{"name": "a", "port": 80}]}]})
    before = copy.deepcopy(given)
    one, two = admit(ROUTE, "v1", given).obj, admit(ROUTE, "v1", given).obj
    one["spec"]["rules"][0]["backendRefs"][0]["weight"] = 7
    one["spec"]["rules"][0]["matches"][0]["path"]["value"] = "/changed"
    assert given == before
    assert two == admit(ROUTE, "v1", given).obj
