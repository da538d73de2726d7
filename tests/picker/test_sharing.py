"""Workers that tell each other what they do: they pick as one would."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.config import default_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.schedule import schedule
from tidegate.picker.sharing import SILENT_AFTER_S, Sharing, owner
from tidegate.picker.state import Listed, Model, Sample, ScrapeFailed
from tidegate.picker.ticket import begin

ADDRESSES = ("a:1", "b:1", "c:1")


class Worker:
    """A worker's picker and its voice; messages go by hand."""

    def __init__(self, name, addresses=ADDRESSES, scheduler=None):
        self.endpoints = {address: Endpoint(address) for address in addresses}
        self.pool = Pool("ns/p", scheduler or default_scheduler())
        self.pool.set_endpoints(list(self.endpoints.values()))
        self.woken = 0
        self.refreshed = []
        self.sharing = Sharing(name, wake=self.wake, note=self.note, refresh=self.refreshed.extend)
        self.sharing.set_pools(self.endpoints, {"p": self.pool})

    def wake(self):
        self.woken += 1

    def note(self, address, event):
        self.endpoints[address].note(event, 0.0)

    def scrape(self, address, event):
        self.note(address, event)
        self.sharing.scraped(address, event)

    def begin(self, address, now=0.0, chain=(), prompt=100):
        request = Request(now, "m", None, chain, prompt, 50)
        return begin(self.pool, self.endpoints[address], request, now)

    def load(self, address):
        return self.endpoints[address].state.load


def talk(*workers, now=0.0, whole=False):
    for one in workers:
        for message in one.sharing.take(whole=whole):
            for other in workers:
                other.sharing.hear(message, now)


def pair(**kwargs):
    workers = Worker("one", **kwargs), Worker("two", **kwargs)
    talk(*workers, whole=True)
    return workers


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(ADDRESSES), st.booleans()), max_size=40)
)
def test_after_a_talk_all_see_the_same_load(script):
    workers = [Worker(f"w{n}") for n in range(3)]
    talk(*workers, whole=True)
    under_way = []
    for number, address, ends in script:
        if ends and under_way:
            under_way.pop().ended(0.0, ok=True)
        else:
            under_way.append(workers[number].begin(address))
    talk(*workers)
    for address in ADDRESSES:
        true = sum(one.endpoints[address].state.in_flight for one in workers)
        assert [one.load(address) for one in workers] == [true] * 3
        slot = workers[0].pool.slot_of(workers[0].endpoints[address])
        assert len({float(one.pool.tokens[slot]) for one in workers}) == 1
        assert len({float(one.pool.pending[slot]) for one in workers}) == 1


def test_a_lost_message_is_healed_by_the_next_whole_one():
    one, two = pair()
    one.begin("a:1")
    one.sharing.take()  # lost
    talk(one, two)
    assert two.load("a:1") == 0
    talk(one, two, whole=True)
    assert two.load("a:1") == 1


def test_a_request_that_ended_while_nobody_listened_is_no_load():
    one, two = pair()
    ticket = one.begin("a:1")
    talk(one, two)
    ticket.ended(1.0, ok=True)
    one.sharing.take()  # lost
    talk(one, two, whole=True)
    assert two.load("a:1") == 0


def test_nothing_is_said_while_nothing_happens():
    one, two = pair()
    talk(one, two)
    before = one.woken, two.woken
    talk(one, two)
    assert one.sharing.take() == two.sharing.take() == []
    assert (one.woken, two.woken) == before


def test_a_lone_worker_keeps_nothing_for_others():
    one = Worker("one")
    one.begin("a:1", chain=[1, 2, 3])
    assert one.pool.news is None
    assert one.sharing.take() == []


def test_a_prompt_that_went_through_one_worker_is_known_to_the_other():
    one, two = pair()
    one.begin("b:1", chain=[1, 2, 3], prompt=200)
    talk(one, two)
    one.begin("b:1", chain=[1, 2, 3, 4, 5], prompt=320)
    talk(one, two)
    assert two.pool.prefix.match([1, 2, 3, 4, 5]).tolist() == [0.0, 320.0, 0.0]


def test_a_worker_that_falls_silent_takes_its_load_along():
    one, two = pair()
    one.begin("a:1")
    talk(one, two, now=5.0)
    assert not two.sharing.expire(5.0 + SILENT_AFTER_S)
    assert two.load("a:1") == 1
    assert two.sharing.expire(5.1 + SILENT_AFTER_S)
    assert two.load("a:1") == 0
    assert two.sharing.workers == ["two"]


def test_a_worker_that_leaves_says_so():
    one, two = pair()
    one.begin("a:1")
    talk(one, two)
    for message in one.sharing.take(leaving=True):
        two.sharing.hear(message, 0.0)
    assert (two.load("a:1"), two.sharing.workers) == (0, ["two"])


