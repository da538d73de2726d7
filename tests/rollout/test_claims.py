"""Who has a rule."""

from tidegate.rollout.claims import Claim, owners


def claim(name: str, created: str = "2026-01-01", **more: object) -> Claim:
    return Claim(name, str(more.pop("target", "HTTPRoute/r/0")), created, bool(more.get("moving")))


def test_the_oldest_has_the_rule():
    assert owners([claim("b", "2026-02-01"), claim("a", "2026-01-01")]) == {"b": "a"}


def test_one_that_moves_keeps_it():
    assert owners([claim("new", "2026-02-01", moving=True), claim("old")]) == {"old": "new"}


def test_other_rules_and_unknown_ones_are_free():
    assert owners([claim("a"), claim("b", target="HTTPRoute/r/1"), claim("c", target="")]) == {}


def test_one_that_is_over_waits_for_whoever_has_it_and_has_nothing():
    over = Claim("done", "HTTPRoute/r/0", "2025-01-01", moving=False, over=True)
    assert owners([over, claim("a")]) == {"done": "a"}
    assert owners([over]) == {}
