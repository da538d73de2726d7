"""Requests a second, as the controller counts them."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.controllers.tempo import Tempo
from tidegate.judge.block import Block, Place


def blocks(start: float, requests: int, scope: str = "default/route/0") -> list[Block]:
    block = Block(Place(start, scope, "llm", 0), 1.0)
    block.requests = requests
    return [block]


@given(rate=st.integers(1, 50), seconds=st.integers(61, 1500), start=st.integers(0, 10**6))
def test_a_steady_rate_is_told_after_a_minute(rate: int, seconds: int, start: int):
    tempo = Tempo()
    for second in range(start, start + seconds):
        tempo.note(blocks(second, rate), second + 1.0)
    told = tempo.rate("default/route/0", start + seconds)
    assert told is not None
    assert abs(told - rate) <= 0.05 * rate


def test_nobody_knows_in_the_first_minute_and_silence_is_a_rate():
    tempo = Tempo()
    assert tempo.rate("default/route/0", 1e6) is None
    tempo.note(blocks(0.0, 5), 1.0)
    assert tempo.rate("default/route/0", 60.0) is None
    assert tempo.rate("default/other/0", 90.0) == 0


def test_what_was_long_ago_is_forgotten():
    tempo = Tempo()
    tempo.note(blocks(0.0, 1000), 1.0)
    tempo.note(blocks(3000.0, 0), 3000.0)
    assert tempo.rate("default/route/0", 3000.0) == 0
