"""What vLLM refuses in a well-formed body, in its words, with its parameter, in its order.

First what a request says against itself (`consistent`), then its length, which the caller
knows (`check_length`), then each value (`sampled`). As vLLM 0.32 was seen to answer
(`SamplingParams._verify_args`, `ChatCompletionRequest` and `TokenizeParams` upstream).
"""

from collections.abc import Iterator, Mapping
from typing import Final

from tidegate.simulator.errors import RequestError, bad_request, invalid
from tidegate.simulator.openai import (
    ChatRequest,
    CompletionRequest,
    NamedTool,
    StreamOptions,
    stops,
)

MAX_CHOICES: Final = 16_384
MAX_LOGPROBS: Final = 20
MAX_PENALTY: Final = 2.0
MAX_TEMPERATURE: Final = 2.0
_MEDIA: Final = frozenset(("image_url", "input_audio", "video_url"))
_FORMS: Final = ("text", "json_object", "json_schema", "structural_tag")
_ABSENT: Final = object()


def consistent(request: ChatRequest | CompletionRequest) -> None:
    """Refuse what makes no sense whatever the model. Raises RequestError."""
    if request.stream_options not in (None, StreamOptions()) and not request.stream:
        raise _refused("Stream options can only be defined when `stream=True`.", "stream_options")
    form = request.response_format
    if form and form.get("type") not in _FORMS:
        raise invalid(f"Expected one of {', '.join(_FORMS)}", "body.response_format.type")
    if form and form.get("type") == "json_schema" and form.get("json_schema") is None:
        message = (
            "When response_format type is 'json_schema', the 'json_schema' field must be provided."
        )
        raise _refused(message, "response_format")
    if isinstance(request, ChatRequest):
        _logprobs_of_chat(request)
        _tools(request)
    else:
        _completion(request)


