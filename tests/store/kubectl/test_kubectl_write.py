"""`kubectl create`, `edit`, `patch`, `scale`, `label`, `replace`, `delete`."""

import dataclasses
import json

import pytest

from tidegate.process.clock import now
from tidegate.store.credentials import ensure_credentials

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}, labels: {{set: {group}}}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  targetPorts: [{{number: {port}}}]
"""

SERVER = """\
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {name: m}
spec: {replicas: 2, simulator: {}}
"""


def pool(name="p", port=8000, group="one"):
    return POOL.format(name=name, port=port, group=group)


def port(kubectl, name="p"):
    return kubectl.json("infpool", name)["spec"]["targetPorts"][0]["number"]


def names(kubectl, *args):
    return [line.split("/")[1] for line in kubectl("get", *args, "-o", "name").split()]


@pytest.fixture
def pools(kubectl):
    manifests = [pool("p"), pool("q"), pool("r", group="two")]
    kubectl("create", "-f", "-", stdin="---\n".join(manifests))
    return kubectl


def test_an_edit_is_applied_when_the_editor_closes(pools):
    editor = dataclasses.replace(pools, environment={"EDITOR": "sed -i 's/8000/9000/'"})
    assert "edited" in editor("edit", "infpool", "p")
    assert port(pools) == 9000
    unchanged = dataclasses.replace(pools, environment={"EDITOR": "true"})
    assert "Edit cancelled" in unchanged.run("edit", "infpool", "p").err


def test_an_invalid_edit_comes_back_to_the_editor_with_the_reason(pools, tmp_path):
    seen = tmp_path / "seen"
    script = tmp_path / "editor"
    script.write_text(f'#!/bin/sh\ncat "$1" >> {seen}\nsed -i "s/number: 8000/number: 0/" "$1"\n')
    script.chmod(0o755)
    editor = dataclasses.replace(pools, environment={"EDITOR": str(script)})
    editor.fails("edit", "infpool", "p")
    assert "spec.targetPorts[0].number: Invalid value: 0" in seen.read_text()
    assert port(pools) == 8000


def test_merge_and_json_patches(pools):
    merge = {"spec": {"targetPorts": [{"number": 1}]}, "metadata": {"labels": {"set": None}}}
    assert "patched" in pools("patch", "infpool", "p", "--type=merge", "-p", json.dumps(merge))
    assert port(pools) == 1
    assert not pools.json("infpool", "p")["metadata"].get("labels")
    operations = [
        {"op": "test", "path": "/spec/targetPorts/0/number", "value": 1},
        {"op": "add", "path": "/spec/targetPorts/-", "value": {"number": 2}},
    ]
    patch = ("patch", "infpool", "p", "--type=json", "-p")
    assert "patched" in pools(*patch, json.dumps(operations))
    assert len(pools.json("infpool", "p")["spec"]["targetPorts"]) == 2
    assert "(no change)" in pools("patch", "infpool", "q", "--type=merge", "-p", "{}")


def test_a_patch_that_fails_changes_nothing(pools):
    before = pools.json("infpool", "p")
    json_patch = ("patch", "infpool", "p", "--type=json", "-p")
    failing = [
        {"op": "replace", "path": "/spec/targetPorts/0/number", "value": 1},
        {"op": "test", "path": "/metadata/name", "value": "other"},
    ]
    pools.fails(*json_patch, json.dumps(failing))
    pools.fails(*json_patch, '[{"op": "remove", "path": "/spec/nope"}]')
    pools.fails("patch", "infpool", "p", "--type=merge", "-p", '{"spec": {"targetPorts": []}}')
    pools.fails("patch", "infpool", "p", "--type=merge", "-p", '{"metadata": {"name": "x"}}')
    assert pools.json("infpool", "p") == before


def test_a_strategic_patch_of_our_kinds_says_what_to_use(pools):
    complaint = pools.fails("patch", "infpool", "p", "-p", '{"spec": {}}')
    assert "application/strategic-merge-patch+json is not supported" in complaint
    assert "application/merge-patch+json" in complaint


def test_a_status_is_patched_without_the_spec(pools):
    patch = '{"status": {"parents": []}, "spec": {"targetPorts": [{"number": 1}]}}'
    command = ("patch", "infpool", "p", "--type=merge", "-p", patch)
    pools(*command, "--subresource=status")
    found = pools.json("infpool", "p")
    assert (found["status"], port(pools)) == ({"parents": []}, 8000)
    assert found["metadata"]["generation"] == 1


def test_model_servers_are_scaled(kubectl):
    kubectl("create", "-f", "-", stdin=SERVER)
    assert "scaled" in kubectl("scale", "modelserver/m", "--replicas=3")
    assert kubectl.json("msrv", "m")["spec"]["replicas"] == 3
    kubectl("scale", "msrv", "m", "--replicas=5", "--current-replicas=3")
    assert kubectl.json("msrv", "m")["spec"]["replicas"] == 5
    wrong = kubectl.fails("scale", "msrv", "m", "--replicas=9", "--current-replicas=3")
    assert "Expected replicas to be 3, was 5" in wrong
    assert "not found" in kubectl.fails("scale", "msrv/nope", "--replicas=1")


def test_pools_have_no_scale(pools):
    assert "NotFound" in pools.fails("scale", "infpool/p", "--replicas=1")


def test_labels_and_annotations(pools):
    pools("label", "infpool", "--all", "new=yes")
    assert names(pools, "infpool", "-l", "new=yes") == ["p", "q", "r"]
    assert "already has a value" in pools.fails("label", "infpool", "p", "new=no")
    pools("label", "infpool", "p", "new-")
    pools("annotate", "infpool", "p", "note=hello world")
    metadata = pools.json("infpool", "p")["metadata"]
    assert metadata["labels"] == {"set": "one"}
    assert metadata["annotations"] == {"note": "hello world"}
    assert metadata["generation"] == 1


def test_a_replacement_needs_the_newest_version_or_none(pools):
    old = pools.json("infpool", "p")
    pools("replace", "-f", "-", stdin=pool("p", 9000))
    assert port(pools) == 9000
    complaint = pools.fails("replace", "-f", "-", stdin=json.dumps(old))
    assert "the object has been modified" in complaint
    assert "NotFound" in pools.fails("replace", "-f", "-", stdin=pool("nope"))


def test_what_exists_is_not_created_again(pools):
    assert "AlreadyExists" in pools.fails("create", "-f", "-", stdin=pool("p", 9000))
    assert port(pools) == 8000
    generated = pool().replace("name: p,", "generateName: gen-,", 1)
    made = [pools("create", "-f", "-", stdin=generated) for _ in range(2)]
    assert made[0] != made[1]
    assert "/gen-" in made[0]


def test_deletions_by_name_label_file_and_all(pools):
    assert '"p" deleted' in pools("delete", "infpool", "p")
    assert names(pools, "infpool") == ["q", "r"]
    assert "NotFound" in pools.fails("delete", "infpool", "p")
    assert pools("delete", "infpool", "p", "--ignore-not-found") == ""
    pools("delete", "infpool", "-l", "set=two")
    assert names(pools, "infpool") == ["q"]
    pools("delete", "-f", "-", stdin=pool("q"))
    pools("create", "-f", "-", stdin=pool("p") + "---\n" + pool("q"))
    pools("delete", "infpool", "--all", "--wait=false")
    assert names(pools, "infpool") == []


def test_a_deletion_waits_for_finalizers(pools):
    hold = '{"metadata": {"finalizers": ["example.com/hold"]}}'
    release = '{"metadata": {"finalizers": null}}'
    pools("patch", "infpool", "p", "--type=merge", "-p", hold)
    pools("delete", "infpool", "p", "--wait=false")
    assert pools.json("infpool", "p")["metadata"]["deletionTimestamp"]
    assert "timed out" in pools.fails("delete", "infpool", "p", "--timeout=1s")
    pools("patch", "infpool", "p", "--type=merge", "-p", release)
    assert "NotFound" in pools.fails("get", "infpool", "p")


def test_a_namespace_goes_with_its_contents(pools, namespace):
    assert "Active" in pools("get", "namespace", namespace)
    pools("delete", "namespace", namespace)
    assert names(pools, "infpool") == []
    complaint = pools.fails("create", "-f", "-", stdin=pool())
    assert f'namespaces "{namespace}" not found' in complaint
    assert "Forbidden" in pools.fails("delete", "namespace", "default")


def test_secrets_config_maps_and_services_are_created_from_the_command_line(kubectl, tmp_path):
    pair = ensure_credentials(tmp_path / "tls", host="127.0.0.1", port=1, now=now())
    certificate, key = pair.certificate_path, pair.key_path
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b", "--from-literal=empty=")
    kubectl("create", "secret", "tls", "t", f"--cert={certificate}", f"--key={key}")
    kubectl("create", "configmap", "c", "--from-literal=a=ä", f"--from-file={certificate}")
    kubectl("create", "service", "externalname", "e", "--external-name=api.example", "--tcp=443")
    kubectl("create", "service", "clusterip", "i", "--tcp=80:8080")
    assert kubectl.json("secret", "s")["data"] == {"a": "Yg==", "empty": ""}
    assert kubectl.json("secret", "t")["type"] == "kubernetes.io/tls"
    assert kubectl.json("cm", "c")["data"] == {"a": "ä", "server.crt": certificate.read_text()}
    external = kubectl.json("svc", "e")["spec"]
    assert (external["type"], external["externalName"]) == ("ExternalName", "api.example")
    assert external["ports"][0]["port"] == 443
    internal = kubectl.json("svc", "i")["spec"]
    assert internal["selector"] == {"app": "i"}
    assert internal["ports"][0]["targetPort"] == 8080
    for kind in ("secret", "configmap", "service"):
        assert "Name:" in kubectl("describe", kind)


def test_built_in_kinds_are_applied_labelled_edited_and_patched_as_on_a_cluster(kubectl):
    """kubectl computes strategic merge patches for these."""
    service = """
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  selector: {app: s}
  ports: [{name: http, port: 80}, {name: tls, port: 443}]
"""
    kubectl("apply", "-f", "-", stdin=service)
    kubectl(
        "apply", "-f", "-", stdin=service.replace("{name: tls, port: 443}", "").replace(", ]", "]")
    )
    assert [p["name"] for p in kubectl.json("svc", "s")["spec"]["ports"]] == ["http"]
    kubectl("patch", "svc", "s", "-p", '{"spec": {"ports": [{"port": 443, "name": "tls"}]}}')
    assert {p["port"] for p in kubectl.json("svc", "s")["spec"]["ports"]} == {80, 443}
    kubectl("label", "svc", "s", "a=b")
    editor = dataclasses.replace(kubectl, environment={"EDITOR": "sed -i 's/a: b/a: c/'"})
    editor("edit", "svc", "s")
    assert kubectl.json("svc", "s")["metadata"]["labels"] == {"a": "c"}
    settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1', b: '2'}\n"
    kubectl("apply", "-f", "-", stdin=settings)
    kubectl("apply", "-f", "-", stdin=settings.replace(", b: '2'", ""))
    assert kubectl.json("cm", "c")["data"] == {"a": "1"}
