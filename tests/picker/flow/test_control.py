"""Strictness, bounds, deadlines, and that nobody gets lost."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.picker.flow.control import FlowControl, Look, Offer
from tidegate.picker.flow.settings import BandSettings, FlowSettings
from tidegate.picker.flow.waiter import Waiter

ANY_LIMIT = tuple(BandSettings(priority=p, usage_limit=1.0) for p in (-1, 0, 1))
"""Bands that all may fill the servers, so that only order decides."""


class Places:
    """Room for so many requests."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.looks = 0

    def look(self, now: float, limit: float) -> Look:
        self.looks += 1
        return Look(0.0 if self.free > 0 else 1.0, max(0, self.free))


class Usage:
    """Room that is so much used."""

    def __init__(self, least: float) -> None:
        self.least = least

    def look(self, now: float, limit: float) -> Look:
        return Look(self.least, 0)


def request(
    priority: int = 0, tenant: bytes = b"a", *, at: float = 0.0, ttl: float = 60.0, size: int = 1
) -> Waiter:
    return Waiter(
        priority=priority, tenant=tenant, cost=1, size=size, arrived_at=at, deadline=at + ttl
    )


def full(limits: FlowSettings | None = None) -> tuple[FlowControl, Places]:
    places = Places(0)
    return FlowControl(limits or FlowSettings(priority_bands=ANY_LIMIT), places), places


def served(flow: FlowControl, places: Places, count: int, now: float = 1.0) -> list[Waiter]:
    """Free `count` places, one after the other, and return who got them."""
    taken = []
    for _ in range(count):
        places.free += 1
        while (waiter := flow.take(now)) is not None:
            places.free -= 1
            taken.append(waiter)
    return taken


def test_with_room_a_request_goes_on_and_nothing_is_kept():
    flow = FlowControl(FlowSettings(), Places(100))
    assert all(flow.open(priority, 0.0) for priority in (-5, 0, 5))
    assert flow.size == 0
    assert not any(flow.waiting().values())


def test_while_there_is_much_room_few_looks_are_taken():
    places = Places(50)
    flow = FlowControl(FlowSettings(), places)
    for _ in range(50):
        assert flow.open(0, 0.0)
    assert places.looks <= 2


def test_a_look_is_not_believed_for_long():
    places = Places(50)
    flow = FlowControl(FlowSettings(), places)
    assert flow.open(0, 0.0)
    places.free = 0
    assert flow.open(0, 0.001)
    assert not flow.open(0, 1.0)


def test_higher_priorities_go_first_whoever_came_first():
    flow, places = full()
    low, middle, high = request(-1), request(0), request(1)
    for one in (low, middle, high):
        assert flow.offer(one, 0.0) == Offer("")
    assert served(flow, places, 3) == [high, middle, low]


def test_room_does_not_let_a_request_pass_one_of_its_own_priority():
    flow, places = full()
    first = request()
    flow.offer(first, 0.0)
    places.free = 1
    assert not flow.open(0, 1.0)
    assert flow.open(1, 1.0)


def test_lower_priorities_leave_some_room_to_higher_ones():
    flow = FlowControl(FlowSettings(), Usage(0.9))
    assert not flow.open(-1, 0.0)
    assert flow.open(0, 0.0)
    flow = FlowControl(FlowSettings(), Usage(0.97))
    assert not flow.open(0, 0.0)
    assert flow.open(1, 0.0)


def test_shadows_stop_before_anybody_has_to_wait():
    assert FlowControl(FlowSettings(), Usage(0.6)).spare(0.0)
    assert not FlowControl(FlowSettings(), Usage(0.75)).spare(0.0)
    flow, places = full()
    flow.offer(request(), 0.0)
    places.free = 100
    assert not flow.spare(1.0)


def test_a_tenant_that_floods_does_not_starve_the_others_of_its_priority():
    flow, places = full()
    for _ in range(100):
        flow.offer(request(tenant=b"flood"), 0.0)
    quiet = [request(tenant=b"quiet") for _ in range(3)]
    for one in quiet:
        flow.offer(one, 0.0)
    assert set(quiet) <= set(served(flow, places, 7))


def test_a_full_band_refuses_the_tenant_that_filled_it_and_takes_another():
    bands = (BandSettings(priority=0, max_requests=3),)
    flow, places = full(FlowSettings(priority_bands=bands))
    mine = [request(tenant=b"flood") for _ in range(3)]
    for one in mine:
        flow.offer(one, 0.0)
    assert flow.offer(request(tenant=b"flood"), 0.0) == Offer("rejected")
    other = request(tenant=b"other")
    assert flow.offer(other, 0.0) == Offer("", (mine[-1],))
    assert mine[-1].outcome == "evicted"
    assert other in served(flow, places, 3)


def test_full_queues_evict_the_newest_of_the_lowest_priority_for_a_higher_one():
    flow, _ = full(FlowSettings(priority_bands=ANY_LIMIT, max_requests=3))
    low, lower, newest = request(0), request(-1), request(-1)
    for one in (low, lower, newest):
        flow.offer(one, 0.0)
    assert flow.offer(request(1), 0.0) == Offer("", (newest,))
    assert flow.offer(request(-1), 0.0) == Offer("rejected")
    assert flow.offer(request(1), 0.0) == Offer("", (lower,))


