"""Clients of the gateway: the official OpenAI one, and live load beside it."""

from collections.abc import Iterator
from contextlib import contextmanager

import openai

from tests_vllm.place import Place
from tidegate.load.result import Result
from tidegate.testing.traffic import Traffic, traffic

RATE = 4.0
"""Requests a second: what a machine with two busy cores carries beside all else."""
TOKENS = 12


@contextmanager
def client(place: Place) -> Iterator[openai.OpenAI]:
    """The official client, which tries nothing twice."""
    url = f"{place.up.url}/v1"
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) as one:
        yield one


@contextmanager
def load(
    place: Place, model: str, rate: float = RATE, max_tokens: int = TOKENS
) -> Iterator[Traffic]:
    """Streamed chats while the context lasts."""
    with traffic(place.up.url, rate, model, max_tokens) as running:
        yield running


def say(
    one: openai.OpenAI, model: str, session: str, text: str = "What is the tide?"
) -> openai.types.chat.ChatCompletion:
    """Ask for the likeliest answer in a session."""
    return one.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        temperature=0,
        max_tokens=TOKENS,
        extra_headers={"x-session-id": session},
    )


def check_api(place: Place, model: str) -> None:
    """Use the official client as people do: list, ask, stream; names must be the client's."""
    with client(place) as one:
        listed = [each.id for each in one.models.list()]
        assert model in listed, listed
        whole = say(one, model, "check")
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == TOKENS
        pieces = list(
            one.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Count the waves."}],
                max_tokens=TOKENS,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert pieces[-1].usage is not None
        assert pieces[-1].usage.completion_tokens == TOKENS
        assert {each.model for each in pieces} == {whole.model}
    place.story.say(f"openai client: lists {', '.join(listed)}; {model} answers whole and streamed")


def assert_none_failed(place: Place, results: list[Result]) -> None:
    """Tell of the load; none of it may have failed."""
    place.story.count(results)
    failed = [each for each in results if each.failed]
    assert not failed, failed[:5]
