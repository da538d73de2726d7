from tidegate.controllers.conditions import condition, timestamp, with_times

OLD = timestamp(1_000.0)
NEW = timestamp(2_000.0)


def stored(status: str, kind: str = "Accepted") -> dict:
    return {**condition(kind, status, "Because", "", 1), "lastTransitionTime": OLD}  # type: ignore[arg-type]  # short


def test_a_condition_keeps_its_time_while_its_status_is_the_same():
    wanted = {"conditions": [condition("Accepted", "True", "Another", "other text", 2)]}
    merged = with_times(wanted, {"conditions": [stored("True")]}, 2_000.0)
    assert merged["conditions"][0]["lastTransitionTime"] == OLD
    assert merged["conditions"][0]["reason"] == "Another"


def test_a_condition_that_turned_gets_the_present_time():
    wanted = {"conditions": [condition("Accepted", "True", "Because", "", 1)]}
    merged = with_times(wanted, {"conditions": [stored("False")]}, 2_000.0)
    assert merged["conditions"][0]["lastTransitionTime"] == NEW


def test_conditions_are_told_apart_by_their_type():
    wanted = {
        "conditions": [condition(t, "True", "Because", "", 1) for t in ("Programmed", "Accepted")]
    }
    merged = with_times(wanted, {"conditions": [stored("True")]}, 2_000.0)
    assert [c["lastTransitionTime"] for c in merged["conditions"]] == [NEW, OLD]


def test_parents_are_found_by_reference_and_controller_whatever_is_defaulted():
    accepted = condition("Accepted", "True", "Accepted", "", 1)
    wanted = {
        "parents": [
            {"parentRef": {"name": "b"}, "controllerName": "us", "conditions": [accepted]},
            {"parentRef": {"name": "a"}, "controllerName": "us", "conditions": [accepted]},
        ]
    }
    current = {
        "parents": [
            {
                "parentRef": {
                    "group": "gateway.networking.k8s.io",
                    "kind": "Gateway",
                    "name": "a",
                },
                "controllerName": "us",
                "conditions": [stored("True")],
            },
            {"parentRef": {"name": "b"}, "controllerName": "them", "conditions": [stored("True")]},
        ]
    }
    merged = with_times(wanted, current, 2_000.0)
    assert [p["conditions"][0]["lastTransitionTime"] for p in merged["parents"]] == [NEW, OLD]


def test_listeners_are_found_by_name():
    ok = condition("Programmed", "True", "Programmed", "", 1)
    wanted = {"listeners": [{"name": "x", "conditions": [ok]}, {"name": "y", "conditions": [ok]}]}
    current = {"listeners": [{"name": "y", "conditions": [stored("True", "Programmed")]}]}
    merged = with_times(wanted, current, 2_000.0)
    assert [p["conditions"][0]["lastTransitionTime"] for p in merged["listeners"]] == [NEW, OLD]


def test_merging_twice_changes_nothing():
    wanted = {"conditions": [condition("Accepted", "True", "Because", "", 1)], "replicas": 3}
    once = with_times(wanted, None, 1_000.0)
    assert with_times(wanted, once, 9_000.0) == once
