from hypothesis import given
from hypothesis import strategies as st

from tidegate.simulator import text
from tidegate.simulator.generation import plan
from tidegate.simulator.openai import ChatRequest, CompletionRequest, Message
from tidegate.simulator.profiles import PROFILES

DEMO = PROFILES["demo"]


@given(st.binary(max_size=500))
def test_a_token_is_four_bytes(data):
    assert text.count_tokens(data) == max(1, len(text.token_ids(data)))


@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=400))
def test_prompts_share_the_blocks_of_their_common_prefix(prefix, one, other):
    first, second = (text.blocks_of(prefix + tail, 16, "m") for tail in (one, other))
    shared = len(prefix) // 64
    assert first[:shared] == second[:shared]
    assert len(first) == len(prefix + one) // 64


def test_models_share_no_blocks():
    data = bytes(640)
    assert not set(text.blocks_of(data, 16, "a")) & set(text.blocks_of(data, 16, "b"))


@given(st.integers(0, 2**64 - 1), st.integers(0, 50), st.integers(0, 50))
def test_a_shorter_answer_is_the_start_of_a_longer_one(point, short, more):
    assert text.answer(point, short + more)[:short] == text.answer(point, short)


def ask(content: str = "hello", **fields) -> ChatRequest:
    return ChatRequest(messages=[Message("user", content)], **fields)


def test_the_same_question_has_the_same_answer_and_another_seed_another():
    assert plan(ask(), DEMO, 0, "") == plan(ask(), DEMO, 0, "")
    assert plan(ask(), DEMO, 0, "").words != plan(ask(), DEMO, 1, "").words
    assert plan(ask(model="a"), DEMO, 0, "").words != plan(ask(model="b"), DEMO, 0, "").words


@given(st.text(max_size=50), st.integers(1, 300))
def test_an_answer_ends_by_itself_or_at_its_limit(content, limit):
    planned = plan(ask(content, max_tokens=limit), DEMO, 0, "")
    assert planned.job.output_tokens == len(planned.words) <= limit
    assert planned.finish == ("length" if len(planned.words) == limit else "stop")


def test_ignore_eos_always_takes_the_limit():
    planned = plan(ask(max_tokens=1000, ignore_eos=True), DEMO, 0, "")
    assert len(planned.words) == 1000


@given(st.text(max_size=30), st.integers(1, 20))
def test_nothing_is_shown_from_the_stop_text_on(content, at):
    whole = "".join(plan(ask(content, max_tokens=30), DEMO, 0, "").words)
    stop = whole[at : at + 5]
    planned = plan(ask(content, max_tokens=30, stop=stop), DEMO, 0, "")
    assert "".join(planned.words) == whole[: whole.find(stop)]
    assert planned.finish == "stop"


def test_prompts_may_be_tokens():
    planned = plan(CompletionRequest(prompt_=[1, 2, 3]), DEMO, 0, "")
    assert planned.job.prompt_tokens == 3
    assert planned.job.output_tokens == 16
