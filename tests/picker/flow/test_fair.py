"""Fairness between tenants, whatever they send."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.flow.fair import FairQueue
from tidegate.picker.flow.waiter import Waiter

tenants = st.sampled_from([b"a", b"b", b"c"])
costs = st.integers(1, 100)


def waiting(tenant: bytes, cost: float = 1.0, size: int = 0) -> Waiter:
    return Waiter(
        priority=0, tenant=tenant, cost=cost, size=size, arrived_at=0.0, deadline=float("inf")
    )


def drained(queue: FairQueue) -> list[Waiter]:
    return [queue.take() for _ in range(len(queue))]


@given(st.lists(st.tuples(tenants, costs), max_size=40))
def test_tenants_that_both_wait_never_differ_by_more_than_one_request_each(
    sent: list[tuple[bytes, int]],
):
    queue = FairQueue()
    for tenant, cost in sent:
        queue.add(waiting(tenant, cost))
    largest = {t: max((c for name, c in sent if name == t), default=0) for t in (b"a", b"b", b"c")}
    given_to: defaultdict[bytes, float] = defaultdict(float)
    while len(queue):
        backlogged = [t for t in (b"a", b"b", b"c") if queue.backlog(t)]
        for one in backlogged:
            for other in backlogged:
                gap = abs(given_to[one] - given_to[other])
                assert gap <= largest[one] + largest[other]
        taken = queue.take()
        given_to[taken.tenant] += taken.cost


@given(st.lists(st.tuples(tenants, costs), max_size=40))
def test_a_tenants_own_requests_keep_their_order_and_none_is_lost(sent: list[tuple[bytes, int]]):
    queue, order = FairQueue(), defaultdict(list)
    for tenant, cost in sent:
        waiter = waiting(tenant, cost)
        order[tenant].append(waiter)
        queue.add(waiter)
    seen = defaultdict(list)
    for waiter in drained(queue):
        seen[waiter.tenant].append(waiter)
    assert seen == order
    assert queue.size == queue.bytes == queue.longest == 0


def test_a_tenant_that_floods_delays_a_newcomer_by_one_request():
    queue = FairQueue()
    for _ in range(1000):
        queue.add(waiting(b"flood"))
    for _ in range(500):
        queue.take()
    late = waiting(b"quiet")
    queue.add(late)
    assert late in [queue.take(), queue.take()]


def test_who_was_away_gets_no_credit_for_it():
    queue = FairQueue()
    for _ in range(100):
        queue.add(waiting(b"busy", cost=10))
    for _ in range(50):
        queue.take()
    for _ in range(20):
        queue.add(waiting(b"back", cost=10))
    next_ten = [queue.take().tenant for _ in range(10)]
    assert next_ten.count(b"busy") in (4, 5, 6)


def test_leaving_and_coming_back_pays_no_debt_off():
    queue = FairQueue()
    queue.add(waiting(b"dear", cost=100))
    for _ in range(5):
        queue.add(waiting(b"cheap", cost=10))
    first = queue.take()  # dear: it came first
    assert first.tenant == b"dear"
    queue.add(waiting(b"dear", cost=100))
    assert [queue.take().tenant for _ in range(5)] == [b"cheap"] * 5


@given(st.data())
def test_counts_and_the_longest_backlog_are_what_a_plain_list_says(data: st.DataObject):
    queue, plain = FairQueue(), list[Waiter]()
    for step in data.draw(st.lists(st.sampled_from("adtr"), max_size=60)):
        if step in "ad":
            waiter = waiting(data.draw(tenants), data.draw(costs), data.draw(st.integers(0, 9)))
            queue.add(waiter)
            plain.append(waiter)
        elif plain and step == "t":
            plain.remove(queue.take())
        elif plain:
            waiter = data.draw(st.sampled_from(plain))
            queue.remove(waiter)
            plain.remove(waiter)
        backlogs = [sum(one.tenant == t for one in plain) for t in (b"a", b"b", b"c")]
        assert (queue.size, queue.bytes) == (len(plain), sum(one.size for one in plain))
        assert queue.longest == max(backlogs)
        assert [queue.backlog(t) for t in (b"a", b"b", b"c")] == backlogs
        if plain:
            newest = queue.newest_of_longest()
            assert queue.backlog(newest.tenant) == queue.longest
            assert newest is [one for one in plain if one.tenant == newest.tenant][-1]
