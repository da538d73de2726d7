"""`kubectl apply` in all its forms, `diff`, and what is refused."""

import pytest

SEED = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: routes-to-llm
spec:
  parentRefs:
    - name: my-inference-gateway
      group: inference.networking.k8s.io
      kind: InferenceGateway
  rules:
    backendRefs:
    - name: {stable}
      group: inference.networking.k8s.io
      kind: InferencePool
      weight: 90
    - name: {canary}
      group: inference.networking.k8s.io
      kind: InferencePool
      weight: 10
"""
"""The manifests of GKE's rollout guide, verbatim: rules are no list, the parent is loose."""

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}, labels: {{set: {set}}}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  targetPorts: [{{number: {port}}}]
  appProtocol: http
"""


def pool(name, port=8000, group="all"):
    return POOL.format(name=name, port=port, set=group)


def weights(kubectl, name="routes-to-llm"):
    refs = kubectl.json("httproute", name)["spec"]["rules"][0]["backendRefs"]
    return {ref["name"]: ref["weight"] for ref in refs}


def managers(kubectl, *what):
    obj = kubectl.json(*what, "--show-managed-fields")
    return {(m["manager"], m["operation"]) for m in obj["metadata"]["managedFields"]}


@pytest.mark.parametrize(
    ("stable", "canary"), [("llm", "llm-new"), ("llm-pool", "llm-pool-version-2")]
)
@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_the_guides_manifests_work_verbatim_and_each_leniency_is_a_warning(
    kubectl, stable, canary, how
):
    manifest = SEED.format(stable=stable, canary=canary)
    ran = kubectl.run("apply", *how, "-f", "-", stdin=manifest)
    assert ran.code == 0, ran.err
    assert "Warning: spec.rules: " in ran.err
    assert "Warning: spec.parentRefs[0]: " in ran.err
    assert ran.err.count("Warning") == 2
    assert weights(kubectl) == {stable: 90, canary: 10}
    assert kubectl("get", "httproute,inferencepool").splitlines()[1].split()[1:3] == [
        f"{stable}=90",
        f"{canary}=10",
    ]
    again = kubectl.run("apply", *how, "-f", "-", stdin=manifest.replace("90", "50"))
    assert again.code == 0, again.err
    assert weights(kubectl) == {stable: 50, canary: 10}


def test_applying_the_same_again_changes_nothing(kubectl):
    assert kubectl("apply", "-f", "-", stdin=pool("p")).endswith("/p created\n")
    before = kubectl.json("infpool", "p")
    assert kubectl("apply", "-f", "-", stdin=pool("p")).endswith("/p unchanged\n")
    assert kubectl.json("infpool", "p") == before
    assert kubectl("apply", "-f", "-", stdin=pool("p", 9000)).endswith("/p configured\n")
    after = kubectl.json("infpool", "p")
    assert after["spec"]["targetPorts"] == [{"number": 9000}]
    assert after["metadata"]["generation"] == 2


def test_a_field_left_out_of_the_next_apply_is_removed(kubectl):
    for how in ((), ("--server-side",)):
        name = f"p{len(how)}"
        kubectl("apply", *how, "-f", "-", stdin=pool(name))
        without = pool(name).replace(", labels: {set: all}", "")
        kubectl("apply", *how, "-f", "-", stdin=without)
        assert "labels" not in kubectl.json("infpool", name)["metadata"]


def test_field_managers_meet_in_conflicts_that_can_be_forced(kubectl):
    route = SEED.format(stable="a", canary="b")
    kubectl("apply", "--server-side", "-f", "-", stdin=route)
    other = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    changed = route.replace("90", "70")
    complaint = kubectl.fails(*other, stdin=changed)
    assert 'conflict with "kubectl"' in complaint
    assert ".spec.rules" in complaint
    assert weights(kubectl) == {"a": 90, "b": 10}
    kubectl(*other, "--force-conflicts", stdin=changed)
    assert weights(kubectl) == {"a": 70, "b": 10}
    assert "conflict" in kubectl.fails("apply", "--server-side", "-f", "-", stdin=route)


def test_a_client_side_apply_is_taken_over_by_a_server_side_one(kubectl):
    kubectl("apply", "-f", "-", stdin=pool("p"))
    assert managers(kubectl, "infpool", "p") == {("kubectl-client-side-apply", "Update")}
    kubectl("apply", "--server-side", "-f", "-", stdin=pool("p"))
    annotation = ("kubectl-last-applied", "Apply")
    assert managers(kubectl, "infpool", "p") - {annotation} == {("kubectl", "Apply")}
    kubectl("apply", "--server-side", "-f", "-", stdin=pool("p", 9000))
    assert kubectl.json("infpool", "p")["spec"]["targetPorts"] == [{"number": 9000}]
    kubectl("apply", "-f", "-", stdin=pool("p", 9001))
    assert kubectl.json("infpool", "p")["spec"]["targetPorts"] == [{"number": 9001}]


def test_a_dry_run_on_the_server_stores_nothing(kubectl):
    assert "created (server dry run)" in kubectl(
        "apply", "--dry-run=server", "-f", "-", stdin=pool("p")
    )
    assert "NotFound" in kubectl.fails("get", "infpool", "p")
    complaint = kubectl.fails("apply", "--dry-run=server", "-f", "-", stdin=pool("p", 0))
    assert "spec.targetPorts[0].number" in complaint


def test_diff_shows_the_change_and_makes_none(kubectl):
    kubectl("apply", "-f", "-", stdin=pool("p"))
    before = kubectl.json("infpool", "p")
    for how in ((), ("--server-side",)):
        same = kubectl.run("diff", *how, "-f", "-", stdin=pool("p"))
        assert (same.code, same.out) == (0, "")
    changed = kubectl.run("diff", "-f", "-", stdin=pool("p", 9000))
    assert changed.code == 1, changed.err
    assert "-  - number: 8000" in changed.out
    assert "+  - number: 9000" in changed.out
    assert kubectl.run("diff", "-f", "-", stdin=pool("new")).code == 1
    assert "NotFound" in kubectl.fails("get", "infpool", "new")
    assert kubectl.json("infpool", "p") == before


def test_prune_deletes_what_left_the_manifests(kubectl):
    both = pool("a", group="one") + "---\n" + pool("b", group="one")
    kubectl("apply", "-f", "-", stdin=both)
    kubectl("apply", "-f", "-", stdin=pool("other", group="two"))
    kubectl(
        "apply",
        "--prune",
        "-l",
        "set=one",
        "--prune-allowlist=inference.networking.k8s.io/v1/InferencePool",
        "-f",
        "-",
        stdin=pool("a", group="one"),
    )
    assert kubectl("get", "infpool", "-o", "name").split() == [
        "inferencepool.inference.networking.k8s.io/a",
        "inferencepool.inference.networking.k8s.io/other",
    ]


@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_a_bad_manifest_names_its_fields_and_nothing_is_stored(kubectl, how):
    route = SEED.format(stable="a", canary="b").replace("90", "-1").replace("10", "lots")
    complaint = kubectl.fails("apply", *how, "-f", "-", stdin=route)
    assert "spec.rules[0].backendRefs[0].weight: Invalid value: -1" in complaint
    assert 'spec.rules[0].backendRefs[1].weight: Invalid value: "lots"' in complaint
    assert "NotFound" in kubectl.fails("get", "httproute", "routes-to-llm")


def test_a_misspelt_field_is_refused_unless_told_otherwise(kubectl):
    typo = pool("p").replace("selector", "selektor", 1).replace("appProtocol", "appProtokoll")
    complaint = kubectl.fails("apply", "-f", "-", stdin=typo)
    assert 'unknown field "spec.selektor"' in complaint
    assert 'unknown field "spec.appProtokoll"' in complaint
    lenient = pool("p").replace("appProtocol", "appProtokoll")
    ran = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=lenient)
    assert ran.code == 0, ran.err
    assert 'Warning: unknown field "spec.appProtokoll"' in ran.err
    assert "appProtokoll" not in kubectl.json("infpool", "p")["spec"]


def test_of_two_manifests_the_good_one_is_applied_and_the_bad_one_is_not(kubectl):
    complaint = kubectl.fails("apply", "-f", "-", stdin=pool("bad", 0) + "---\n" + pool("good"))
    assert "bad" in complaint
    assert kubectl("get", "infpool", "-o", "name").endswith("/good\n")


def test_unknown_kinds_and_versions_are_told_before_anything_is_sent(kubectl):
    for line in ("kind: InferencePoool", "apiVersion: inference.networking.k8s.io/v9"):
        key = line.split(":")[0]
        lines = [line if old.startswith(key) else old for old in pool("p").splitlines()]
        complaint = kubectl.fails("apply", "-f", "-", stdin="\n".join(lines))
        assert "no matches for kind" in complaint


def test_older_groups_and_versions_are_applied_too(kubectl):
    old = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: old}
spec:
  selector: {app: old}
  targetPortNumber: 8000
  extensionRef: {name: epp}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]
  to: [{group: "", kind: Service}]
"""
    kubectl("apply", "-f", "-", stdin=old)
    assert kubectl("get", "inferencepools", "-o", "name") == ""
    assert kubectl("get", "inferencepools.inference.networking.x-k8s.io", "-o", "name")
    grant = kubectl.json("referencegrants.v1.gateway.networking.k8s.io", "grant")
    assert grant["apiVersion"] == "gateway.networking.k8s.io/v1"
