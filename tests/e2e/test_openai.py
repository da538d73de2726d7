"""The official OpenAI client against the gateway: chat, stream, models, errors, cancel."""

import openai
import pytest

from tidegate.testing.deployment import EXAMPLES, Deployment
from tidegate.testing.waiting import wait_until

MODEL = "example/chat-8b"
ASK = [{"role": "user", "content": "Say something."}]


@pytest.fixture
def client(node: Deployment):
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key="sk-unused", max_retries=0) as one:
        wait_until(lambda: list(one.models.list()), 20, "models")
        yield one


def in_flight(node: Deployment) -> int:
    with openai.OpenAI(base_url=node.url, api_key="x") as plain:
        text = plain._client.get(f"http://127.0.0.1:{node.metrics_port}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("tidegate_requests_in_flight{")]
    assert lines
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def test_chat(client: openai.OpenAI):
    got = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=7)
    assert got.choices[0].message.content
    assert got.model == MODEL
    assert got.usage is not None
    assert got.usage.completion_tokens <= 7


def test_stream(client: openai.OpenAI):
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=ASK,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    assert chunks[-1].usage is not None


def test_completions(client: openai.OpenAI):
    got = client.completions.create(model=MODEL, prompt="Once", max_tokens=5)
    assert got.choices[0].text


def test_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nothing/at-all")
    assert caught.value.code == "ModelNotFound"


def test_errors_have_their_classes(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="unknown", messages=ASK)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=10_000_000)


def test_headers_say_who_answered(client: openai.OpenAI):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=2)
    assert raw.headers["x-tidegate-pool"] in {"llm", "llm-new"}
    assert raw.headers["x-tidegate-endpoint"]


def test_cancel_ends_the_request_at_the_server(client: openai.OpenAI, node: Deployment):
    stream = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    assert in_flight(node) == 1
    stream.close()
    wait_until(lambda: in_flight(node) == 0, 5, "the request to end")


def test_an_unmatched_host_is_a_404_that_the_client_understands(node: Deployment):
    node.kubectl("delete", "httproute", "routes-to-llm")
    try:
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key="x", max_retries=0) as one:
            with pytest.raises(openai.NotFoundError) as caught:
                one.chat.completions.create(model=MODEL, messages=ASK)
            assert caught.value.code == "RouteNotFound"
    finally:
        node.kubectl("apply", "-f", EXAMPLES / "node" / "route.yaml")
