"""Strategic merge patches, as kubectl computes them for built-in kinds."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.errors import BadRequestError
from tidegate.store.patches import merge
from tidegate.store.strategic import merge_strategic

HTTP, TLS = {"name": "http", "port": 80}, {"name": "tls", "port": 443}


def service(*ports, **metadata):
    return {"metadata": metadata, "spec": {"ports": list(ports), "selector": {"a": "b"}}}


@pytest.mark.parametrize(
    ("old", "patch", "new"),
    [
        ([HTTP], [{"port": 80, "name": "web"}], [{"name": "web", "port": 80}]),
        ([HTTP], [TLS], [HTTP, TLS]),
        ([HTTP, TLS], [{"port": 80, "$patch": "delete"}], [TLS]),
        ([HTTP], [{"port": 443, "$patch": "delete"}], [HTTP]),
        ([HTTP], [{"$patch": "replace"}, TLS], [TLS]),
        ([HTTP], [{"port": 80, "name": None}], [{"port": 80}]),
        ([], [HTTP], [HTTP]),
    ],
)
def test_ports_are_merged_one_by_one(old, patch, new):
    assert merge_strategic(service(*old), {"spec": {"ports": patch}}) == service(*new)


def test_the_order_of_items_can_be_said():
    patch = {"spec": {"ports": [TLS], "$setElementOrder/ports": [{"port": 443}, {"port": 80}]}}
    assert merge_strategic(service(HTTP), patch) == service(TLS, HTTP)


def test_plain_values_are_added_once_and_deleted_by_name():
    old = service(finalizers=["a", "b"])
    added = merge_strategic(old, {"metadata": {"finalizers": ["b", "c"]}})
    assert added["metadata"]["finalizers"] == ["a", "b", "c"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert merge_strategic(added, patch)["metadata"]["finalizers"] == ["b", "c"]


def test_maps_are_replaced_deleted_or_cut_down_to_keys():
    old = {"data": {"a": "1", "b": "2"}}
    assert merge_strategic(old, {"data": {"$patch": "replace", "c": "3"}}) == {"data": {"c": "3"}}
    assert merge_strategic(old, {"data": {"$patch": "delete"}}) == {}
    kept = merge_strategic(old, {"data": {"$retainKeys": ["a", "c"], "c": "3"}})
    assert kept == {"data": {"a": "1", "c": "3"}}


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"ports": [{"name": "no-key"}]}},
        {"spec": {"ports": ["text"]}},
        {"spec": {"$setElementOrder/ports": 3}},
        {"metadata": {"$retainKeys": "name"}},
    ],
)
def test_malformed_directives_are_refused(patch):
    with pytest.raises(BadRequestError):
        merge_strategic(service(HTTP), patch)


names = st.sampled_from("abc")
values = st.recursive(
    st.none() | st.integers(), lambda inner: st.dictionaries(names, inner, max_size=3)
)
objects = st.dictionaries(names, values, max_size=3)


@given(objects, objects)
def test_without_lists_and_directives_it_is_a_merge_patch(target, patch):
    before = copy.deepcopy((target, patch))
    assert merge_strategic(target, patch) == merge(target, patch)
    assert (target, patch) == before
