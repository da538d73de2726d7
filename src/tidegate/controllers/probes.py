"""Ask endpoints what they serve and how: for preflight, and for where adapters are.

    GET  /v1/models              names, adapters, max_model_len     each few seconds
    POST /tokenize               texts and a conversation, hashed   once a process
    POST /v1/chat/completions    one token, with each feature       once a process

Nothing here is waited for: a look takes what is known by now, and is told when there is more.
An endpoint that can't be asked says so only after several tries.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx2
import msgspec

from tidegate.controllers.loop import pause
from tidegate.rollout.facts import EndpointFacts
from tidegate.scrape.models import parse_models

TIMEOUT_S: Final = 5.0
"""Of one question."""
TRIES: Final = 3
RETRY_S: Final = 0.5
AGAIN_S: Final = 2.0
"""An endpoint that couldn't be asked all is asked again after this."""
DEEP_S: Final = 20.0
"""For all questions about tokens and features together."""

TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog.",
    " 1234567890 3.14159 -- !? \n\t{}[]",
    "Ünïcödé, 日本語のテキスト, Ελληνικά, 🙂",
    "def f(x):\n    return x ** 2\n",
)
"""What tokenizers disagree on."""
CONVERSATION: Final = (
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Bye."},
)
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}
_SCHEMA: Final = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
FEATURES: Final[Mapping[str, Mapping[str, Any]]] = {
    "tools": {"tools": [_TOOL], "tool_choice": "auto"},
    "json_schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "probe", "schema": _SCHEMA},
        }
    },
    "logprobs": {"logprobs": True, "top_logprobs": 1},
    "n": {"n": 2},
    "seed": {"seed": 1},
}
"""What requests may use, as parameters of a probe."""


@dataclass(slots=True)
class _Known:
    """One process at an address."""

    identity: tuple[object, ...]
    facts: EndpointFacts | None = None
    """None until it was asked."""
    asked_at: float = -1e9
    deep: bool = False
    """Whether somebody wants it to be asked all."""
    deep_at: float = -1e9
    """When it was last asked all, and when it had answered all."""
    answered_at: float = -1e9
    tokens: tuple[str | None, str | None] = (None, None)
    """Hashes of texts and of the conversation."""
    features: dict[str, bool] = field(default_factory=dict)
    roots: frozenset[str] = frozenset()
    """What the base models are by their files' names."""
    task: asyncio.Task[None] | None = None


