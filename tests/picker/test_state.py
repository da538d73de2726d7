"""What events make of an endpoint's state, against a plain recount of the same events."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker import state as s
from tidegate.picker.state import (
    ABANDONED,
    ANSWERED,
    FAILED,
    STARTED,
    SUCCEEDED,
    UNSEEN,
    Adapters,
    EndpointState,
    Finished,
    Listed,
    Model,
    Sample,
    ScrapeFailed,
    Started,
    fold,
)

DOWN = ScrapeFailed("refused")
counts = st.integers(0, 50)
samples = st.builds(Sample, counts, counts, st.floats(0, 1))
unbalanced = st.one_of(
    st.sampled_from([STARTED, SUCCEEDED, FAILED, ABANDONED, ANSWERED, DOWN]), samples
)
steps = st.lists(st.tuples(unbalanced, st.floats(0, 20)), max_size=60)


def fold_all(*events, now=0.0, start=UNSEEN):
    state = start
    for event in events:
        state = fold(state, event, now)
    return state


def timed(script):
    """The states after each of (event, seconds since the one before)."""
    state, now = UNSEEN, 0.0
    for event, passed in script:
        now += passed
        before, state = state, fold(state, event, now)
        yield before, event, state, now


def balanced(script):
    """`script` without endings of requests that never started."""
    open_requests = 0
    for event, passed in script:
        if isinstance(event, Finished) and not open_requests:
            continue
        open_requests += isinstance(event, Started)
        open_requests -= isinstance(event, Finished)
        yield event, passed


@given(steps)
def test_in_flight_is_started_less_finished(script):
    script = list(balanced(script))
    state = fold_all(*(event for event, _ in script))
    started = sum(isinstance(event, Started) for event, _ in script)
    finished = sum(isinstance(event, Finished) for event, _ in script)
    assert state.in_flight == started - finished


@given(steps)
def test_in_flight_is_never_negative_and_load_never_below_it(script):
    for _, _, state, _ in timed(script):
        assert 0 <= state.in_flight <= state.load


@given(steps, samples, st.lists(st.sampled_from([STARTED, SUCCEEDED, FAILED, ABANDONED])))
def test_load_is_the_sample_and_our_changes_since(script, sample, later):
    before = fold_all(*(event for event, _ in balanced(script)))
    later = [event for event, _ in balanced((event, 0.0) for event in later)]
    after = fold_all(sample, *later, start=before)
    started = sum(isinstance(event, Started) for event in later)
    finished = len(later) - started
    counted = sample.waiting + sample.running + started - finished
    assert after.load == max(counted, after.in_flight)


def test_a_request_that_the_server_already_counts_is_counted_once():
    state = fold_all(STARTED, STARTED, Sample(waiting=1, running=4))
    assert state.load == 5
    assert fold_all(STARTED, start=state).load == 6
    assert fold_all(SUCCEEDED, start=state).load == 4


def test_without_a_sample_the_load_is_our_own():
    assert fold_all(STARTED, STARTED, SUCCEEDED).load == 1


def test_a_sample_that_lags_does_not_hide_our_requests():
    assert fold_all(STARTED, STARTED, Sample()).load == 2


@given(steps)
def test_ejection_never_shrinks_without_a_success(script):
    for before, event, after, _ in timed(script):
        if event not in (SUCCEEDED, ANSWERED):
            assert after.ejected_until >= before.ejected_until


@given(steps)
def test_an_endpoint_is_never_ejected_for_longer_than_the_limit(script):
    for _, _, state, now in timed(script):
        assert state.ejected_until <= now + s.EJECTED_MAX_S


@given(steps)
def test_a_success_ends_failures_and_ejection(script):
    state = fold_all(*(event for event, _ in script))
    for good in (SUCCEEDED, ANSWERED):
        after = fold(state, good, 0.0)
        assert (after.failures, after.ejections, after.ejected_until) == (0, 0, 0.0)


@given(steps)
def test_usable_from_agrees_with_health_and_ejection(script):
    for _, _, state, _ in timed(script):
        assert state.usable_from == (state.ejected_until if state.healthy else math.inf)


def test_failures_in_a_row_eject_and_fewer_do_not():
    some = [FAILED] * (s.FAILURES_TO_EJECT - 1)
    assert fold_all(*some).ejected_until == 0.0
    assert fold_all(*some, SUCCEEDED, *some).ejected_until == 0.0
    assert fold_all(*some, FAILED, now=7.0).ejected_until == 7.0 + s.EJECTED_FIRST_S


def test_a_client_that_leaves_says_nothing_of_the_endpoint():
    failed = fold_all(*[FAILED] * s.FAILURES_TO_EJECT, now=7.0)
    assert fold(failed, ABANDONED, 7.0) == failed


def test_failures_of_requests_from_before_do_not_prolong_the_ejection():
    ejected = fold_all(*[FAILED] * s.FAILURES_TO_EJECT, now=7.0)
    assert fold(ejected, FAILED, 7.5).ejected_until == ejected.ejected_until


def test_after_an_ejection_one_request_at_a_time_tries():
    ejected = fold_all(*[FAILED] * s.FAILURES_TO_EJECT, now=7.0)
    assert ejected.usable_from <= 8.0
    trying = fold(ejected, STARTED, 8.0)
    assert trying.usable_from == 10.0
    assert fold(trying, ANSWERED, 8.1).usable_from == 0.0


def test_ejections_double_up_to_the_limit():
    state, now, lengths = fold_all(*[FAILED] * s.FAILURES_TO_EJECT), 0.0, []
    for _ in range(7):
        lengths.append(state.ejected_until - now)
        now = state.ejected_until
        state = fold_all(STARTED, FAILED, start=state, now=now)
    assert lengths == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_three_failed_scrapes_make_unhealthy_and_one_good_restores():
    assert fold_all(DOWN, DOWN).healthy
    assert fold_all(DOWN, DOWN, Sample(), DOWN, DOWN).healthy
    down = fold_all(DOWN, DOWN, DOWN)
    assert not down.healthy
    assert down.usable_from == math.inf
    assert fold_all(Sample(), start=down).usable_from == 0.0


def test_a_good_scrape_does_not_end_an_ejection():
    ejected = fold_all(*[FAILED] * s.FAILURES_TO_EJECT, now=7.0)
    assert fold_all(DOWN, DOWN, DOWN, Sample(), start=ejected).usable_from == 8.0


def test_an_unseen_server_is_judged_by_our_requests_alone():
    seen = fold_all(STARTED, Sample(waiting=40, running=9, kv_usage=0.9, adapters=Adapters(2)))
    gone = fold_all(DOWN, DOWN, DOWN, start=seen)
    assert (gone.load, gone.kv_usage, gone.adapters) == (1, 0.0, None)
    assert fold_all(STARTED, start=gone).load == 2


def test_old_numbers_stay_until_the_server_is_given_up():
    state = fold_all(Sample(waiting=3, running=2), DOWN, DOWN, now=5.0)
    assert (state.load, state.sampled_at, state.healthy) == (5, 5.0, True)


def test_listed_models_stay_over_other_events():
    models = (Model(id="base"), Model(id="tuned", parent="base"))
    state = fold_all(Listed(models), STARTED, SUCCEEDED, Sample(), DOWN, DOWN, DOWN)
    assert state.models == models


def test_nothing_known_means_usable():
    assert EndpointState() == UNSEEN
    assert UNSEEN.usable_from <= 0.0
