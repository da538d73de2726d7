"""`kubectl get`, `describe`, `explain`, `wait` and what a server says of itself."""

import json
import threading

import pytest

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, labels: {{tier: {tier}}}}}
spec:
  parentRefs: [{{name: web}}]
  hostnames: [{name}.example]
  rules:
  - backendRefs:
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: llm, weight: 90}}
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: llm-new, weight: 10}}
"""

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm}
spec:
  selector: {matchLabels: {app: llm}}
  targetPorts: [{number: 8000}]
"""


@pytest.fixture
def routes(kubectl):
    """Two routes and a pool."""
    manifests = [ROUTE.format(name="a", tier="gold"), ROUTE.format(name="b", tier="tin"), POOL]
    kubectl("create", "-f", "-", stdin="---\n".join(manifests))
    return kubectl


def accept(kubectl, name, status="True"):
    """Say that a route is accepted, as its controller would."""
    condition = {
        "type": "Accepted",
        "status": status,
        "reason": "Accepted",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    parent = {
        "parentRef": {"name": "web"},
        "controllerName": "tidegate.dev/gateway",
        "conditions": [condition],
    }
    patch = json.dumps({"status": {"parents": [parent], "conditions": [condition]}})
    kubectl("patch", "httproute", name, "--type=merge", "--subresource=status", "-p", patch)


def rows(table):
    return [line.split() for line in table.splitlines()]


def test_tables_have_the_columns_of_their_kind(routes):
    header, first, second = rows(routes("get", "httproutes"))
    assert header == ["NAME", "HOSTNAMES", "BACKENDS", "ACCEPTED", "AGE"]
    assert first[:4] == ["a", '["a.example"]', "llm=90", "llm-new=10"]
    assert second[0] == "b"
    assert first[-1].endswith("s")
    assert rows(routes("get", "hr", "a", "-o", "wide"))[0][-1] == "PARENTS"
    assert rows(routes("get", "hr", "a", "-o", "wide"))[1][-1] == "web"


def test_several_kinds_at_once_short_names_and_one_by_name(routes):
    both = routes("get", "httproute,inferencepool")
    assert "httproute.gateway.networking.k8s.io/a" in both
    assert "inferencepool.inference.networking.k8s.io/llm" in both
    assert routes("get", "hr/a", "infpool/llm", "-o", "name").split() == [
        "httproute.gateway.networking.k8s.io/a",
        "inferencepool.inference.networking.k8s.io/llm",
    ]
    complaint = routes.fails("get", "hr", "nope")
    assert complaint == (
        'Error from server (NotFound): httproutes.gateway.networking.k8s.io "nope" not found\n'
    )


def test_labels_choose_and_are_shown(routes):
    def names(*args):
        return [name.split("/")[1] for name in routes("get", "hr", "-o", "name", *args).split()]

    assert names("-l", "tier=gold") == ["a"]
    assert names("-l", "tier!=gold") == ["b"]
    assert names("-l", "tier in (gold,tin)") == ["a", "b"]
    assert names("-l", "tier notin (tin),!nope") == ["a"]
    assert names("--field-selector", "metadata.name=b") == ["b"]
    assert rows(routes("get", "hr", "--show-labels"))[1][-1] == "tier=gold"
    assert rows(routes("get", "hr", "-L", "tier"))[2][-1] == "tin"
    assert "unable to parse" in routes.fails("get", "hr", "-l", "tier in (")
    assert "field label not supported" in routes.fails("get", "hr", "--field-selector", "spec.x=1")


def test_all_namespaces_are_listed_with_theirs(routes, namespace):
    listed = rows(routes("get", "hr", "-A"))
    assert listed[0][0] == "NAMESPACE"
    assert [namespace, "a"] in [row[:2] for row in listed]


def test_every_output_format(routes):
    assert routes("get", "hr", "a", "-o", "yaml").startswith("apiVersion: gateway.networking.k8s")
    listed = routes.json("hr")
    assert (listed["kind"], len(listed["items"])) == ("List", 2)
    path = "{.items[*].spec.rules[0].backendRefs[0].weight}"
    assert routes("get", "hr", "-o", f"jsonpath={path}") == "90 90"
    columns = "custom-columns=N:.metadata.name,G:.metadata.generation"
    assert rows(routes("get", "hr", "-o", columns))[1] == ["a", "1"]
    assert routes("get", "hr", "a", "-o", "go-template={{.metadata.name}}") == "a"
    names = [row[0] for row in rows(routes("get", "hr", "--sort-by=.metadata.labels.tier"))]
    assert names == ["NAME", "a", "b"]


def test_a_watch_shows_what_changes_while_it_is_open(routes):
    with routes.running("get", "hr", "-w", "-o", "name") as lines:
        assert [next(lines) for _ in range(2)] == [
            "httproute.gateway.networking.k8s.io/a\n",
            "httproute.gateway.networking.k8s.io/b\n",
        ]
        routes("label", "hr", "b", "x=y")
        assert next(lines) == "httproute.gateway.networking.k8s.io/b\n"


def test_a_watch_of_one_object_prints_table_rows(routes):
    with routes.running("get", "hr", "a", "-w") as lines:
        assert next(lines).split()[0] == "NAME"
        assert next(lines).split()[0] == "a"
        patch = '[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 50}]'
        routes("label", "hr", "b", "x=y")
        routes("patch", "hr", "a", "--type=json", "-p", patch)
        assert "llm=50" in next(lines)


def test_a_watch_with_a_selector_sees_only_its_own(routes):
    with routes.running("get", "hr", "-l", "tier=gold", "-w") as lines:
        assert [next(lines).split()[0] for _ in range(2)] == ["NAME", "a"]
        routes("label", "hr", "b", "x=y")
        routes("label", "hr", "b", "tier=gold", "--overwrite")
        assert next(lines).split()[0] == "b"


def test_describe_shows_spec_status_and_no_events(routes):
    accept(routes, "a")
    text = routes("describe", "httproute", "a")
    assert "Weight:  90" in text
    assert "tidegate.dev/gateway" in text
    assert "Events:" in text
    for kind in ("infpool", "namespace"):
        assert "Name:" in routes("describe", kind)


def test_explain_documents_fields(kubectl):
    text = kubectl("explain", "httproute.spec.rules.backendRefs.weight")
    assert "FIELD: weight <integer>" in text
    assert "<no description>" not in kubectl("explain", "inferencepool.spec")
    assert "KIND:       ModelServer" in kubectl("explain", "msrv")
    assert "number" in kubectl("explain", "infpool.spec", "--recursive")
    assert "resourceVersion" in kubectl("explain", "hr.metadata")
    assert "type" in kubectl("explain", "secret")
    old = kubectl("explain", "infpool", "--api-version=inference.networking.x-k8s.io/v1alpha2")
    assert "VERSION:    v1alpha2" in old
    assert 'field "nope" does not exist' in kubectl.fails("explain", "httproute.spec.nope")


def test_waiting_for_a_condition_ends_when_it_is_met(routes):
    writer = threading.Thread(target=accept, args=(routes, "a"))
    writer.start()
    path = "jsonpath={.status.parents[0].conditions[0].status}=True"
    assert "condition met" in routes("wait", "hr/a", f"--for={path}", "--timeout=20s")
    writer.join()
    complaint = routes.fails("wait", "hr/b", f"--for={path}", "--timeout=1s")
    assert "timed out waiting" in complaint


def test_waiting_for_a_top_level_condition(kubectl):
    pool = POOL.replace("llm", "w")
    kubectl("create", "-f", "-", stdin=pool)
    condition = {"type": "Ready", "status": "True", "reason": "R", "message": ""}
    patch = {
        "status": {"conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    }
    command = ("patch", "infpool", "w", "--type=merge", "--subresource=status", "-p")
    ran = kubectl.run(*command, json.dumps(patch))
    assert ran.code == 0, ran.err
    assert "met" in kubectl("wait", "infpool/w", "--for=condition=Ready", "--timeout=5s")


def test_waiting_for_a_deletion(routes):
    assert "timed out" in routes.fails("wait", "hr/a", "--for=delete", "--timeout=1s")
    deleter = threading.Thread(target=routes, args=("delete", "hr", "a"))
    deleter.start()
    routes("wait", "hr/a", "--for=delete", "--timeout=20s")
    assert "NotFound" in routes.fails("get", "hr", "a")
    deleter.join()


def test_the_server_says_what_it_has(kubectl):
    resources = kubectl("api-resources")
    for kind in ("HTTPRoute", "InferencePool", "ModelServer", "Secret", "InferenceModelRewrite"):
        assert kind in resources
    pools = [line.split() for line in resources.splitlines() if line.startswith("inferencepools")]
    assert [row[2] for row in pools] == [
        "inference.networking.k8s.io/v1",
        "inference.networking.x-k8s.io/v1alpha2",
    ]
    versions = kubectl("api-versions").split()
    assert {"v1", "gateway.networking.k8s.io/v1", "tidegate.dev/v1alpha1"} <= set(versions)
    assert "Server Version: v1." in kubectl("version")
    assert "is running at" in kubectl("cluster-info")
    assert kubectl("get", "--raw", "/readyz") == "ok"
    assert "the server doesn't have a resource type" in kubectl.fails("get", "pods")


def test_whoever_has_the_token_may_do_everything(kubectl):
    assert kubectl("auth", "can-i", "delete", "httproutes") == "yes\n"
    assert "*.*" in kubectl("auth", "can-i", "--list")
    assert "tidegate" in kubectl("auth", "whoami")


def test_another_token_is_not_let_in(kubectl):
    complaint = kubectl.fails("--token=wrong", "get", "hr")
    assert "Unauthorized" in complaint or "logged in" in complaint
