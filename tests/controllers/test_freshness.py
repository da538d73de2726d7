"""What a pool's status says of its servers' metrics, and when that changes."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.controllers.freshness import FRESH_HOLD_S, HOLD_S, Freshness, Verdict
from tidegate.picker.pool import STALE_S
from tidegate.telemetry.heard import Heard

START = 1_700_000_000.0
GOOD = Verdict("True", "MetricsFresh", "")


class World:
    """A pool that is looked at each second."""

    def __init__(self, told: Verdict | None = None) -> None:
        self.now = START
        self.pool = Freshness(told)
        self.said: list[Verdict | None] = [told]
        """Each verdict that differs from the one before."""

    @property
    def verdict(self) -> Verdict | None:
        return self.pool.verdict

    def look(self, *heard: Heard, seconds: float = 0) -> "World":
        """Look once, or again and again for so long with nothing heard anew."""
        for passed in range(int(seconds) + 1):
            aged = [_older(each, passed) for each in heard]
            self.pool.look(aged, self.now)
            if self.verdict != self.said[-1]:
                self.said.append(self.verdict)
            self.now += 1
        return self


def _older(heard: Heard, seconds: float) -> Heard:
    age = None if heard.age_s is None else heard.age_s + seconds
    return Heard(heard.address, age, heard.blind)


def fresh(address: str) -> Heard:
    return Heard(address, 0.1)


def stale(address: str, age_s: float | None = STALE_S + 1) -> Heard:
    return Heard(address, age_s)


def blind(address: str) -> Heard:
    return Heard(address, 0.1, blind=True)


def test_fresh_metrics_are_said_at_once():
    assert World().look(fresh("a:1"), fresh("b:1")).verdict == GOOD


def test_metrics_that_end_are_said_with_whose_they_are_since_when_and_what_it_means():
    world = World().look(fresh("a:1"), fresh("b:1"))
    for _ in range(int(HOLD_S) + 1):
        world.look(fresh("a:1"), stale("b:1", 7.5 + world.now - START - 1))
    assert world.verdict is not None
    assert (world.verdict.status, world.verdict.reason) == ("False", "MetricsStale")
    for words in (
        "1 of 2 endpoints",
        "picked by the gateway's own counts alone",
        "b:1 (since 2023-11-14T22:13:13Z)",
        "Does /metrics answer there",
    ):
        assert words in world.verdict.message
    assert "a:1" not in world.verdict.message


def test_a_verdict_stays_word_for_word_while_metrics_stay_away():
    world = World().look(fresh("a:1"), fresh("b:1"))
    world.look(stale("a:1"), stale("b:1", None), seconds=600)
    assert [each and each.status for each in world.said] == [None, "True", "False", "False"]
    assert "a:1 (since " in world.verdict.message
    assert "b:1 (never since the workers started)" in world.verdict.message


def test_one_late_scrape_is_not_said():
    world = World().look(fresh("a:1"))
    world.look(stale("a:1"), seconds=HOLD_S - 1).look(fresh("a:1"))
    assert world.said == [None, GOOD]


def test_one_scrape_that_got_through_is_not_said_to_be_the_end_of_it():
    world = World().look(fresh("a:1")).look(stale("a:1"), seconds=HOLD_S)
    before = world.verdict
    world.look(Heard("a:1", 0.0), seconds=STALE_S + HOLD_S)
    assert world.verdict == before
    for _ in range(int(FRESH_HOLD_S) + 1):
        world.look(fresh("a:1"))
    assert world.verdict == GOOD


def test_an_endpoint_is_stale_only_if_no_worker_hears_it():
    world = World()
    for _ in range(20):
        world.look(stale("a:1"), stale("b:1", None), fresh("a:1"), fresh("b:1"))
    assert world.said == [None, GOOD]


def test_servers_without_metrics_are_no_failure():
    world = World()
    for _ in range(20):
        world.look(fresh("a:1"), blind("b:1"))
    assert (world.verdict.status, world.verdict.reason) == ("True", "SomeWithoutMetrics")
    assert "1 of 2 endpoints" in world.verdict.message
    assert "b:1. If they have metrics, is spec.engine" in world.verdict.message
    for _ in range(20):
        world.look(blind("a:1"), blind("b:1"))
    assert (world.verdict.status, world.verdict.reason) == ("Unknown", "NoMetrics")
    assert "2 of 2 endpoints" in world.verdict.message


def test_servers_without_metrics_may_be_heard_seldom():
    world = World().look(Heard("a:1", 0.0, blind=True), seconds=60)
    assert [each and each.reason for each in world.said] == [None, "NoMetrics"]


def test_a_failure_is_said_beside_servers_without_metrics():
    world = World()
    for _ in range(20):
        world.look(fresh("a:1"), stale("b:1"), blind("c:1"))
    assert (world.verdict.status, world.verdict.reason) == ("False", "MetricsStale")
    assert "1 of 3 endpoints, whose metrics are older than 5 s: b:1 " in world.verdict.message
    assert "Also 1 of 3 endpoints, which answer without metrics" in world.verdict.message


def test_of_many_addresses_a_few_are_said():
    world = World()
    for _ in range(20):
        world.look(*(stale(f"{name}:1") for name in "fedcba"))
    assert "a:1 (since" in world.verdict.message
    assert ", c:1 (since 2023-11-14T22:13:17Z) and 3 more. " in world.verdict.message
    assert "d:1" not in world.verdict.message


def test_endpoints_that_come_and_go_change_nothing_that_is_said():
    world = World().look(fresh("a:1"))
    world.look(fresh("a:1"), stale("new:1", None)).look(fresh("a:1"), fresh("new:1"))
    world.look(fresh("new:1"))
    assert world.said == [None, GOOD]


def test_an_endpoint_that_is_gone_is_said_no_more():
    world = World()
    for _ in range(20):
        world.look(fresh("a:1"), stale("b:1"))
    assert world.look(fresh("a:1")).verdict == GOOD


def test_a_pool_without_endpoints_is_unknown_if_it_stays_so():
    world = World().look(fresh("a:1")).look(seconds=HOLD_S - 1)
    assert world.verdict == GOOD
    world.look()
    assert (world.verdict.status, world.verdict.reason) == ("Unknown", "NoEndpoints")


def test_a_controller_that_starts_says_what_was_said_until_it_knows_better():
    bad = Verdict("False", "MetricsStale", "as before")
    world = World(bad).look(fresh("a:1"), stale("b:1"))
    assert world.verdict is bad
    assert World(bad).look(fresh("a:1"), fresh("b:1")).verdict == GOOD


looks = st.lists(
    st.tuples(*[st.sampled_from([fresh, stale, blind])] * 2, st.integers(1, 20)), max_size=30
)


@given(looks)
def test_whatever_comes_a_verdict_holds_for_some_seconds(steps):
    world, changed_at = World().look(fresh("a:1"), fresh("b:1")), []
    for one, other, seconds in steps:
        for _ in range(seconds):
            said = len(world.said)
            world.look(one("a:1"), other("b:1"))
            if len(world.said) > said:
                changed_at.append(world.now)
    # Two endpoints: of three changes two are the same endpoint's.
    assert all(c - a >= HOLD_S for a, c in zip(changed_at, changed_at[2:], strict=False))