class Probes:
    """What is known of all endpoints that somebody asked for."""

    def __init__(
        self,
        now: Callable[[], float],
        on_news: Callable[[], None],
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Make it.

        Args:
            now: Seconds since the epoch.
            on_news: Called when something was learnt.
            timeout_s: How long an endpoint may take for one answer.

        """
        self._timeout_s = timeout_s
        self._now = now
        self._on_news = on_news
        self._known: dict[str, _Known] = {}
        self._client: httpx2.AsyncClient | None = None

    def facts(
        self,
        address: str,
        identity: tuple[object, ...],
        *,
        age_s: float,
        deep_age_s: float | None = None,
    ) -> EndpointFacts | None:
        """Return what is known of an endpoint; ask it if that is older than `age_s`.

        Args:
            address: `host:port`.
            identity: Tells the processes apart that had this address one after the other.
            age_s: How old the list of models may be, in seconds.
            deep_age_s: How old it may be that it answered a request, and its tokens and
                features; None: they don't matter.

        """
        known = self._known.get(address)
        if known is None or known.identity != identity:
            self._forget(address)
            known = self._known[address] = _Known(identity)
        now = self._now()
        shallow = deep_age_s is not None and now - known.answered_at > deep_age_s
        known.deep = known.deep or shallow
        due = now - known.asked_at > age_s or (shallow and now - known.deep_at > AGAIN_S)
        if known.task is None and due:
            known.task = asyncio.ensure_future(self._ask(address, known))
        half = shallow and known.facts is not None and not known.facts.problem
        return None if half else known.facts

    def roots(self, address: str) -> frozenset[str]:
        """Return the names of the files behind an endpoint's models, as far as it says them."""
        known = self._known.get(address)
        return known.roots if known is not None else frozenset()

    def stale(self, address: str) -> None:
        """Say that an endpoint's models changed."""
        if known := self._known.get(address):
            known.asked_at = -1e9

    async def close(self) -> None:
        """Stop asking."""
        for address in list(self._known):
            self._forget(address)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _forget(self, address: str) -> None:
        known = self._known.pop(address, None)
        if known is not None and known.task is not None:
            known.task.cancel()

    async def _ask(self, address: str, known: _Known) -> None:
        deep, known.deep = known.deep, False
        if deep:
            known.deep_at = self._now()
        try:
            facts = await self._models(address, known)
            if deep and not facts.problem:
                facts = await self._deep(address, known, facts)
            tokens = known.tokens
            known.facts = replace(
                facts,
                tokenizer=tokens[0],
                chat_template=tokens[1],
                features=dict(known.features),
            )
        finally:
            known.asked_at = self._now()
            known.task = None
        self._on_news()

    async def _models(self, address: str, known: _Known) -> EndpointFacts:
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                await pause(RETRY_S, asyncio.Event())
            status, body = await self._send(address, "GET", "/v1/models")
            models = parse_models(body) if status == 200 else None
            if models is not None:
                known.roots = frozenset(each.root for each in models if each.root)
                lengths = [each.max_model_len for each in models if each.max_model_len]
                return EndpointFacts(
                    address=address,
                    models=tuple(each.id for each in models if each.parent is None),
                    adapters=frozenset(each.id for each in models if each.parent is not None),
                    max_model_len=min(lengths, default=None),
                )
            problem = _said(status, body) if status else body.decode(errors="replace")
        return EndpointFacts(address=address, problem=problem)

    async def _deep(self, address: str, known: _Known, facts: EndpointFacts) -> EndpointFacts:
        """Ask for tokens and features; return `facts` with the problem if there is one."""
        if not facts.models:
            known.answered_at = self._now()
            return facts
        try:
            async with asyncio.timeout(DEEP_S):
                problem = await self._all_of(address, known, facts.models[0])
        except TimeoutError:
            problem = f"probes took longer than {DEEP_S:g} s"
        return replace(facts, problem=problem)

    async def _all_of(self, address: str, known: _Known, model: str) -> str:
        plain, reason = await self._works(address, model, {})
        if reason:
            return reason
        if plain:  # else it doesn't chat, and no feature of chats can be asked
            for name, parameters in FEATURES.items():
                worked, reason = await self._works(address, model, parameters)
                if worked is not None and not reason:
                    known.features[name] = worked
        texts = [await self._tokens(address, model, prompt=text) for text in TEXTS]
        chat = await self._tokens(address, model, messages=list(CONVERSATION))
        known.tokens = (None if None in texts else _hash(texts), chat and _hash([chat]))
        known.answered_at = self._now()
        return ""

    async def _tokens(self, address: str, model: str, **what: object) -> str | None:
        """Return the tokens of a text or a conversation as text; None if it doesn't say."""
        body = {"model": model, **what}
        status, answer = await self._send(address, "POST", "/tokenize", body)
        if status != 200:
            return None
        try:
            return str(msgspec.json.decode(answer)["tokens"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return None

    async def _works(
        self, address: str, model: str, parameters: Mapping[str, object]
    ) -> tuple[bool | None, str]:
        """Return whether a request with `parameters` works (None: who knows), and a problem."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1,
            **parameters,
        }
        status, answer = await self._send(address, "POST", "/v1/chat/completions", body)
        if not status:
            return None, answer.decode(errors="replace")
        if status == 200:
            return True, ""
        return (False if status in (400, 404, 422, 501) else None), ""

    async def _send(
        self, address: str, method: str, path: str, body: object = None
    ) -> tuple[int, bytes]:
        """Return status and body; 0 and the reason if there is no answer."""
        if self._client is None:
            self._client = httpx2.AsyncClient(trust_env=False, timeout=self._timeout_s)
        content = None if body is None else msgspec.json.encode(body)
        headers = {"content-type": "application/json"} if content else {}
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.request(
                    method, f"http://{address}{path}", content=content, headers=headers
                )
        except TimeoutError:
            return 0, f"{path}: no answer within {self._timeout_s:g} s".encode()
        except (httpx2.HTTPError, OSError) as error:
            return 0, f"{path}: {error or type(error).__name__}".encode()
        return answer.status_code, answer.content


def _said(status: int, body: bytes) -> str:
    return f"/v1/models answered {status}" if status != 200 else f"no list of models: {body[:80]!r}"


def _hash(texts: list[str | None]) -> str:
    return hashlib.sha256("\n".join(text or "" for text in texts).encode()).hexdigest()[:16]
