"""The OpenAI face as vLLM has it: request bodies in, answer bodies out.

Unknown fields are let through and numbers may be texts, as in vLLM; what values may be is
said in `checks`. Answers are assembled from bytes that are encoded once a request: a streamed
event costs one concatenation. They have all fields that vLLM's have, those that are always
null too.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from tidegate.simulator.errors import RequestError, bad_request, invalid
from tidegate.simulator.text import WORDS

DONE: Final = b"data: [DONE]\n\n"
FINGERPRINT: Final = b'"system_fingerprint":"vllm-0.32.0-simulator"'
MESSAGE_NULLS: Final = (
    b'"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null'
)
CHOICE_NULLS: Final = b'"token_ids":null,"routed_experts":null'
COMPLETION_NULLS: Final = (
    b'"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null'
)
COMPLETION_TAIL: Final = b',"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}'
CHAT_TAIL: Final = (
    b',"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null' + COMPLETION_TAIL
)


class StreamOptions(Struct, frozen=True):
    """What a stream ends with."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Sampling(Struct, frozen=True, kw_only=True):
    """The fields that both kinds of request share."""

    model: str | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    n: int | None = 1
    seed: int | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None


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

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    tools: list[Tool] | None = None
    tool_choice: str | NamedTool | None = None

    def prompt(self) -> bytes:
        """Return the conversation as the text that the model reads."""
        return "".join(f"<|{one.role}|>{_text(one)}\n" for one in self.messages).encode()

    def limit(self) -> int | None:
        """Return how many tokens the answer may have; None leaves it open."""
        most = self.max_completion_tokens
        return self.max_tokens if most is None else most


class CompletionRequest(Sampling, frozen=True, kw_only=True):
    """`POST /v1/completions`. Unlike in chat, an answer has 16 tokens if nothing is said."""

    prompt_: str | list[str | int | list[int]] | None = msgspec.field(name="prompt", default=None)
    """A text, tokens, or a list of one of these."""
    max_tokens: int | None = 16
    logprobs: int | bool | None = None
    suffix: str | None = None

    def prompt(self) -> bytes:
        """Return the text that the model reads; tokens become four bytes each."""
        return _prompt_bytes(self.prompt_ or "")

    def limit(self) -> int | None:
        """Return how many tokens the answer may have; None leaves it open."""
        return self.max_tokens


class TokenizeRequest(Struct, frozen=True, kw_only=True):
    """`POST /tokenize`: a prompt, or messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None

    def text(self) -> bytes:
        """Return what is to be counted. Raises RequestError."""
        if self.messages:
            return ChatRequest(messages=self.messages).prompt()
        if self.prompt is None:
            raise invalid("Field required", "body.prompt", "body.messages")
        return self.prompt.encode()


class AdapterRequest(Struct, frozen=True, kw_only=True):
    """`POST /v1/load_lora_adapter`."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False


class UnloadRequest(Struct, frozen=True, kw_only=True):
    """`POST /v1/unload_lora_adapter`."""

    lora_name: str


def parser(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    """Return a decoder of one kind of body."""
    return msgspec.json.Decoder(kind, strict=False)


def stops(request: Sampling) -> list[str]:
    """Return the texts that end an answer."""
    stop = request.stop or []
    return [stop] if isinstance(stop, str) else stop


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
        """Return the `usage` object, as `--enable-prompt-tokens-details` has it."""
        return (
            b'{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,'
            b'"prompt_tokens_details":{"cached_tokens":%d},"completion_tokens_details":null}'
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
            self._text_tail = b'},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
        else:
            self._text_head = self._chunk_head + self._index + b'"text":'
            self._text_tail = (
                b',"logprobs":null,"finish_reason":null,"stop_reason":null,'
                b'"prompt_token_ids":null,"token_ids":null}]}\n\n'
            )

    def opening(self) -> list[bytes]:
        """Return the events before the first text: chats announce the role."""
        if not self._chat:
            return []
        role = (
            b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
            b'"prompt_token_ids":null,"prompt_text":null}\n\n'
        )
        return [self._chunk_head + self._index + role]

    def event(
        self,
        text: str,
        finish: str | None = None,
        logprobs: bytes | None = None,
        stop: str | None = None,
    ) -> bytes:
        """Return the event of one token; the last one says why it is the last."""
        if finish is None and logprobs is None:
            return self._text_head + quoted(text) + self._text_tail
        return self._text_head + quoted(text) + _ended(self._text_tail, finish, logprobs, stop)

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
        return self._chunk_head + b'],"usage":%b,%b}\n\n' % (usage.encode(), FINGERPRINT)

    def ended(self, choices: list[bytes], usage: Usage) -> bytes:
        """Return the whole of an answer that isn't streamed."""
        tail = CHAT_TAIL if self._chat else COMPLETION_TAIL
        middle = b'],"service_tier":null,%b,"usage":' % FINGERPRINT
        return self.head + b",".join(choices) + middle + usage.encode() + tail

    def choice(
        self,
        text: str,
        finish: str,
        tool: ToolCall | None = None,
        logprobs: bytes | None = None,
        stop: str | None = None,
    ) -> bytes:
        """Return this choice of an answer that isn't streamed; `stop` is the text that ended it."""
        if tool is not None:
            function = {"name": tool.name, "arguments": text}
            call = {"id": tool.id, "type": "function", "function": function}
            said = b'"message":{"role":"assistant","content":null,%b,"tool_calls":[%b]}' % (
                MESSAGE_NULLS,
                msgspec.json.encode(call),
            )
        elif self._chat:
            said = b'"message":{"role":"assistant","content":%b,%b}' % (quoted(text), MESSAGE_NULLS)
        else:
            said = b'"text":%b' % quoted(text)
        end = b',"logprobs":%b,"finish_reason":"%b","stop_reason":%b,%b}'
        nulls = CHOICE_NULLS if self._chat else COMPLETION_NULLS
        ended = (logprobs or b"null", finish.encode(), quoted(stop) if stop else b"null", nulls)
        return self._index + said + end % ended


def _ended(
    tail: bytes, finish: str | None, logprobs: bytes | None, stop: str | None = None
) -> bytes:
    """Return an event's tail that says why the answer ends, and how likely its token was."""
    if logprobs is not None:
        tail = tail.replace(b'"logprobs":null', b'"logprobs":' + logprobs)
    if finish is not None:
        # In chats only the last event has a `stop_reason`.
        tail = tail.replace(b',"stop_reason":null', b"")
        why = quoted(stop) if stop else b"null"
        ended = b'"finish_reason":"%b","stop_reason":%b' % (finish.encode(), why)
        tail = tail.replace(b'"finish_reason":null', ended)
    return tail


def signed(event: bytes) -> bytes:
    """Return a stream's last event that has a choice, with what made it: where no usage follows."""
    return event.removesuffix(b"}\n\n") + b",%b}\n\n" % FINGERPRINT


def error_body(error: RequestError) -> bytes:
    """Return vLLM's error body."""
    if error.status == HTTPStatus.UNAUTHORIZED:  # comes from a middleware of its own
        return b'{"error":"Unauthorized"}'
    if error.bare:  # said by the web framework before vLLM is asked
        return msgspec.json.encode({"detail": error.message})
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
        "permission": [_permission(name, created)],
    }


def _permission(name: str, created: int) -> dict[str, Any]:
    return {
        "id": f"modelperm-{hash(name) & (1 << 64) - 1:016x}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
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
