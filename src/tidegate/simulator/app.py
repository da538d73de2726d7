"""What a simulated server answers on which path: vLLM's API, and `/admin/faults`."""

import asyncio
import random
import secrets
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import msgspec

from tidegate.simulator import openai, text
from tidegate.simulator.driver import Driver
from tidegate.simulator.engine import Engine, Pace
from tidegate.simulator.errors import RequestError, bad_request, malformed, not_found
from tidegate.simulator.faults import HEALTHY, Faults
from tidegate.simulator.generation import Generation, plan
from tidegate.simulator.http import Reply, Request
from tidegate.simulator.metrics import CONTENT_TYPE, Metrics
from tidegate.simulator.openai import (
    AdapterRequest,
    ChatRequest,
    CompletionRequest,
    Face,
    TokenizeRequest,
)
from tidegate.simulator.settings import Settings

ADMIN_PATH: Final = "/admin/faults"
VERSION: Final = b'{"version":"0.32.0+tidegate.simulator"}'

Answer = Callable[[Request, Reply], None]


class App:
    """One simulated server without its sockets.

    Args:
        settings: Models, speed and limits.
        loop: Whose timers drive the engine.
        wall: Returns the time in seconds since the epoch.

    """

    def __init__(
        self, settings: Settings, loop: asyncio.AbstractEventLoop, wall: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.faults = HEALTHY
        self.engine = Engine(settings.profile)
        self.metrics = Metrics(settings)
        self.adapters = {name: name for name in settings.adapters}
        self._wall = wall
        self._created = int(wall())
        self._loop = loop
        self._driver = Driver(self.engine, self.metrics, loop)
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
                raise RequestError(404, "Not Found", "Not Found")
            if (answer := methods.get(method)) is None:
                raise RequestError(405, "Method Not Allowed", "Method Not Allowed")
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
        body = _parse(parser, request.body)
        adapter = self._adapter(body.model)
        faults = self.faults
        if faults.hang:
            return
        if faults.error_rate and self._rng.random() < faults.error_rate:
            self.metrics.finished["error"] += 1
            raise RequestError(faults.status, "InternalServerError", "A fault was switched on.")
        planned = plan(body, self.settings.profile, self.settings.seed, adapter)
        chat = isinstance(body, ChatRequest)
        name = request.request_id or f"{self._nonce}-{next(self._number)}"
        request_id = f"{'chatcmpl' if chat else 'cmpl'}-{name}"
        model = body.model or self.settings.models[0]
        face = Face(chat, request_id, int(self._wall()), model)
        generation = Generation(body, planned, face, reply, faults.reset_after_events)
        if faults.delay_s:
            timer = self._loop.call_later(
                faults.delay_s, generation.start, self._driver, self.metrics
            )
            reply.on_gone = timer.cancel
        else:
            generation.start(self._driver, self.metrics)

    def _adapter(self, model: str) -> str:
        """Return the adapter that `model` names; '' is the base model."""
        if model in self.adapters:
            return model
        if model and model not in self.settings.models:
            raise not_found(f"The model `{model}` does not exist.", "model")
        return ""

    def _tokenize(self, request: Request, reply: Reply) -> None:
        body = _parse(_TOKENIZE, request.body)
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
        body = _parse(_ADAPTER, request.body)
        name = body.lora_name
        if not name or not body.lora_path:
            raise RequestError(
                400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided."
            )
        if name in self.adapters and not body.load_inplace:
            raise RequestError(
                400,
                "InvalidUserInput",
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True.",
            )
        if name in self.settings.models:
            raise bad_request(f"The lora adapter '{name}' has the name of a model.", "lora_name")
        self.adapters[name] = body.lora_path
        message = f"Success: LoRA adapter '{name}' added successfully."
        reply.send(200, message.encode(), "text/plain; charset=utf-8")

    def _unload(self, request: Request, reply: Reply) -> None:
        name = _parse(_ADAPTER, request.body).lora_name
        if not name:
            raise RequestError(400, "InvalidUserInput", "'lora_name' needs to be provided.")
        if self.adapters.pop(name, None) is None:
            raise not_found(f"The lora adapter '{name}' cannot be found.")
        message = f"Success: LoRA adapter '{name}' removed successfully."
        reply.send(200, message.encode(), "text/plain; charset=utf-8")

    # Operation

    def _health(self, _: Request, reply: Reply) -> None:
        reply.send(503 if self.faults.unhealthy else 200)

    def _scrape(self, _: Request, reply: Reply) -> None:
        reply.send(200, self.metrics.render(self.engine, self._wall()), CONTENT_TYPE)

    def _show_faults(self, _: Request, reply: Reply) -> None:
        reply.send(200, msgspec.json.encode(self.faults))

    def _set_faults(self, request: Request, reply: Reply) -> None:
        fields = _parse(_FIELDS, request.body)
        try:
            wanted = msgspec.convert({**msgspec.structs.asdict(self.faults), **fields}, Faults)
        except msgspec.ValidationError as error:
            raise malformed(str(error)) from error
        self._use_faults(wanted, reply)

    def _heal(self, _: Request, reply: Reply) -> None:
        self._use_faults(HEALTHY, reply)

    def _use_faults(self, faults: Faults, reply: Reply) -> None:
        self.faults = faults
        self.engine.pace = Pace(faults.ttft_factor, faults.itl_factor)
        reply.send(200, msgspec.json.encode(faults))


_TOKENIZE: Final = openai.parser(TokenizeRequest)
_ADAPTER: Final = openai.parser(AdapterRequest)
_FIELDS: Final = openai.parser(dict[str, Any])


def _parse(parser: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return parser.decode(body)
    except msgspec.DecodeError as error:
        raise malformed(str(error)) from error
    except UnicodeDecodeError as error:
        raise malformed("JSON is malformed: it isn't UTF-8") from error
