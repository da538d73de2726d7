"""`logprobs` in the shapes of chats and of completions; the numbers are made up but fixed."""

from typing import Any

import msgspec

from tidegate.simulator.openai import ChatRequest, CompletionRequest
from tidegate.simulator.text import WORDS, logprob


def asked(request: ChatRequest | CompletionRequest) -> int | None:
    """Return how many alternatives a request wants beside each token; None: no logprobs at all."""
    if isinstance(request, CompletionRequest):
        return None if request.logprobs is None else int(request.logprobs)
    return (request.top_logprobs or 0) if request.logprobs else None


def encode(chat: bool, words: list[str], first: int, point: int, top: int) -> bytes:
    """Return the `logprobs` of some tokens of an answer.

    Args:
        chat: Which shape.
        words: Those tokens.
        first: How many tokens were before them.
        point: Where the answer starts.
        top: How many alternatives each has.

    """
    rows = [
        (word, at, [(word, at), *_others(word, point + n, top)])
        for n, word in enumerate(words, first)
        for at in [logprob(point, n)]
    ]
    if chat:
        content = [
            {**_entry(word, at), "top_logprobs": [_entry(*one) for one in likely[: max(0, top)]]}
            for word, at, likely in rows
        ]
        return msgspec.json.encode({"content": content})
    offsets, offset = [], 0
    for word in words:
        offsets.append(offset)
        offset += len(word)
    return msgspec.json.encode(
        {
            "text_offset": offsets,
            "token_logprobs": [at for _, at, _ in rows],
            "tokens": words,
            "top_logprobs": [dict(likely) for _, _, likely in rows],
        }
    )


def _entry(word: str, at: float) -> dict[str, Any]:
    return {"token": word, "logprob": at, "bytes": list(word.encode())}


def _others(word: str, point: int, top: int) -> list[tuple[str, float]]:
    """Return less likely words; the chosen one is the first of the alternatives."""
    start = point % len(WORDS)
    others = [one for one in WORDS[start:] + WORDS[:start] if one != word]
    return [(one, -2.0 - n / 4) for n, one in enumerate(others[: max(0, top - 1)])]
