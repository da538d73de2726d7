"""What a client with a selector is told, so that its copy of the world stays right."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.store.selectors import parse_selector
from tidegate.store.watching import View

GOLD = parse_selector("tier=gold", "")

names = st.sampled_from("ab")
tiers = st.sampled_from(["gold", "tin"])
steps = st.lists(st.tuples(names, tiers | st.just("deleted")), max_size=20)


def thing(name, tier):
    return {"metadata": {"name": name, "labels": {"tier": tier}}}


def happen(world, name, tier):
    """Do one step to `world`; return what it was and to what, or None where it was nothing."""
    if tier == "deleted":
        return ("DELETED", world.pop(name)) if name in world else None
    change = "MODIFIED" if name in world else "ADDED"
    world[name] = thing(name, tier)
    return change, world[name]


def follow(client, event, obj):
    name = obj["metadata"]["name"]
    if event == "DELETED":
        client.pop(name, None)
    elif event:
        client[name] = obj


def matching(world):
    return {name: obj for name, obj in world.items() if GOLD.matches(obj)}


@given(past=steps, future=steps)
def test_from_a_list_on_a_client_knows_exactly_what_matches(past, future):
    world, view = {}, View(GOLD)
    for step in past:
        happen(world, *step)
    client = {name: obj for name, obj in world.items() if view.remember(obj)}
    assert client == matching(world)
    for step in future:
        if happened := happen(world, *step):
            event = view.see(*happened)
            if event == "ADDED":
                assert happened[1]["metadata"]["name"] not in client
            if event == "DELETED":
                assert happened[1]["metadata"]["name"] in client
            follow(client, event, happened[1])
        assert client == matching(world)


@given(past=steps, missed=steps)
def test_a_client_that_resumes_ends_up_knowing_exactly_what_matches(past, missed):
    """It knows what matched then; the view doesn't, and may delete what it never had."""
    world, view = {}, View(GOLD)
    for step in past:
        happen(world, *step)
    client = matching(world)
    for step in missed:
        if happened := happen(world, *step):
            follow(client, view.see(*happened), happened[1])
    assert client == matching(world)


def test_other_namespaces_are_out_of_sight():
    view = View(GOLD, "mine")
    inside = {"metadata": {"name": "a", "namespace": "mine", "labels": {"tier": "gold"}}}
    outside = {"metadata": {**inside["metadata"], "namespace": "yours"}}
    assert view.see("ADDED", inside) == "ADDED"
    assert view.see("ADDED", outside) is None
    assert not view.remember(outside)
