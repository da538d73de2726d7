import pytest
from hypothesis import given

from tidegate.api.columns import AGE, Column, cell, values_at
from tidegate.api.scheme import SCHEME, Kind, by_kind
from tidegate.testing.manifests import JSON


def row(group: str, name: str, obj: dict) -> dict[str, object]:
    kind = by_kind(group, name)
    assert kind is not None
    return {column.name: cell(column, obj) for column in kind.columns}


def ref(name: str, **weight: int) -> dict:
    return {"name": name, **weight}


def test_a_route_shows_its_backends_with_their_weights():
    route = {
        "metadata": {"creationTimestamp": "2026-11-24T05:00:00Z"},
        "spec": {
            "hostnames": ["a.com", "b.com"],
            "parentRefs": [{"name": "gate"}],
            "rules": [
                {"backendRefs": [ref("llm", weight=90), ref("llm-new", weight=10)]},
                {"filters": []},
                {"backendRefs": [ref("old", weight=0), ref("web")]},
            ],
        },
        "status": {"parents": [{"conditions": [{"type": "Accepted", "status": "True"}]}]},
    }
    assert row("gateway.networking.k8s.io", "HTTPRoute", route) == {
        "Hostnames": '["a.com","b.com"]',
        "Backends": "llm=90 llm-new=10; old=0 web=1",
        "Accepted": "True",
        "Age": "2026-11-24T05:00:00Z",
        "Parents": "gate",
    }


def test_a_pool_shows_its_selector():
    accepted = {"type": "Accepted", "status": "True"}
    pool = {
        "spec": {
            "selector": {"matchLabels": {"tier": "gold", "app": "llm"}},
            "targetPorts": [{"number": 8000}, {"number": 8001}],
        },
        "status": {
            "parents": [
                {
                    "parentRef": {"name": "a"},
                    "conditions": [accepted],
                },
                {"parentRef": {"name": "b"}, "conditions": []},
            ]
        },
    }
    shown = row("inference.networking.k8s.io", "InferencePool", pool)
    assert shown["Selector"] == "app=llm,tier=gold"
    assert shown["Accepted"] == "True"
    assert shown["Ports"] == "8000,8001"
    assert shown["Parents"] == "a,b"


@pytest.mark.parametrize("source", ["command", "simulator", "addresses"])
def test_a_model_server_shows_where_its_endpoints_come_from(source: str):
    value: object = {} if source == "simulator" else ["x"]
    server = {"spec": {source: value}, "status": {"replicas": 2, "readyReplicas": 0}}
    shown = row("tidegate.dev", "ModelServer", server)
    assert (shown["Source"], shown["Replicas"], shown["Ready"]) == (source, 2, 0)


def test_a_gateway_shows_address_and_ports():
    gateway = {
        "spec": {"gatewayClassName": "tidegate", "listeners": [{"port": 80}, {"port": 443}]},
        "status": {
            "addresses": [{"value": "127.0.0.1"}],
            "conditions": [
                {"type": "Accepted", "status": "True"},
                {"type": "Programmed", "status": "False"},
            ],
        },
    }
    assert row("gateway.networking.k8s.io", "Gateway", gateway) == {
        "Class": "tidegate",
        "Address": "127.0.0.1",
        "Programmed": "False",
        "Age": None,
        "Ports": "80,443",
    }


def test_a_rewrite_shows_its_targets():
    rewrite = {
        "spec": {
            "poolRef": {"name": "llm"},
            "rules": [
                {
                    "matches": [{"model": {"value": "food"}}],
                    "targets": [
                        {"modelRewrite": "v1", "weight": 9},
                        {"modelRewrite": "v2", "weight": 1},
                    ],
                },
                {"targets": [{"modelRewrite": "base"}]},
            ],
        }
    }
    shown = row("llm-d.ai", "InferenceModelRewrite", rewrite)
    assert shown["Targets"] == "food => v1=9 v2=1; * => base=1"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a[*].b", [1, 2]),
        (".a[0].b", [1]),
        (".a[5].b", []),
        (".a[*].c", [3]),
        ('.a[?(@.b=="x")].c', []),
        ('.t[?(@.type=="A")].v', ["yes"]),
        (".missing.b", []),
    ],
)
def test_paths_meet_values(path: str, found: list):
    obj = {
        "a": [{"b": 1, "c": 3}, {"b": 2}],
        "t": [{"type": "B", "v": "no"}, {"type": "A", "v": "yes"}],
    }
    assert values_at(obj, path) == found


def test_a_zero_and_a_false_are_shown():
    assert cell(Column("n", ".n", type="integer"), {"n": 0}) == 0
    assert cell(Column("b", ".b", type="boolean"), {"b": False}) is False


@pytest.mark.parametrize("kind", SCHEME, ids=str)
@given(spec=JSON, status=JSON)
def test_a_cell_never_fails(kind: Kind, spec: object, status: object):
    for column in kind.columns:
        cell(column, {"spec": spec, "status": status})


@pytest.mark.parametrize("kind", SCHEME, ids=str)
def test_every_table_ends_with_the_age(kind: Kind):
    always = [column for column in kind.columns if column.priority == 0]
    assert always[-1] is AGE
