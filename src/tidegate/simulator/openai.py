"""The OpenAI face as vLLM has it: request bodies in, answer bodies out.

Unknown fields are let through, as vLLM does. Answers are assembled from bytes that are
encoded once a request: a streamed event costs one concatenation.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from tidegate.simulator.errors import RequestError, bad_request, malformed
from tidegate.simulator.text import WORDS

DONE: Final = b"data: [DONE]\n\n"


class StreamOptions(Struct, frozen=True):
    """What a stream ends with."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Sampling(Struct, frozen=True, kw_only=True):
    """The fields that both kinds of request share."""

    model: str = ""
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    min_tokens: Annotated[int, Meta(ge=0)] = 0
    ignore_eos: bool = False
    n: Annotated[int, Meta(ge=1, le=128)] | None = 1
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class Function(Struct, frozen=True):
    """What a tool is called, and its arguments' JSON schema."""

    name: str
    parameters: dict[str, Any] = {}


class Tool(Struct, frozen=True):
    """One tool that an answer may call."""

    function: Function
    type: str = "function"


class NamedFunction(Struct, frozen=True):
    """The name of a function."""

    name: str


class NamedTool(Struct, frozen=True):
    """The tool that an answer must call."""

    function: NamedFunction
    type: str = "function"


class ChatRequest(Sampling, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = 0
    tools: list[Tool] | None = None
    tool_choice: str | NamedTool | None = None

    def prompt(self) -> bytes:
        """Return the conversation as the text that the model reads."""
        return "".join(f"<|{one.role}|>{_text(one)}\n" for one in self.messages).encode()

    def limit(self) -> int | None:
        """Return how many tokens the answer may have; None leaves it open."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Sampling, frozen=True, kw_only=True):
    """`POST /v1/completions`. Unlike in chat, an answer has 16 tokens if nothing is said."""

    prompt_: str | list[str | int | list[int]] = msgspec.field(name="prompt")
    """A text, tokens, or a list of one of these."""
    max_tokens: Annotated[int, Meta(ge=1)] | None = 16
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None

    def prompt(self) -> bytes:
        """Return the text that the model reads; tokens become four bytes each."""
        return _prompt_bytes(self.prompt_)

    def limit(self) -> int | None:
        """Return how many tokens the answer may have; None leaves it open."""
        return self.max_tokens


class TokenizeRequest(Struct, frozen=True, kw_only=True):
    """`POST /tokenize`: a prompt, or messages."""

    model: str = ""
    prompt: str | None = None
    messages: list[Message] | None = None

    def text(self) -> bytes:
        """Return what is to be counted. Raises RequestError."""
        if self.messages:
            return ChatRequest(messages=self.messages).prompt()
        if self.prompt is None:
            raise malformed("prompt: Field required")
        return self.prompt.encode()


class AdapterRequest(Struct, frozen=True, kw_only=True):
    """`POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`."""

    lora_name: str = ""
    lora_path: str = ""
    load_inplace: bool = False


Body = ChatRequest | CompletionRequest | TokenizeRequest | AdapterRequest


def parser(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    """Return a decoder of one kind of body."""
    return msgspec.json.Decoder(kind)


def check(request: Sampling) -> None:
    """Refuse what the simulator can't do. Raises RequestError."""
    if request.stream_options is not None and not request.stream:
        raise bad_request(
            "Stream options can only be defined when `stream=True`.", "stream_options"
        )


def stops(request: Sampling) -> list[str]:
    """Return the texts that end an answer."""
    stop = request.stop or []
    return [stop] if isinstance(stop, str) else [one for one in stop if one]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """An answer that calls a function; its arguments are the answer's text."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def encode(self) -> bytes:
        """Return the `usage` object."""
        return (
            b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,'
            b'"prompt_tokens_details":{"cached_tokens":%d}}'
        ) % (
            self.prompt_tokens,
            self.prompt_tokens + self.completion_tokens,
            self.completion_tokens,
            self.cached_tokens,
        )


class Face:
    """One choice of one request's answer on the wire, of one of the two kinds."""

    __slots__ = ("_chat", "_chunk_head", "_index", "_text_head", "_text_tail", "head")

    def __init__(
        self, chat: bool, request_id: str, created: int, model: str, index: int = 0
    ) -> None:
        self._chat = chat
        self._index = b'{"index":%d,' % index
        kind = "chat.completion" if chat else "text_completion"
        tail = b',"created":%d,"model":%b,"choices":[' % (created, quoted(model))
        self.head = b'{"id":%b,"object":"%b"' % (quoted(request_id), kind.encode()) + tail
        """How a whole answer begins."""
        chunk = b"chat.completion.chunk" if chat else b"text_completion"
        self._chunk_head = b'data: {"id":%b,"object":"%b"' % (quoted(request_id), chunk) + tail
        if chat:
            self._text_head = self._chunk_head + self._index + b'"delta":{"content":'
            self._text_tail = b'},"logprobs":null,"finish_reason":null}]}\n\n'
        else:
            self._text_head = self._chunk_head + self._index + b'"text":'
            self._text_tail = b',"logprobs":null,"finish_reason":null,"stop_reason":null}]}\n\n'

    def opening(self) -> list[bytes]:
        """Return the events before the first text: chats announce the role."""
        if not self._chat:
            return []
        role = (
            b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
        )
        return [self._chunk_head + self._index + role]

    def event(self, text: str, finish: str | None = None, logprobs: bytes | None = None) -> bytes:
        """Return the event of one token; the last one says why it is the last."""
        if finish is None and logprobs is None:
            return self._text_head + quoted(text) + self._text_tail
        return self._text_head + quoted(text) + _ended(self._text_tail, finish, logprobs)

    def events(self, words: list[str]) -> list[bytes]:
        """Return an event for each of the tokens before the last one."""
        head, tail, known = self._text_head, self._text_tail, QUOTED
        return [head + (known.get(word) or quoted(word)) + tail for word in words]

    def tool_event(self, tool: ToolCall, arguments: str, first: bool, finish: str | None) -> bytes:
        """Return the event of a piece of a tool call's arguments; the first one names the tool."""
        call: dict[str, Any] = {"index": 0, "function": {"arguments": arguments}}
        if first:
            call = {"index": 0, "id": tool.id, "type": "function",
                    "function": {"name": tool.name, "arguments": arguments}}  # fmt: skip
        delta = b'"delta":{"tool_calls":[%b]' % msgspec.json.encode(call)
        return self._chunk_head + self._index + delta + _ended(self._text_tail, finish, None)

    def usage_event(self, usage: Usage) -> bytes:
        """Return the event without a choice that ends a stream with `include_usage`."""
        return self._chunk_head + b'],"usage":%b}\n\n' % usage.encode()

    def choice(
        self, text: str, finish: str, tool: ToolCall | None = None, logprobs: bytes | None = None
    ) -> bytes:
        """Return this choice of an answer that isn't streamed."""
        if tool is not None:
            function = {"name": tool.name, "arguments": text}
            call = {"id": tool.id, "type": "function", "function": function}
            said = b'"message":{"role":"assistant","content":null,"tool_calls":[%b]}' % (
                msgspec.json.encode(call)
            )
        elif self._chat:
            said = b'"message":{"role":"assistant","content":%b}' % quoted(text)
        else:
            said = b'"text":%b' % quoted(text)
        end = b',"logprobs":%b,"finish_reason":"%b","stop_reason":null}'
        return self._index + said + end % (logprobs or b"null", finish.encode())


def _ended(tail: bytes, finish: str | None, logprobs: bytes | None) -> bytes:
    """Return an event's tail that says why the answer ends, and how likely its token was."""
    if logprobs is not None:
        tail = tail.replace(b'"logprobs":null', b'"logprobs":' + logprobs)
    if finish is not None:
        ended = b'"finish_reason":"%b"' % finish.encode()
        tail = tail.replace(b'"finish_reason":null', ended)
    return tail


def error_body(error: RequestError) -> bytes:
    """Return vLLM's error body."""
    if error.status == HTTPStatus.UNAUTHORIZED:  # comes from a middleware of its own
        return b'{"error":"Unauthorized"}'
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": error.type,
                "param": error.param,
                "code": error.status,
            }
        }
    )


