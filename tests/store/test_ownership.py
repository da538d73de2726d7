"""Who owns which field, by hand-made cases and by what must always hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.errors import ConflictError, InvalidError
from tidegate.store import fieldset, ownership
from tidegate.store.ownership import Owner, Writer

STRING_MAP = {"type": "object", "additionalProperties": {"type": "string"}}
SCHEMA = ownership.object_schema(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer"},
                    "mode": {"type": "string"},
                    "nested": {
                        "type": "object",
                        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                    },
                    "atomic": {
                        "type": "object",
                        "x-kubernetes-map-type": "atomic",
                        "properties": {"a": {"type": "integer"}},
                    },
                    "free": STRING_MAP,
                    "rules": {"type": "array", "items": {"type": "object"}},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set"},
                    "listeners": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object",
                            "properties": {
                                "name": {"type": "string"},
                                "port": {"type": "integer"},
                                "free": STRING_MAP,
                            },
                        },
                    },
                },
            },
        },
    }
)
LIVE = {
    "apiVersion": "example.org/v1",
    "kind": "Thing",
    "metadata": {"name": "x", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
}


def applier(name, time="2026-01-01T00:00:00Z"):
    return Writer(Owner(name, "Apply"), time, "example.org/v1")


def updater(name, time="2026-01-01T00:00:00Z"):
    return Writer(Owner(name, "Update"), time, "example.org/v1")


def apply(state, config, name, *, force=False):
    live, owners = state
    return settled(ownership.apply(live, config, owners, applier(name), SCHEMA), force=force)


def settled(applying, *, force=False):
    return applying.object, applying.claim(applying.object, force=force)


def update(state, new, name):
    live, owners = state
    return new, ownership.update(live, new, owners, updater(name), SCHEMA)


def owned(state, name, operation="Apply"):
    entry = state[1].get(Owner(name, operation))
    return {fieldset.spell(path) for path in entry.fields} if entry else set()


START = (LIVE, {})


def spec(**fields):
    return {"spec": fields}


def test_an_applier_owns_what_it_says():
    config = {
        "metadata": {"labels": {"a": "1"}},
        **spec(size=1, rules=[{"x": 1}], listeners=[{"name": "http", "port": 80}]),
    }
    state = apply(START, config, "ann")
    assert owned(state, "ann") == {
        ".metadata.labels.a",
        ".spec.size",
        ".spec.rules",
        '.spec.listeners[name="http"]',
        '.spec.listeners[name="http"].name',
        '.spec.listeners[name="http"].port',
    }
    assert state[0]["metadata"]["name"] == "x"


def test_an_updater_owns_what_it_changed():
    state = update(START, {**LIVE, **spec(size=1, nested={"a": 1})}, "bob")
    created = owned(state, "bob", "Update")
    assert created == {".spec", ".spec.size", ".spec.nested", ".spec.nested.a"}
    state = update(state, {**LIVE, **spec(size=2, nested={"a": 1})}, "eve")
    assert owned(state, "eve", "Update") == {".spec.size"}
    assert ".spec.size" not in owned(state, "bob", "Update")


def test_what_an_update_removes_nobody_owns():
    state = apply(START, spec(size=1, mode="m"), "ann")
    state = update(state, {**LIVE, **spec(size=1)}, "bob")
    assert owned(state, "ann") == {".spec.size"}
    assert owned(state, "bob", "Update") == set()


def test_a_field_with_another_value_of_another_manager_conflicts():
    state = apply(START, spec(size=1, mode="m"), "ann")
    with pytest.raises(ConflictError) as raised:
        apply(state, spec(size=2, nested={"a": 1}), "bob")
    assert raised.value.owners == (("ann", ".spec.size"),)
    assert str(raised.value) == 'Apply failed with 1 conflict: conflict with "ann": .spec.size'


def test_conflicts_are_told_as_an_api_server_tells_them():
    state = apply(START, spec(size=1, mode="m"), "ann")
    state = update(state, {**state[0], **spec(size=1, mode="m", free={"k": "v"})}, "kubectl-edit")
    with pytest.raises(ConflictError) as raised:
        apply(state, spec(size=2, mode="n", free={"k": "w"}), "bob")
    assert str(raised.value) == (
        'Apply failed with 3 conflicts: conflicts with "ann":\n'
        "- .spec.mode\n- .spec.size\n"
        'conflicts with "kubectl-edit" using example.org/v1 at 2026-01-01T00:00:00Z:\n'
        "- .spec.free.k"
    )


def test_the_same_value_is_owned_together_and_goes_with_its_last_owner():
    state = apply(START, spec(size=1), "ann")
    state = apply(state, spec(size=1, mode="m"), "bob")
    assert ".spec.size" in owned(state, "ann") & owned(state, "bob")
    state = apply(state, spec(mode="m"), "bob")
    assert state[0]["spec"] == {"size": 1, "mode": "m"}
    state = apply(state, {}, "ann")
    assert state[0]["spec"] == {"mode": "m"}


def test_force_takes_the_field_over():
    state = apply(START, spec(size=1, mode="m"), "ann")
    state = apply(state, spec(size=2), "bob", force=True)
    assert state[0]["spec"] == {"size": 2, "mode": "m"}
    assert owned(state, "ann") == {".spec.mode"}
    assert owned(state, "bob") == {".spec.size"}


def test_what_an_applier_leaves_out_is_removed_with_its_emptied_parents():
    state = apply(START, spec(size=1, nested={"a": 1}, listeners=[{"name": "h"}]), "ann")
    state = apply(state, spec(size=1), "ann")
    assert state[0]["spec"] == {"size": 1}


def test_what_somebody_else_wrote_stays_when_an_applier_leaves():
    state = apply(START, spec(size=1, nested={"a": 1}), "ann")
    state = update(state, {**state[0], **spec(size=1, nested={"a": 1, "b": 2})}, "bob")
    state = apply(state, {}, "ann")
    assert state[0]["spec"] == {"nested": {"b": 2}}


def test_items_of_a_keyed_list_belong_to_their_appliers():
    state = apply(START, spec(listeners=[{"name": "http", "port": 80}]), "ann")
    state = apply(state, spec(listeners=[{"name": "tls", "port": 443}]), "bob")
    assert [item["name"] for item in state[0]["spec"]["listeners"]] == ["http", "tls"]
    state = apply(state, spec(listeners=[]), "ann")
    assert state[0]["spec"]["listeners"] == [{"name": "tls", "port": 443}]


def test_an_applier_orders_its_own_items():
    state = apply(START, spec(listeners=[{"name": "a"}, {"name": "b"}, {"name": "c"}]), "ann")
    state = apply(state, spec(listeners=[{"name": "x"}, {"name": "c"}]), "bob")
    state = apply(state, spec(listeners=[{"name": "c"}, {"name": "a"}, {"name": "b"}]), "ann")
    names = [item["name"] for item in state[0]["spec"]["listeners"]]
    assert sorted(names) == ["a", "b", "c", "x"]
    assert [name for name in names if name != "x"] == ["c", "a", "b"]


def test_an_atomic_list_is_one_field():
    state = apply(START, spec(rules=[{"a": 1}]), "ann")
    with pytest.raises(ConflictError) as raised:
        apply(state, spec(rules=[{"a": 1}, {"b": 2}]), "bob")
    assert raised.value.owners == (("ann", ".spec.rules"),)


def test_the_same_key_twice_is_refused():
    with pytest.raises(InvalidError) as raised:
        apply(START, spec(listeners=[{"name": "a"}, {"name": "a"}]), "ann")
    assert raised.value.errors[0].path == ".spec.listeners"


def test_what_was_there_before_ownership_was_tracked_is_not_taken_silently():
    live = {**LIVE, **spec(size=1, mode="m")}
    with pytest.raises(ConflictError) as raised:
        apply((live, {}), spec(size=2), "ann")
    assert raised.value.owners == (("before-first-apply", ".spec.size"),)


def test_a_status_entry_stands_beside_the_same_managers_other_entry():
    state = apply(START, spec(size=1), "ann")
    writer = Writer(Owner("ann", "Apply", "status"), "t", "example.org/v1")
    status = {"status": {"ready": True}}
    live, owners = settled(ownership.apply(state[0], status, state[1], writer, SCHEMA))
    assert live["spec"] == {"size": 1}
    entries = ownership.render(owners)
    assert [entry.get("subresource") for entry in entries] == [None, "status"]
    assert ownership.parse(entries) == owners


def test_entries_that_are_none_are_refused():
    for entry in (
        {"manager": "m", "operation": "Delete"},
        {"manager": "m", "operation": "Apply", "fieldsV1": {"x:a": {}}},
        {"manager": "m", "operation": "Apply", "fieldsV1": {"k:{": {}}},
        {"manager": "m", "operation": "Apply", "fieldsType": "FieldsV2"},
        7,
    ):
        with pytest.raises(InvalidError):
            ownership.parse([entry])


# Properties

small = st.integers(0, 2)
names = st.sampled_from(["a", "b", "c"])
texts = st.dictionaries(names, st.sampled_from(["x", "y"]), max_size=3)
listener = st.fixed_dictionaries({"name": names}, optional={"port": small, "free": texts})
specs = st.fixed_dictionaries(
    {},
    optional={
        "size": small,
        "mode": st.sampled_from(["m", "n"]),
        "nested": st.fixed_dictionaries({}, optional={"a": small, "b": small}),
        "atomic": st.fixed_dictionaries({}, optional={"a": small}),
        "free": texts,
        "rules": st.lists(st.fixed_dictionaries({"x": small}), max_size=2),
        "tags": st.lists(names, unique=True, max_size=3),
        "listeners": st.lists(listener, unique_by=lambda item: item["name"], max_size=3),
    },
)
configs = st.fixed_dictionaries(
    {}, optional={"metadata": st.fixed_dictionaries({"labels": texts}), "spec": specs}
)
managers = st.sampled_from(["ann", "bob", "eve"])
writes = st.lists(st.tuples(st.sampled_from(["apply", "update"]), managers, configs), max_size=6)


def play(events):
    state = START
    for sort, manager, config in events:
        if sort == "apply":
            state = apply(state, config, manager, force=True)
        else:
            metadata = {**LIVE["metadata"], **config.get("metadata", {})}
            state = update(state, {**LIVE, **config, "metadata": metadata}, manager)
    return state


def nodes(obj):
    return fieldset.nodes_of(ownership.owned_part(obj), SCHEMA)


@given(events=writes, config=configs)
def test_applying_twice_is_applying_once(events, config):
    once = apply(play(events), config, "ann", force=True)
    assert apply(once, config, "ann") == once


@given(events=writes)
def test_every_owned_field_exists(events):
    obj, owners = play(events)
    for owner, entry in owners.items():
        assert entry.fields, owner
        assert entry.fields <= nodes(obj), owner


@given(events=writes, config=configs)
def test_what_was_applied_is_there(events, config):
    obj, _ = apply(play(events), config, "ann", force=True)
    part = ownership.owned_part(obj)
    assert fieldset.merge(part, ownership.owned_part(config), SCHEMA) == part


@given(first=configs, second=configs)
def test_a_forced_apply_leaves_one_owner_of_what_it_changed(first, second):
    before = apply(START, first, "ann")
    after = apply(before, second, "bob", force=True)
    diff = fieldset.compare(ownership.owned_part(before[0]), ownership.owned_part(after[0]), SCHEMA)
    for path in diff.modified:
        owners = [o.manager for o, entry in after[1].items() if path in entry.fields]
        assert owners == ["bob"]


@given(first=configs, second=configs)
def test_a_conflict_is_raised_exactly_where_force_would_take_something(first, second):
    before = apply(START, first, "ann")
    forced = apply(before, second, "bob", force=True)
    lost = owned(before, "ann") - owned(forced, "ann")
    if not lost:
        assert apply(before, second, "bob") == forced
        return
    with pytest.raises(ConflictError) as raised:
        apply(before, second, "bob")
    assert {path for _, path in raised.value.owners} == lost


def split(value, schema, mine):
    """Return the part of `value` whose leaves `mine` picks, and the rest."""
    if fieldset.is_atomic(value, schema):
        raise AssertionError("only containers are split")
    halves = ({}, {})
    for name, child in value.items():
        halves[0 if mine(name) else 1][name] = child
    return halves


@given(
    config=specs, picks=st.sets(st.sampled_from(list(SCHEMA["properties"]["spec"]["properties"])))
)
def test_appliers_of_disjoint_fields_commute(config, picks):
    left, right = split(config, SCHEMA["properties"]["spec"], picks.__contains__)
    ann_first = apply(apply(START, {"spec": left}, "ann"), {"spec": right}, "bob")
    bob_first = apply(apply(START, {"spec": right}, "bob"), {"spec": left}, "ann")
    assert ann_first[0] == bob_first[0]
    assert ownership.same(ann_first[1], bob_first[1])


@given(left=texts, right=texts)
def test_appliers_of_different_labels_commute(left, right):
    ours = {"metadata": {"labels": {f"l-{name}": value for name, value in left.items()}}}
    theirs = {"metadata": {"labels": {f"r-{name}": value for name, value in right.items()}}}
    one = apply(apply(START, ours, "ann"), theirs, "bob")
    other = apply(apply(START, theirs, "bob"), ours, "ann")
    assert one[0] == other[0]
    assert ownership.same(one[1], other[1])


@given(config=configs)
def test_who_applied_all_and_then_nothing_leaves_nothing(config):
    obj, owners = apply(apply(START, config, "ann"), {}, "ann")
    assert nodes(obj) <= {(), ("f:metadata",), ("f:spec",)}
    assert owners == {}


@given(events=writes)
def test_managed_fields_read_back_as_they_were_written(events):
    _, owners = play(events)
    wire = json.loads(json.dumps(ownership.render(owners)))
    assert ownership.parse(wire) == owners
