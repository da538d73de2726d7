"""Sums that are kept up say what counting anew says."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.controllers.sums import SAMPLE, Sums
from tidegate.controllers.trail import Trail
from tidegate.judge.block import Block, Place

SCOPE = "default/route/0"


def block(start: float, arm: str, requests: int, errors: int, refused: int, names: set[int]):
    made = Block(Place(start, SCOPE, arm, 0), 1.0, requests=requests)
    made.server_errors, made.client_errors = errors, refused
    made.answered = requests - errors - refused
    made.sessions = sorted(names)
    made.bad_sessions = made.sessions[: min(errors, len(names))]
    return made


made = st.builds(
    block,
    st.integers(1000, 1100).map(float),
    st.sampled_from(["llm", "llm-new"]),
    st.integers(10, 20),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sets(st.integers(1, 60), max_size=10),
)


@given(parcels=st.lists(st.lists(made, max_size=6), max_size=8), since=st.integers(995, 1105))
def test_looking_after_each_parcel_is_like_looking_once(parcels: list[list[Block]], since: int):
    often, once = (Trail(SCOPE, "llm", "llm-new") for _ in range(2))
    for number, parcel in enumerate(parcels):
        often.add("boot", number, parcel)
        often.tally(since)
        once.add("boot", number, parcel)
    assert often.tally(since) == once.tally(since) == once.recent(since)
    assert often.share(since) == once.share(since)


def test_a_sample_of_many_sessions_is_fair_and_bounded():
    sums = Sums(0.0, "llm", "llm-new")
    step = (1 << 64) // (40 * SAMPLE)
    for start in range(800):
        names = {(1 + 50 * start + each) * step for each in range(50)}
        canary = {each for each in names if each // step % 4 == 0}
        sums.add(block(float(start), "llm-new", 50, 0, 0, canary))
        sums.add(block(float(start), "llm", 150, 0, 0, names - canary))
    ours, total = sums.share()
    assert SAMPLE // 2 <= total <= 4 * SAMPLE
    assert abs(ours / total - 0.25) < 0.02