def test_nobody_is_evicted_for_a_request_that_would_not_fit_anyway():
    flow, _ = full(FlowSettings(priority_bands=ANY_LIMIT, max_bytes=10))
    flow.offer(request(1, size=8), 0.0)
    low = request(0, size=2)
    flow.offer(low, 0.0)
    assert flow.offer(request(1, b"b", size=5), 0.0) == Offer("rejected")
    assert low.outcome == ""


def test_a_request_that_waited_too_long_expires_and_takes_no_place():
    flow, places = full()
    short, long = request(ttl=1.0), request(ttl=60.0)
    flow.offer(short, 0.0)
    flow.offer(long, 0.0)
    assert flow.next_deadline == 1.0
    assert served(flow, places, 1, now=2.0) == [long]
    assert flow.expire(2.0) == [short]
    assert short.outcome == "expired"
    assert flow.expire(3.0) == []


def test_a_client_that_left_waits_no_more():
    flow, places = full()
    gone, stays = request(), request()
    flow.offer(gone, 0.0)
    flow.offer(stays, 0.0)
    flow.withdraw(gone)
    flow.withdraw(gone)
    assert served(flow, places, 2) == [stays]


def test_retry_after_grows_with_what_waits_before_one():
    flow, places = full()
    for number in range(400):
        flow.offer(request(at=number / 10), number / 10)
    for number in range(100):
        served(flow, places, 1, now=10.0 + number / 10)
    before, above = flow.retry_after(0), flow.retry_after(1)
    assert 25 <= before <= 35, "300 wait, and ten a second go on"
    assert above == 1


def test_a_quiet_time_says_nothing_of_the_queues_pace():
    flow, places = full()
    for at in (0.0, 1000.0):
        for _ in range(10):
            flow.offer(request(at=at), at)
        for number in range(5):
            served(flow, places, 1, now=at + 0.1 * (number + 1))
        served(flow, places, 5, now=at + 0.6)
    assert flow.retry_after(0) == 1


def test_running_sheddable_work_is_cut_for_one_that_waits_too_long_and_the_newest_first():
    limits = FlowSettings(enable_eviction=True, priority_bands=ANY_LIMIT)
    places = Places(2)
    flow = FlowControl(limits, places)
    old, new = request(-1), request(-1)
    for one in (old, new):
        assert flow.offer(one, 0.0) == Offer("dispatched")
    places.free = 0
    flow.offer(request(0, at=1.0), 1.0)
    assert flow.cut(1.2) is None
    assert flow.cut(1.6) is new
    assert flow.cut(1.6) is None, "one is cut for one that waits"
    places.free = 1
    assert flow.take(1.7) is not None
    flow.ended(old)
    flow.offer(request(0, at=2.0), 2.0)
    assert flow.cut(9.0) is None, "what has ended can't be cut"


def test_nothing_running_is_cut_where_nobody_asked_for_it():
    flow = FlowControl(FlowSettings(priority_bands=ANY_LIMIT), places := Places(1))
    flow.offer(request(-1), 0.0)
    places.free = 0
    flow.offer(request(0, at=1.0), 1.0)
    assert flow.cut(50.0) is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(-1, 1), st.sampled_from([b"a", b"b"]),
                  st.integers(1, 4), st.integers(0, 4)),
        st.tuples(st.just("free"), st.integers(1, 2)),
        st.tuples(st.just("wait"), st.integers(1, 3)),
        st.tuples(st.just("leave"), st.integers(0, 100)),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=100)
@given(steps)
def test_each_request_ends_exactly_once_in_bounds_and_never_before_a_higher_one(
    script: list[tuple],
):
    bands = (*ANY_LIMIT[:2], BandSettings(priority=1, usage_limit=1.0, max_requests=4))
    limits = FlowSettings(max_requests=8, max_bytes=14, priority_bands=bands)
    flow, places = full(limits)
    now, offered, ended = 0.0, [], Counter[Waiter]()
    for step in script:
        match step:
            case ("offer", priority, tenant, size, ttl):
                waiter = request(priority, tenant, at=now, ttl=ttl, size=size)
                offered.append(waiter)
                offer = flow.offer(waiter, now)
                ended.update(offer.evicted)
                assert all(one.priority <= priority for one in offer.evicted)
                if offer.outcome == "dispatched":
                    places.free -= 1
                ended.update([waiter] if offer.outcome else [])
            case ("free", more):
                places.free += more
                while (taken := flow.take(now)) is not None:
                    places.free -= 1
                    ended[taken] += 1
                    assert taken.deadline > now
                    assert taken.priority >= flow.top
                places.free = 0
            case ("wait", seconds):
                now += seconds
                late = flow.expire(now)
                ended.update(late)
                assert all(one.deadline <= now for one in late)
            case ("leave", which):
                waiting = [one for one in offered if not one.outcome]
                if waiting:
                    one = waiting[which % len(waiting)]
                    flow.withdraw(one)
                    ended[one] += 1
        waiting = [one for one in offered if not one.outcome]
        assert flow.size == len(waiting) <= 8
        assert flow.bytes == sum(one.size for one in waiting) <= 14
        assert sum(one.priority == 1 for one in waiting) <= 4
        assert flow.waiting() == {**dict.fromkeys(flow.waiting(), 0),
                                  **Counter(one.priority for one in waiting)}  # fmt: skip
    now += 100.0
    ended.update(flow.expire(now))
    assert flow.size == 0
    assert set(ended) == set(offered)
    assert set(ended.values()) <= {1}
