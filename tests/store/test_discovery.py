"""What the API says of itself, in the forms that clients of all ages ask for."""

import json

from tidegate.api.scheme import SCHEME
from tidegate.store import discovery, openapi


def resources(document):
    return {
        (item["metadata"].get("name", ""), version["version"], resource["resource"])
        for item in document["items"]
        for version in item["versions"]
        for resource in version["resources"]
    }


def test_every_kind_is_served_in_each_of_its_versions():
    wanted = {(kind.group, v, kind.plural) for kind in SCHEME for v in kind.versions}
    found = resources(discovery.aggregated(core=True)) | resources(discovery.aggregated(core=False))
    assert found == wanted


def test_both_forms_of_discovery_say_the_same():
    plain = set()
    for group in ["", *discovery.groups()]:
        for version in discovery.versions(group):
            for entry in discovery.resource_list(group, version)["resources"]:
                if "/" not in entry["name"]:
                    plain.add((group, version, entry["name"]))
    found = resources(discovery.aggregated(core=True)) | resources(discovery.aggregated(core=False))
    assert found == plain
    named = [group["name"] for group in discovery.group_list()["groups"]]
    assert named == [item["metadata"]["name"] for item in discovery.aggregated(core=False)["items"]]


def test_names_that_two_groups_share_mean_the_newer_one():
    order = discovery.groups()
    for kind in SCHEME:
        if kind.group == "inference.networking.x-k8s.io":
            newer = [k.group for k in SCHEME if k.plural == kind.plural and k is not kind]
            assert all(order.index(group) < order.index(kind.group) for group in newer)


def test_no_two_kinds_share_a_short_name():
    names = [name for kind in SCHEME for name in kind.short_names]
    assert len(names) == len(set(names))


def test_documents_have_a_schema_and_a_patch_for_every_kind():
    described = set()
    for path in openapi.index()["paths"]:
        document = json.loads(openapi.document(path))
        schemas = document["components"]["schemas"]
        assert set(_references(document)) <= {f"#/components/schemas/{name}" for name in schemas}
        for schema in schemas.values():
            for gvk in schema.get("x-kubernetes-group-version-kind", ()):
                described.add((gvk["group"], gvk["version"], gvk["kind"]))
        for operations in document["paths"].values():
            patch = operations.get("patch")
            if patch:
                names = [parameter["name"] for parameter in patch["parameters"]]
                assert "fieldValidation" in names
    assert described >= {(k.group, v, k.kind) for k in SCHEME for v in k.versions}


def test_no_list_repeats_its_description_for_its_items():
    def lists(value):
        if isinstance(value, dict):
            if isinstance(value.get("items"), dict) and "description" in value:
                yield value
            for child in value.values():
                yield from lists(child)

    for path in openapi.index()["paths"]:
        found = list(lists(json.loads(openapi.document(path))))
        assert found
        assert all(each["items"].get("description") != each["description"] for each in found)


def _references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def test_a_document_keeps_its_url_as_long_as_it_keeps_its_content():
    paths = openapi.index()["paths"]
    urls = {entry["serverRelativeURL"] for entry in paths.values()}
    assert len(urls) == len(paths)
    openapi.document.cache_clear()
    openapi.digest.cache_clear()
    assert openapi.index()["paths"] == paths