def test_what_one_scrape_saw_all_know():
    one, two = pair()
    models = (Model(id="m"),)
    one.scrape("a:1", Sample(2, 5, 0.5))
    one.scrape("b:1", ScrapeFailed("refused"))
    one.scrape("c:1", Listed(models))
    talk(one, two)
    assert two.endpoints["a:1"].state.kv_usage == 0.5
    assert two.endpoints["b:1"].state.scrape_failures == 1
    assert two.endpoints["c:1"].state.models == models


def test_a_worker_that_comes_later_is_told_the_models():
    one = Worker("one")
    one.scrape("a:1", Listed((Model(id="m"),)))
    two = Worker("two")
    talk(two, one, whole=True)
    talk(one, two, whole=True)
    assert two.endpoints["a:1"].state.models == (Model(id="m"),)


def test_a_sample_that_counts_the_siblings_requests_counts_them_once():
    one, two = pair()
    for _ in range(3):
        one.begin("a:1")
    two.begin("a:1")
    talk(one, two)
    two.scrape("a:1", Sample(waiting=1, running=5))
    talk(one, two)
    assert one.load("a:1") == two.load("a:1") == 6


def test_an_endpoint_that_is_new_here_has_the_load_that_others_told_before():
    one, two = pair()
    two.sharing.set_pools({}, {})
    two.pool.set_endpoints([])
    one.begin("a:1")
    talk(one, two)
    two.pool.set_endpoints(list(two.endpoints.values()))
    two.sharing.set_pools(two.endpoints, {"p": two.pool})
    assert two.load("a:1") == 1


@given(st.binary(max_size=200))
def test_a_message_that_makes_no_sense_is_ignored(data):
    one = Worker("one")
    assert not one.sharing.hear(data, 0.0)
    assert one.sharing.workers == ["one"]


@given(st.sets(st.text("abcdef", min_size=1), min_size=2, max_size=6), st.integers(0, 400))
def test_when_a_worker_leaves_only_its_endpoints_change_hands(workers, number):
    address = f"10.0.0.{number}:8000"
    before = owner(address, sorted(workers))
    assert before in workers
    for gone in workers - {before}:
        assert owner(address, sorted(workers - {gone})) == before


def test_endpoints_are_shared_out_evenly():
    owned = [owner(f"10.0.{n}.7:8000", ["w0", "w1", "w2", "w3"]) for n in range(400)]
    assert min(owned.count(one) for one in set(owned)) > 100 - 5 * 8.7


def simulated(workers, *, every=0.005, requests=3000, rate=120.0, servers=8, hold=0.4, seed=1):
    """Return hit rate and spread of the servers' load, with so many workers, in virtual time."""
    rng = Random(seed)
    addresses = [f"s{n}:1" for n in range(servers)]
    crew = [Worker(f"w{n}", addresses) for n in range(workers)]
    talk(*crew, whole=True)
    sessions = [
        [hash((session, turn)) & (2**64 - 1) for turn in range(40)] for session in range(150)
    ]
    length = [4] * len(sessions)
    caches = {address: set() for address in addresses}
    busy = dict.fromkeys(addresses, 0)
    ends, spread, hit, asked, spoke, now = [], 0.0, 0, 0, 0.0, 0.0
    for _ in range(requests):
        now += rng.expovariate(rate)
        while ends and ends[0][0] <= now:
            at, ticket, address = ends.pop(0)
            ticket.answered(at)
            ticket.ended(at, ok=True)
            busy[address] -= 1
        if now - spoke >= every:
            talk(*crew, now=now)
            spoke = now
        session = rng.randrange(len(sessions))
        chain = sessions[session][: length[session]]
        length[session] = 4 + (length[session] - 3) % 36
        worker = rng.choice(crew)
        request = Request(now, "m", None, chain, 64 * len(chain), 20)
        pick = schedule(worker.pool, request, rng)
        address = pick.endpoint.address
        ticket = begin(worker.pool, pick.endpoint, request, now)
        hit += sum(key in caches[address] for key in chain)
        asked += len(chain)
        caches[address].update(chain)
        busy[address] += 1
        ends.append((now + hold, ticket, address))
        spread += max(busy.values()) / (sum(busy.values()) / servers)
    return hit / asked, spread / requests


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_hit_and_spread_as_one_does(workers):
    hits, spread = simulated(1)
    hits_of_several, spread_of_several = simulated(workers)
    assert hits > 0.8
    assert hits_of_several > 0.95 * hits
    assert spread_of_several < 1.05 * spread


def test_workers_that_say_nothing_do_worse():
    hits, _ = simulated(1)
    hits_of_several, _ = simulated(4, every=1e9)
    assert hits_of_several < 0.9 * hits


def test_who_asks_for_new_lists_hears_them_even_if_nothing_changed():
    one, two = pair()
    models = Listed((Model(id="m"),))
    one.scrape("a:1", models)
    talk(one, two)
    two.sharing.ask_lists(["a:1"])
    talk(two, one)
    assert one.refreshed == ["a:1"]
    one.scrape("a:1", models)
    assert len(one.sharing.take()) == 1
    one.scrape("a:1", models)
    assert one.sharing.take() == []
