"""Merge patches and JSON patches: the RFCs' own examples, and what must always hold."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.errors import BadRequestError, InvalidError
from tidegate.store import patches

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab/~", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc/~", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abcd"), json_values, max_size=4)

# RFC 7386, appendix A.
MERGE_EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), MERGE_EXAMPLES)
def test_a_merge_patch_does_what_the_rfc_shows(target, patch, result):
    assert patches.merge(target, patch) == result


def merge_as_the_rfc_writes_it(target, patch):
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = merge_as_the_rfc_writes_it(target.get(name), value)
        return target
    return patch


@given(target=json_values, patch=json_values)
def test_a_merge_patch_agrees_with_the_rfcs_pseudo_code(target, patch):
    wanted = merge_as_the_rfc_writes_it(copy.deepcopy(target), copy.deepcopy(patch))
    assert patches.merge(target, patch) == wanted


@given(target=json_values, patch=json_values)
def test_merging_twice_is_merging_once_and_changes_no_argument(target, patch):
    before = copy.deepcopy((target, patch))
    once = patches.merge(target, patch)
    assert patches.merge(once, patch) == once
    assert (target, patch) == before


# RFC 6902, appendix A.
JSON_EXAMPLES = [
    ({"foo": "bar"}, [("add", "/baz", "qux")], {"baz": "qux", "foo": "bar"}),
    ({"foo": ["bar", "baz"]}, [("add", "/foo/1", "qux")], {"foo": ["bar", "qux", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [("remove", "/baz")], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [("remove", "/foo/1")], {"foo": ["bar", "baz"]}),
    ({"baz": "qux"}, [("replace", "/baz", "boo")], {"baz": "boo"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [("move", "/qux/thud", "/foo/waldo")],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["all", "grass", "cows", "eat"]},
        [("move", "/foo/3", "/foo/1")],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [("test", "/baz", "qux"), ("test", "/foo/1", 2)],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        {"foo": "bar"},
        [("add", "/child", {"grandchild": {}})],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    ({"/": 9, "~1": 10}, [("test", "/~01", 10)], {"/": 9, "~1": 10}),
    ({"foo": ["bar"]}, [("add", "/foo/-", ["abc", "def"])], {"foo": ["bar", ["abc", "def"]]}),
    ({"foo": None}, [("replace", "/foo", 1)], {"foo": 1}),
    ({"foo": 1}, [("copy", "/bar", "/foo"), ("replace", "/foo", 2)], {"foo": 2, "bar": 1}),
    ({"foo": 1}, [("replace", "", [1])], [1]),
]


def operations(short):
    made = []
    for op, path, *rest in short:
        extra = {"from": rest[0]} if op in ("move", "copy") else {"value": rest[0]} if rest else {}
        made.append({"op": op, "path": path, **extra})
    return made


@pytest.mark.parametrize(("target", "patch", "result"), JSON_EXAMPLES)
def test_a_json_patch_does_what_the_rfc_shows(target, patch, result):
    before = copy.deepcopy(target)
    assert patches.apply_json(target, operations(patch)) == result
    assert target == before


@pytest.mark.parametrize(
    ("target", "patch", "path"),
    [
        ({"baz": "qux"}, [("test", "/baz", "bar")], "/baz"),
        ({"foo": "bar"}, [("add", "/baz/bat", "qux")], "/baz/bat"),
        ({"/": 9, "~1": 10}, [("test", "/~01", "10")], "/~01"),
        ({"a": True}, [("test", "/a", 1)], "/a"),
        ({"a": [1]}, [("add", "/a/2", 1)], "/a/2"),
        ({"a": [1]}, [("remove", "/a/01")], "/a/01"),
        ({"a": [1]}, [("replace", "/a/-", 1)], "/a/-"),
        ({"a": 1}, [("remove", "/b")], "/b"),
        ({"a": 1}, [("add", "/a/b", 1)], "/a/b"),
        ({"a": {"b": 1}}, [("move", "/a/b/c", "/a/b")], "/a/b/c"),
        ({"a": 1}, [("copy", "/b", "/missing")], "/missing"),
    ],
)
def test_an_operation_that_cannot_be_done_names_its_path(target, patch, path):
    with pytest.raises(InvalidError) as raised:
        patches.apply_json(target, operations(patch))
    assert raised.value.errors[0].path == path


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "add"},
        ["add"],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "move", "path": "/a"}],
        [{"op": "grow", "path": "/a", "value": 1}],
        [{"op": "remove", "path": "/a"}] * 10_001,
    ],
)
def test_what_is_no_json_patch_is_a_bad_request(patch):
    with pytest.raises(BadRequestError):
        patches.apply_json({"a": 1}, patch)


def pointer(*parts):
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


@given(target=objects, name=st.text("abc/~", max_size=3), value=json_values)
def test_what_was_added_is_found_and_can_be_taken_away(target, name, value):
    path = pointer(name)
    added = patches.apply_json(target, operations([("add", path, value), ("test", path, value)]))
    assert added == {**target, name: value}
    removed = patches.apply_json(added, operations([("remove", path)]))
    assert removed == {field: kept for field, kept in target.items() if field != name}
