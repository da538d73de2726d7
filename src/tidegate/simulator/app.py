"""What a simulated server answers on which path: vLLM's API, and `/admin/faults`."""

import asyncio
import random
import secrets
from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import msgspec

from tidegate.simulator import checks, openai, text
from tidegate.simulator.adapters import AdapterSlots
from tidegate.simulator.bodies import parse, parse_any
from tidegate.simulator.driver import Driver
from tidegate.simulator.engine import Engine
from tidegate.simulator.errors import RequestError, bare, invalid, not_found
from tidegate.simulator.exposition import CONTENT_TYPE
from tidegate.simulator.faults import DEAD, HEALTHY, Crash, Faults, refusal
from tidegate.simulator.generation import Generation, plan
from tidegate.simulator.http import Reply, Request
from tidegate.simulator.jobs import Pace
from tidegate.simulator.metrics import Metrics
from tidegate.simulator.openai import (
    AdapterRequest,
    ChatRequest,
    CompletionRequest,
    Face,
    TokenizeRequest,
    UnloadRequest,
)
from tidegate.simulator.settings import Settings

ADMIN_PATH: Final = "/admin/faults"
RAMP_STEP_S: Final = 0.1
LAST_WORDS_S: Final = 0.05
"""How long a server that is out of memory still answers: with errors."""
VERSION: Final = b'{"version":"0.32.0+tidegate.simulator"}'

Answer = Callable[[Request, Reply], None]


