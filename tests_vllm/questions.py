"""What a real vLLM and the simulator are both asked, good and bad; and where they may differ."""

from collections.abc import Mapping
from typing import Any, Final

MODEL: Final = "tiny/base"
ASK: Final = [{"role": "user", "content": "Hello"}]
LOOK: Final = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}
OTHER: Final = {"type": "function", "function": {"name": "other"}}
SCHEMA: Final = {"type": "object", "properties": {"ok": {"type": "boolean"}}}

Question = tuple[str, str, Any]
"""Method, path, body: bytes as they are, else JSON."""


def chat(**fields: Any) -> Question:
    """Ask for a chat's answer; a field that is `...` is left out."""
    return "POST", "/v1/chat/completions", _body(messages=ASK, **fields)


def completion(**fields: Any) -> Question:
    """Ask for a text's continuation."""
    return "POST", "/v1/completions", _body(**{"prompt": "Hello", **fields})


def _body(**fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "max_tokens": 4, **fields}
    return {name: value for name, value in body.items() if value is not ...}


def _with(messages: Any) -> Question:
    method, path, body = chat()
    return method, path, {**body, "messages": messages}


LONG: Final = "word " * 3000
QUESTIONS: Final[Mapping[str, Question]] = {
    # Names
    "unknown model": chat(model="nope"),
    "unknown model of a completion": completion(model="nope"),
    "unknown model before bad values": chat(model="nope", max_tokens=0),
    "unknown model before too long": chat(model="nope", max_tokens=5000),
    "bad stream options before unknown model": chat(
        model="nope", stream_options={"include_usage": True}
    ),
    "no model": chat(model=...),
    "empty model": chat(model=""),
    "an alias": chat(model="chat"),
    "an adapter": chat(model="tides-v1"),
    "model is a number": chat(model=3),
    # Lengths
    "prompt too long": _with([{"role": "user", "content": LONG}]),
    "prompt too long for a completion": completion(prompt=LONG),
    "limit too high": chat(max_tokens=5000),
    "limit too high for a completion": completion(max_tokens=5000),
    "new limit too high": chat(max_tokens=..., max_completion_tokens=5000),
    "prompt and limit together too long": completion(prompt=[7] * 1000, max_tokens=900),
    "prompt as long as the context": completion(prompt=[7] * 1024),
    "prompt one too long": completion(prompt=[7] * 1025),
    # Values
    "max_tokens 0": chat(max_tokens=0),
    "max_tokens 0 of a completion": completion(max_tokens=0),
    "max_tokens -1": chat(max_tokens=-1),
    "max_completion_tokens 0": chat(max_tokens=..., max_completion_tokens=0),
    "max_tokens is a text": chat(max_tokens="many"),
    "max_tokens is a number as text": chat(max_tokens="3"),
    "max_tokens is a fraction": chat(max_tokens=1.5),
    "both limits": chat(max_tokens=3, max_completion_tokens=2),
    "min_tokens above the limit": chat(min_tokens=10),
    "min_tokens -1": chat(min_tokens=-1),
    "temperature -1": chat(temperature=-1),
    "temperature 3": chat(temperature=3),
    "temperature is a text": chat(temperature="hot"),
    "temperature before max_tokens": chat(temperature=-1, max_tokens=0),
    "too long before temperature": chat(temperature=-1, max_tokens=5000),
    "top_p 0": chat(top_p=0),
    "top_p 2": chat(top_p=2),
    "top_k -5": chat(top_k=-5),
    "min_p 2": chat(min_p=2),
    "presence_penalty 3": chat(presence_penalty=3),
    "frequency_penalty -3": chat(frequency_penalty=-3),
    "repetition_penalty 0": chat(repetition_penalty=0),
    "n 0": chat(n=0),
    "n -1": chat(n=-1),
    "n 20000": chat(n=20_000),
    "n 2": chat(n=2),
    "n null": chat(n=None),
    "n 2 at temperature 0": chat(n=2, temperature=0),
    "stop is empty": chat(stop=[""]),
    "stop is a number": chat(stop=3),
    "too many stops": chat(stop=list("abcde")),
    "logit_bias for no token": chat(logit_bias={"x": 1}),
    "seed is a text": chat(seed="x"),
    "stream is a text": chat(stream="maybe"),
    "stream options without a stream": chat(stream_options={"include_usage": True}),
    "stream options without a stream of a completion": completion(
        stream_options={"include_usage": True}
    ),
    "unknown field": chat(flavour="x"),
    "suffix": completion(suffix="x"),
    # Logprobs
    "top_logprobs alone": chat(top_logprobs=3),
    "top_logprobs 50": chat(logprobs=True, top_logprobs=50),
    "top_logprobs -2": chat(logprobs=True, top_logprobs=-2),
    "logprobs": chat(logprobs=True, top_logprobs=1, max_tokens=1, temperature=0),
    "logprobs without alternatives": chat(logprobs=True, max_tokens=1, temperature=0),
    "logprobs 50 of a completion": completion(logprobs=50),
    "logprobs -2 of a completion": completion(logprobs=-2),
    "logprobs of a completion": completion(logprobs=0, max_tokens=1, temperature=0),
    # Messages and prompts
    "no messages": ("POST", "/v1/chat/completions", _body()),
    "empty messages": _with([]),
    "messages are a text": _with("Hello"),
    "an odd role": _with([{"role": "bard", "content": "x"}]),
    "a role is missing": _with([{"content": "x"}]),
    "content is a number": _with([{"role": "user", "content": 3}]),
    "an image": _with(
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    ),
    "no prompt": completion(prompt=...),
    "empty prompt": completion(prompt=""),
    "prompt is null": completion(prompt=None),
    "prompt is an empty list": completion(prompt=[]),
    "prompt is a number": completion(prompt=3),
    "prompt is tokens": completion(prompt=[5, 6, 7]),
    # Tools and formats
    "tools are empty": chat(tools=[]),
    "tool choice without tools": chat(tool_choice="auto"),
    "required tool without tools": chat(tool_choice="required"),
    "no tool without tools": chat(tool_choice="none"),
    "unknown tool": chat(tools=[LOOK], tool_choice=OTHER),
    "tools": chat(tools=[LOOK]),
    "schema is missing": chat(response_format={"type": "json_schema"}),
    "odd format": chat(response_format={"type": "odd"}),
    "JSON": chat(response_format={"type": "json_object"}),
    "a schema": chat(
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}
    ),
    # What is no request
    "cut JSON": ("POST", "/v1/chat/completions", b'{"model": '),
    "nothing": ("POST", "/v1/chat/completions", b""),
    "a list": ("POST", "/v1/chat/completions", []),
    "not UTF-8": ("POST", "/v1/chat/completions", b'{"model":"\xff"}'),
    "wrong method": ("GET", "/v1/chat/completions", None),
    "unknown path": ("GET", "/nowhere", None),
    # The rest of the API
    "models": ("GET", "/v1/models", None),
    "health": ("GET", "/health", None),
    "tokenize": ("POST", "/tokenize", {"model": MODEL, "prompt": "x"}),
    "tokenize an unknown model": ("POST", "/tokenize", {"model": "nope", "prompt": "x"}),
    "load again": ("POST", "/v1/load_lora_adapter", {"lora_name": "tides-v1", "lora_path": "/x"}),
    "load with a model's name": (
        "POST", "/v1/load_lora_adapter", {"lora_name": MODEL, "lora_path": "/x"},
    ),
    "load nothing": ("POST", "/v1/load_lora_adapter", {"lora_name": "", "lora_path": ""}),
    "load without a path": ("POST", "/v1/load_lora_adapter", {"lora_name": "x"}),
    "unload what isn't there": ("POST", "/v1/unload_lora_adapter", {"lora_name": "nope"}),
    "unload nothing": ("POST", "/v1/unload_lora_adapter", {}),
    # Good answers
    "chat": chat(),
    "completion": completion(),
    "streamed chat": chat(stream=True, stream_options={"include_usage": True}),
    "streamed completion": completion(stream=True, stream_options={"include_usage": True}),
    "stream without usage": chat(stream=True),
}  # fmt: skip

DIFFERENT: Final[Mapping[str, str]] = {
    "tools": "vLLM needs --enable-auto-tool-choice",
    "a role is missing": "pydantic names a variant of messages in `param`",
    "content is a number": "pydantic names a variant of messages in `param`",
}
"""Questions that are answered differently on purpose, and why."""
