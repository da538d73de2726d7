"""Conversations, and the prefixes that they share."""

from itertools import islice
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tidegate.fleet.traffic import Source, Talk, Turn, expected, sources
from tidegate.fleet.workload import parse, read


def source(text: str) -> Source:
    return sources(parse(f"duration: 100s\ntraffic: [{text}]"))[0]


def turns(text: str, count: int = 50) -> list[Turn]:
    return [turn for _, turn in islice(source(text).starts(), count)]


def test_a_seed_says_the_same_again():
    text = "{name: a, rate: 5, turns: 3, system: {count: 4}, adapters: {count: 3}}"
    first, second = source(text), source(text)
    for (at, one), (again, other) in zip(first.starts(), second.starts(), strict=True):
        assert at == again
        assert (one.prompt, one.answer) == (other.prompt, other.answer)
        assert one.blocks(16) == other.blocks(16)


def test_equal_beginnings_are_shared_and_nothing_else():
    shared = turns("{name: a, rate: 5, system: {count: 1, tokens: 640}, user: 300}")
    first, second = shared[0].blocks(16), shared[1].blocks(16)
    assert first[:40] == second[:40]
    assert not set(first[40:]) & set(second[40:])


def test_adapters_share_no_prefix_even_of_the_same_text():
    one, other = (
        next(turn for turn in turns("{name: a, rate: 5, system: {count: 1, tokens: 640}, "
                                    "adapters: {count: 2, skew: 0}}")
             if turn.talk.adapter == name)
        for name in ("adapter-0", "adapter-1")
    )  # fmt: skip
    assert not set(one.blocks(16)) & set(other.blocks(16))


def test_a_later_turn_begins_with_all_that_was_said_before():
    talk = Talk(7, b"t", "", [(10, 5, 1.0), (20, 30, 1.0)])
    first = talk.turn()
    assert talk.pause == 1.0
    second = talk.turn()
    assert second.prompt == first.prompt + first.answer + 10
    assert second.chain([8, 16, 32])[:2] == first.chain([8, 16, 32])[:2]
    assert talk.pause is None


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_a_chain_ends_where_the_prompt_does(prompt: int, shared: int):
    talk = Talk(3, b"t", "", [])
    talk.shared, talk.shared_tokens = 2, min(shared, prompt)
    turn, ends = Turn(talk, prompt, 1), list(range(64, 4097, 64))
    assert len(turn.chain(ends)) == min(prompt // 64, 64)
    assert len(turn.blocks(16)) == prompt // 16
    assert len(set(turn.blocks(16))) == prompt // 16


def test_skewed_names_are_asked_for_unevenly():
    adapters = [one.talk.adapter for one in turns("{name: a, rate: 50, adapters: {count: 20, "
                                                  "skew: 1.2}}", 2000)]  # fmt: skip
    most = max(set(adapters), key=adapters.count)
    assert most == "adapter-0"
    assert adapters.count(most) > 3 * adapters.count("adapter-9")


def test_bursts_come_at_the_end_of_their_interval():
    text = "{name: a, rate: 20, burst: {factor: 10, every: 10s, length: 1s}}"
    starts = [at for at, _ in source(text).starts()]
    bursting = sum(at % 10 >= 9 for at in starts)
    assert bursting > len(starts) / 3


def test_a_recorded_trace_keeps_its_times_lengths_and_sessions(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text(
        '{"time": 5, "prompt_tokens": 100, "output_tokens": 7, "session": "x"}\n'
        '{"time": 7, "prompt_tokens": 200, "output_tokens": 8, "session": "x"}\n'
    )
    (tmp_path / "w.yaml").write_text("traffic: [{name: a, trace: t.jsonl, speed: 2}]")
    workload = read(tmp_path / "w.yaml")
    (first_at, first), (second_at, second) = sources(workload)[0].starts()
    assert (first_at, second_at) == (0.0, 1.0)
    assert (first.prompt, first.answer, second.prompt) == (100, 7, 200)
    assert second.blocks(16)[:6] == first.blocks(16)
    assert expected(workload) == 2