class App:
    """One simulated server without its sockets.

    Args:
        settings: Models, speed and limits.
        loop: Whose timers drive the engine.
        wall: Returns the time in seconds since the epoch.
        on_crash: Called when a fault ends the server.

    """

    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        wall: Callable[[], float],
        on_crash: Callable[[Crash], None],
    ) -> None:
        self.settings = settings
        self.faults = HEALTHY
        profile = settings.profile
        self._slots = AdapterSlots(
            settings.max_loras, settings.host_loras, profile.adapter_disk_s, profile.adapter_copy_s
        )
        self.engine = Engine(profile, adapters=self._slots)
        self.metrics = Metrics(settings, wall())
        named = [one.partition("=") for one in settings.adapters]
        self.adapters = {name: path or name for name, _, path in named}
        """Paths of the loaded adapters by their names."""
        for name in self.adapters:
            self._slots.load(name)
        self._ready_at: dict[str, float] = {}
        """When the adapters are there that are being loaded."""
        self._frozen: bytes | None = None
        self._dead = False
        self._wall = wall
        self._created = int(wall())
        self._loop = loop
        self._on_crash = on_crash
        self._driver = Driver(self.engine, self.metrics, loop, wall)
        self._rng = random.Random(settings.seed)
        self._nonce = secrets.token_hex(6)
        self._number = count(1)
        self._routes = self._table()

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or later."""
        if self.faults.refuse and request.path != ADMIN_PATH:
            reply.reset()
            return
        methods = self._routes.get(request.path)
        method = "GET" if request.method == "HEAD" else request.method
        try:
            if methods is None:
                raise bare(HTTPStatus.NOT_FOUND, "Not Found")
            if (answer := methods.get(method)) is None:
                raise bare(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
            answer(request, reply)
        except RequestError as error:
            reply.send(error.status, openai.error_body(error))

    def _table(self) -> dict[str, dict[str, Answer]]:
        chat, completion = openai.parser(ChatRequest), openai.parser(CompletionRequest)
        return {
            "/v1/chat/completions": {"POST": lambda q, r: self._infer(chat, q, r)},
            "/v1/completions": {"POST": lambda q, r: self._infer(completion, q, r)},
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._health},
            "/ping": {"GET": self._health, "POST": self._health},
            "/version": {"GET": lambda _, r: r.send(200, VERSION)},
            "/metrics": {"GET": self._scrape},
            "/tokenize": {"POST": self._tokenize},
            "/v1/load_lora_adapter": {"POST": self._load},
            "/v1/unload_lora_adapter": {"POST": self._unload},
            ADMIN_PATH: {
                "GET": self._show_faults, "POST": self._set_faults, "DELETE": self._heal,
            },
        }  # fmt: skip

    # Inference

    def _infer(self, parser: msgspec.json.Decoder[Any], request: Request, reply: Reply) -> None:
        body = parse(parser, request)
        checks.consistent(body)
        adapter = self._adapter(body.model)
        checks.served(body, self.settings.models[0])
        faults = self.faults
        if self._dead:
            raise DEAD
        if faults.hang:
            return
        draw = self._rng.random
        if (refused := refusal(faults, draw() if faults is not HEALTHY else 1.0)) is not None:
            self.metrics.finished["error"] += 1
            raise refused
        seed: int | str = self.settings.seed
        if faults.wrong_rate and draw() < faults.wrong_rate:
            seed = f"{seed}/wrong"
        choices = range(max(1, body.n or 1))
        plans = [plan(body, self.settings.profile, seed, adapter, n) for n in choices]
        generation = Generation(body, plans, self._faces(body, request, choices), reply, faults)
        if faults.delay_s:
            timer = self._loop.call_later(
                faults.delay_s, generation.start, self._driver, self.metrics
            )
            reply.on_gone = timer.cancel
        else:
            generation.start(self._driver, self.metrics)

    def _faces(
        self, body: ChatRequest | CompletionRequest, request: Request, choices: range
    ) -> list[Face]:
        chat = isinstance(body, ChatRequest)
        name = request.request_id or f"{self._nonce}-{next(self._number)}"
        request_id = f"{'chatcmpl' if chat else 'cmpl'}-{name}"
        # The base model has the first of its names in answers, whichever was asked for.
        model = body.model if body.model in self.adapters else self.settings.models[0]
        now = int(self._wall())
        return [Face(chat, request_id, now, model, n) for n in choices]

    def _adapter(self, model: str | None) -> str:
        """Return the adapter that `model` names; '' is the base model."""
        if model in self.adapters:
            return model
        if model and model not in self.settings.models:
            names = ", ".join(self.settings.models)
            message = f"The model `{model}` does not exist. Valid aliases: {names}."
            raise not_found(message, "model")
        return ""

    def _tokenize(self, request: Request, reply: Reply) -> None:
        body = parse(_TOKENIZE, request)
        self._adapter(body.model)
        tokens = text.token_ids(body.text())
        answer = {
            "count": len(tokens),
            "max_model_len": self.settings.profile.max_model_len,
            "tokens": tokens,
            "token_strs": None,
        }
        reply.send(200, msgspec.json.encode(answer))

    # Models and adapters

    def _models(self, _: Request, reply: Reply) -> None:
        longest = self.settings.profile.max_model_len
        cards = openai.model_cards(self.settings.models, self.adapters, longest, self._created)
        reply.send(200, cards)

    def _load(self, request: Request, reply: Reply) -> None:
        body = parse(_ADAPTER, request)
        name = body.lora_name
        if not name or not body.lora_path:
            raise RequestError(
                400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided."
            )
        if (ready_at := self._ready_at.get(name)) is not None:  # one after the other, as in vLLM
            self._loop.call_at(ready_at, self._again, request, reply)
            return
        if name in self.adapters and not body.load_inplace:
            raise RequestError(
                400,
                "InvalidUserInput",
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True.",
            )
        if name in self.settings.models:
            message = f"The lora adapter '{name}' conflicts with a served base model."
            raise RequestError(400, "InvalidUserInput", message)
        if name in self.faults.missing_adapters:
            raise not_found(f"Loading lora {name} failed: No adapter found for {body.lora_path}")
        if body.load_inplace:
            self._slots.forget(name)
        seconds = self._slots.load(name) + self.faults.adapter_delay_s
        if seconds:
            self._ready_at[name] = self._loop.time() + seconds
            self._loop.call_later(seconds, self._loaded, name, body.lora_path, reply)
        else:
            self._loaded(name, body.lora_path, reply)

    def _again(self, request: Request, reply: Reply) -> None:
        try:
            self._load(request, reply)
        except RequestError as error:
            reply.send(error.status, openai.error_body(error))

    def _loaded(self, name: str, path: str, reply: Reply) -> None:
        self._ready_at.pop(name, None)
        self.adapters[name] = path
        message = f"Success: LoRA adapter '{name}' added successfully."
        reply.send(200, message.encode(), "text/plain; charset=utf-8")

    def _unload(self, request: Request, reply: Reply) -> None:
        name = parse(_UNLOAD, request).lora_name
        if not name:
            raise RequestError(
                400,
                "InvalidUserInput",
                "'lora_name' needs to be provided to unload a LoRA adapter.",
            )
        if self.adapters.pop(name, None) is None:
            raise not_found(f"The lora adapter '{name}' cannot be found.")
        self._slots.forget(name)
        message = f"Success: LoRA adapter '{name}' removed successfully."
        reply.send(200, message.encode(), "text/plain; charset=utf-8")

    # Operation

    def _health(self, _: Request, reply: Reply) -> None:
        reply.send(503 if self.faults.unhealthy or self._dead else 200)

    def _scrape(self, _: Request, reply: Reply) -> None:
        if self.faults.metrics == "broken":
            raise RequestError(500, "InternalServerError", "Internal server error")
        page = self._frozen or self._page()
        if self.faults.metrics_delay_s:
            self._loop.call_later(self.faults.metrics_delay_s, reply.send, 200, page, CONTENT_TYPE)
        else:
            reply.send(200, page, CONTENT_TYPE)

    def _page(self) -> bytes:
        return self.metrics.render(self.engine, self._wall())

    def _show_faults(self, _: Request, reply: Reply) -> None:
        reply.send(200, msgspec.json.encode(self.faults))

    def _set_faults(self, request: Request, reply: Reply) -> None:
        fields = parse_any(_FIELDS, request.body)
        try:
            wanted = msgspec.convert({**msgspec.structs.asdict(self.faults), **fields}, Faults)
        except msgspec.ValidationError as error:
            raise invalid(str(error), "body") from error
        self._answer_faults(wanted, reply)

    def _heal(self, _: Request, reply: Reply) -> None:
        self._answer_faults(HEALTHY, reply)

    def _answer_faults(self, faults: Faults, reply: Reply) -> None:
        self.use_faults(faults)
        reply.send(200, msgspec.json.encode(faults))
        if faults.crash:
            self._crash(faults.crash)

    def use_faults(self, faults: Faults) -> None:
        """Have these faults from now on, and no others; a crash is left to the caller."""
        frozen = faults.metrics == "frozen"
        self._frozen = (self._frozen or self._page()) if frozen else None
        self.faults = faults
        self._ramp(faults, self._loop.time())
        self._driver.after_step = self._check_memory if faults.oom_at_usage else None

    def _ramp(self, faults: Faults, since: float) -> None:
        """Set the pace, and come back while it is still changing."""
        if self.faults is not faults:  # others have been switched on
            return
        passed = self._loop.time() - since
        share = min(1.0, passed / faults.ramp_s) if faults.ramp_s else 1.0
        self.engine.pace = Pace(
            1 + (faults.ttft_factor - 1) * share, 1 + (faults.itl_factor - 1) * share
        )
        if share < 1:
            self._loop.call_later(RAMP_STEP_S, self._ramp, faults, since)

    def _check_memory(self) -> None:
        most = self.faults.oom_at_usage
        if most is not None and self.engine.cache.usage >= most:
            self._crash("oom")

    def _crash(self, kind: Crash) -> None:
        """End the server; out of memory, its requests hear of it first."""
        if self._dead:
            return
        self._dead = True
        self._driver.after_step = None
        if kind == "oom":
            self._fail_all()
            self._loop.call_later(LAST_WORDS_S, self._on_crash, kind)
        else:
            self._on_crash(kind)

    def _fail_all(self) -> None:
        """Answer all running requests with an error."""
        failed: set[Generation] = set()
        for sequence in (*self.engine.running, *self.engine.waiting):
            choice = sequence.owner
            if choice is None:
                continue
            self._driver.abort(sequence)
            if choice.generation not in failed:
                failed.add(choice.generation)
                choice.generation.fail(DEAD)


_TOKENIZE: Final = openai.parser(TokenizeRequest)
_ADAPTER: Final = openai.parser(AdapterRequest)
_UNLOAD: Final = openai.parser(UnloadRequest)
_FIELDS: Final = openai.parser(dict[str, Any])