def model_cards(
    models: tuple[str, ...], adapters: dict[str, str], max_model_len: int, created: int
) -> bytes:
    """Return `/v1/models`: the base model by all its names, then the adapters with `parent`."""
    base = models[0]
    cards = [_card(name, base, None, max_model_len, created) for name in models]
    cards += [_card(name, path, base, None, created) for name, path in adapters.items()]
    return msgspec.json.encode({"object": "list", "data": cards})


def _card(
    name: str, root: str, parent: str | None, max_model_len: int | None, created: int
) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [],
    }


QUOTED: Final = {word: msgspec.json.encode(word) for word in WORDS}
"""The words of answers as JSON strings."""


def quoted(text: str) -> bytes:
    """Return `text` as a JSON string."""
    return msgspec.json.encode(text)


def _text(message: Message) -> str:
    content = message.content
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content or ""


def _prompt_bytes(prompt: str | list[str | int | list[int]]) -> bytes:
    if isinstance(prompt, str):
        return prompt.encode()
    tokens = [one for one in prompt if isinstance(one, int)]
    if tokens and len(tokens) == len(prompt):
        return b"".join((one & 0xFFFFFFFF).to_bytes(4, "little") for one in tokens)
    if len(prompt) != 1:
        raise bad_request(f"prompt: found {len(prompt)}, the simulator takes 1", "prompt")
    only = prompt[0]
    return _prompt_bytes([*only] if isinstance(only, list) else str(only))
