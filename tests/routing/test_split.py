"""Splits: sticky, minimal in movement, true to their weights."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tidegate.routing.split import choose_arm, point
from tidegate.routing.table import Arm, Rule

SPACE = 2**64
points = st.integers(0, SPACE - 1)
weights = st.lists(st.integers(0, 1_000_000), min_size=1, max_size=16)


def split(*weights: int) -> Rule:
    arms = tuple(Arm(str(i), weight, None) for i, weight in enumerate(weights))
    return Rule("default/route", "0", arms, sum(weights), b"salt")


def chosen(rule: Rule, at: int) -> int | None:
    arm = choose_arm(rule, at)
    return None if arm is None else int(arm.name)


@given(weights=weights, at=points)
def test_weight_zero_is_never_chosen(weights, at):
    arm = choose_arm(split(*weights), at)
    assert (arm is None) == (sum(weights) == 0)
    assert arm is None or arm.weight > 0


@given(weights=weights, which=st.integers(0, 15), more=st.integers(0, 1_000_000), at=points)
def test_raising_an_arm_moves_nobody_out_of_it(weights, which, more, at):
    which %= len(weights)
    raised = [*weights]
    raised[which] += more
    if chosen(split(*weights), at) == which:
        assert chosen(split(*raised), at) == which


@given(low=st.integers(0, 100), more=st.integers(0, 100))
def test_between_two_arms_exactly_the_difference_moves(low, more):
    high = min(low + more, 100)
    before, after = split(100 - low, low), split(100 - high, high)
    step = SPACE // 100_000
    moved = [at for at in range(0, SPACE, step * 97) if chosen(before, at) != chosen(after, at)]
    assert all(chosen(before, at) == 0 and chosen(after, at) == 1 for at in moved)
    assert abs(len(moved) * 97 / 100_000 - (high - low) / 100) < 0.002


@given(weights=weights, at=points)
def test_arms_own_exact_shares(weights, at):
    rule = split(*weights)
    if rule.total:
        start = sum(weights[: chosen(rule, at)])
        end = start + weights[chosen(rule, at)]
        assert start * SPACE <= at * rule.total < end * SPACE


@given(weights=weights, factor=st.integers(1, 50), at=points)
def test_only_the_proportions_matter(weights, factor, at):
    assert chosen(split(*weights), at) == chosen(split(*(w * factor for w in weights)), at)


def test_shares_of_many_sessions_stay_within_four_sigma():
    rule, count = split(70, 30, 0), 20_000
    tally = [0, 0, 0]
    for i in range(count):
        tally[chosen(rule, point(b"salt", b"session-%d" % i))] += 1
    for got, share in zip(tally, (0.7, 0.3, 0.0), strict=True):
        assert abs(got - count * share) <= 4 * math.sqrt(count * share * (1 - share))


def test_different_salts_draw_independently():
    rule, count = split(50, 50), 20_000
    sessions = [b"session-%d" % i for i in range(count)]
    same = sum(chosen(rule, point(b"a", s)) == chosen(rule, point(b"b", s)) for s in sessions)
    assert abs(same - count / 2) <= 4 * math.sqrt(count / 4)


@given(salt=st.binary(max_size=64), session=st.binary())
def test_the_same_session_is_always_at_the_same_point(salt, session):
    at = point(salt, session)
    assert 0 <= at < SPACE
    assert at == point(salt, session)


def test_points_are_the_same_on_every_machine_and_version():
    assert point(b"default/route/0", b"user:ada") == 0x76CC8E71C26EDFD3