def served(request: ChatRequest | CompletionRequest, model: str) -> None:
    """Refuse what no text model can do. Raises RequestError."""
    if isinstance(request, CompletionRequest):
        if request.suffix:
            message = "suffix is only supported for models with FIM completion rendering"
            raise bad_request(message, "suffix")
        if not request.prompt_:
            raise bad_request("You must pass at least one prompt")
        return
    if not request.messages:
        raise bad_request(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    parts = (part for one in request.messages for part in one.content or () if part)
    if any(isinstance(part, dict) and part.get("type") in _MEDIA for part in parts):
        raise bad_request(f"{model} is not a multimodal model")


def check_length(request: ChatRequest | CompletionRequest, size: int, longest: int) -> None:
    """Refuse what is too long for the model. Raises RequestError.

    Args:
        request: A prompt and a limit that together are too long get fewer tokens: no error.
        size: The prompt's tokens.
        longest: The model's context.

    """
    name, limit = "max_tokens", request.limit()
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        name = "max_completion_tokens"
    if limit is not None and limit > longest:
        message = (
            f"{name}={limit} cannot be greater than max_model_len={longest}. "
            "Please request fewer output tokens."
        )
        raise _refused(message, name, limit)
    if size > longest:
        # Its tokenizer stops one token beyond the limit: nobody knows how many there are.
        raise _refused(
            f"This model's maximum context length is {longest} tokens. However, your prompt "
            f"contains at least {longest + 1} input tokens, which exceeds this limit even "
            "without any output tokens. Please reduce the length of the input prompt.",
            "input_tokens",
            longest + 1,
        )


def sampled(request: ChatRequest | CompletionRequest, room: int) -> None:
    """Refuse values that can't be sampled with. Raises RequestError.

    Args:
        request: The request.
        room: How many tokens its answer may have: its own limit, or what the context leaves.

    """
    for error in _values(request, room):
        raise error


def _values(request: ChatRequest | CompletionRequest, room: int) -> Iterator[RequestError]:
    """Yield what is wrong, in the order in which vLLM looks."""
    n, top_p, least = 1 if request.n is None else request.n, request.top_p, request.min_tokens
    if n < 1:
        yield bad_request(f"n must be at least 1, got {n}.")
    if n > MAX_CHOICES:
        hint = "To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable."
        yield bad_request(f"n must be at most {MAX_CHOICES}, got {n}. {hint}")
    yield from _penalties(request)
    yield from _temperature(request.temperature)
    if top_p is not None and not 0.0 < top_p <= 1.0:
        yield _refused(f"top_p must be in (0, 1], got {top_p}.", "top_p", top_p)
    if request.top_k is not None and request.top_k < -1:
        yield bad_request(f"top_k must be 0 (disable), or at least 1, got {request.top_k}.")
    if request.min_p is not None and not 0.0 <= request.min_p <= 1.0:
        yield bad_request(f"min_p must be in [0, 1], got {request.min_p}.")
    if room < 1:
        yield _refused(f"max_tokens must be at least 1, got {room}.", "max_tokens", room)
    if least < 0:
        yield bad_request(f"min_tokens must be greater than or equal to 0, got {least}.")
    if least > room:
        limit = f"max_tokens={room}"
        yield bad_request(f"min_tokens must be less than or equal to {limit}, got {least}.")
    if "" in stops(request):
        yield bad_request("stop cannot contain an empty string.")
    if request.temperature == 0 and n > 1:
        yield bad_request(f"n must be 1 when using greedy sampling, got {n}.")
    asked = request.top_logprobs if isinstance(request, ChatRequest) else request.logprobs
    if asked is not None and asked > MAX_LOGPROBS:
        limit = f"greater than max allowed: {MAX_LOGPROBS}"
        yield _refused(f"Requested sample logprobs of {asked}, which is {limit}", "logprobs", asked)
    yield from _bias(request.logit_bias or {})


def _penalties(request: ChatRequest | CompletionRequest) -> Iterator[RequestError]:
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(request, name)
        if value is not None and not -MAX_PENALTY <= value <= MAX_PENALTY:
            yield bad_request(f"{name} must be in [-2, 2], got {value}.")
    value = request.repetition_penalty
    if value is not None and value <= 0:
        yield bad_request(f"repetition_penalty must be greater than zero, got {value}.")


def _temperature(value: float | None) -> Iterator[RequestError]:
    if value is not None and value < 0:
        yield _refused(f"temperature must be non-negative, got {value}.", "temperature", value)
    if value is not None and value > MAX_TEMPERATURE:
        yield _refused(f"temperature must be in [0, 2], got {value}.", "temperature", value)


def _bias(bias: Mapping[str, float]) -> Iterator[RequestError]:
    odd = [token for token in bias if not token.lstrip("-").isdecimal()]
    if odd:
        message = f"logit_bias contains key(s) that cannot be converted to integer token IDs: {odd}"
        yield _refused(message, "logit_bias", odd)


def _logprobs_of_chat(request: ChatRequest) -> None:
    top = request.top_logprobs or 0
    if top < -1:
        message = "`top_logprobs` must be a positive value or -1."
        raise _refused(message, "top_logprobs", top)
    if top and not request.logprobs:
        message = "when using `top_logprobs`, `logprobs` must be set to true."
        raise _refused(message, "top_logprobs")


def _tools(request: ChatRequest) -> None:
    tools, choice = request.tools, request.tool_choice
    if tools is not None and not tools:
        raise _refused(
            "`tools` must not be an empty array. Either provide at least one tool or omit the "
            "field entirely.",
            "tools",
        )
    if choice is None or choice == "none":
        return
    if not tools:
        raise _refused("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if isinstance(choice, NamedTool):
        if choice.function.name not in {one.function.name for one in tools}:
            message = "The tool specified in `tool_choice` does not match any of the specified"
            raise _refused(f"{message} `tools`", "tool_choice")
    elif choice not in ("auto", "required"):
        raise _refused(
            f"Invalid value for `tool_choice`: {choice}! Only named tools, "
            '"none", "auto" or "required" are supported.',
            "tool_choice",
        )


def _completion(request: CompletionRequest) -> None:
    if request.logprobs is not None and request.logprobs < -1:
        message = "`logprobs` must be a positive value or -1."
        raise _refused(message, "logprobs", request.logprobs)
    if request.prompt_ is None or request.prompt_ == "":
        message = "Either prompt or prompt_embeds must be provided and non-empty."
        raise _refused(message, "prompt")


def _refused(message: str, parameter: str, value: object = _ABSENT) -> RequestError:
    """Return a refusal that names its parameter in the message too, as vLLM's errors do."""
    told = "" if value is _ABSENT else f", value={value}"
    return bad_request(f"{message} (parameter={parameter}{told})", parameter)
