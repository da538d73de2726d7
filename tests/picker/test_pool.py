"""A pool's vectors say what its endpoints' states say, whatever happens in whatever order."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidegate.picker.config import default_scheduler, parse_config, simple_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.state import Listed, Model, Sample, ScrapeFailed, Shared
from tidegate.picker.ticket import begin

SCHEDULERS = (
    default_scheduler(),
    simple_scheduler(),
    parse_config("plugins: [{type: prefix-cache-scorer}, {type: queue-scorer}]"),
)
places = st.integers(0, 5)
events = st.one_of(
    st.builds(Sample, st.integers(0, 9), st.integers(0, 9), st.floats(0, 1)),
    st.builds(Shared, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    st.just(ScrapeFailed("refused")),
    st.sampled_from([Listed(()), Listed((Model(id="a"),)), Listed((Model(id="b"),))]),
)


class Story(RuleBasedStateMachine):
    """Endpoints come and go, requests begin and end, schedulers change."""

    def __init__(self):
        super().__init__()
        self.endpoints = [Endpoint(f"h:{n}") for n in range(6)]
        self.pool = Pool("ns/p", SCHEDULERS[0])
        self.tickets = []
        self.now = 0.0

    @rule(members=st.sets(places))
    def change(self, members):
        self.pool.set_endpoints([self.endpoints[n] for n in sorted(members)])

    @rule(scheduler=st.sampled_from(SCHEDULERS))
    def use(self, scheduler):
        self.pool.use(scheduler)

    @rule(place=places, event=events, passed=st.floats(0, 3))
    def happen(self, place, event, passed):
        self.now += passed
        self.endpoints[place].note(event, self.now)

    @rule(place=places, length=st.integers(0, 30), stream=st.booleans())
    def begin(self, place, length, stream):
        chain = list(range(length))
        request = Request(self.now, "a", None, chain, 64 * length, 10, stream=stream)
        self.tickets.append(begin(self.pool, self.endpoints[place], request, self.now))

    @rule(which=st.integers(0, 50))
    def answer(self, which):
        if self.tickets:
            self.tickets[which % len(self.tickets)].answered(self.now)

    @rule(which=st.integers(0, 50), ok=st.sampled_from([True, False, None]))
    def end(self, which, ok):
        if self.tickets:
            self.tickets.pop(which % len(self.tickets)).ended(self.now, ok=ok, output=5)

    @rule(passed=st.floats(0, 100))
    def settle(self, passed):
        self.now += passed
        self.pool.settle(self.now)

    @invariant()
    def vectors_say_what_states_say(self):
        pool = self.pool
        for slot, endpoint in enumerate(pool.endpoints):
            if endpoint is None:
                assert not pool.load[slot]
                assert not pool.pending[slot]
                continue
            state = endpoint.state
            assert pool.slot_of(endpoint) == slot
            assert pool.load[slot] == state.load
            assert pool.requests[slot] == state.in_flight + state.siblings.in_flight
            assert pool.pending[slot] == state.prefill + state.siblings.prefill
            assert pool.tokens[slot] == state.tokens + state.siblings.tokens
            assert pool.waiting[slot] == state.waiting
            assert pool.kv_usage[slot] == state.kv_usage
            assert pool.usable_from[slot] == state.usable_from <= pool.unwell_until
            listed = pool.residency.listed("a")
            lists = any(model.id == "a" for model in state.models)
            assert (listed is not None and bool(listed[slot])) == lists

    @invariant()
    def members_have_seats_and_nobody_else(self):
        members = set(self.pool.members)
        assert len(members) == self.pool.size
        for endpoint in self.endpoints:
            assert (endpoint in members) == any(seat[0] is self.pool for seat in endpoint.seats)
        assert len(np.arange(len(self.pool.endpoints))[self.pool.at]) == self.pool.size

    @invariant()
    def what_is_under_way_is_counted_once(self):
        for endpoint in self.endpoints:
            own = [one for one in self.tickets if one.endpoint is endpoint]
            assert endpoint.state.in_flight == len(own)
            assert endpoint.state.prefill == sum(one.prefill for one in own)
            assert endpoint.state.tokens == sum(one.tokens for one in own)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
