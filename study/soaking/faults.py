"""What goes wrong during a soak, one thing at a time, and which failures it excuses.

A fault says beforehand what it may cost. A failed request that no fault excuses is a loss.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final
from urllib.request import Request, urlopen

import psutil

from tidegate.load.result import Result
from tidegate.testing.deployment import Deployment
from tidegate.testing.waiting import wait_until

MODEL: Final = "example/chat-8b"
SPELL_S: Final = 8.0
"""How long a fault that has a length lasts."""
NEAR_S: Final = 0.25
"""Clocks of the killer and of the client are read that far apart at most."""
SERVER_FAULTS: Final[dict[str, dict[str, object]]] = {
    "errors": {"errors": {"server_error": 0.3}},
    "unavailable": {"errors": {"unavailable": 0.5}},
    "slow tokens": {"itl_factor": 5.0},
    "slow prefill": {"ttft_factor": 20.0},
    "hang": {"hang": True},
    "silent streams": {"stall_after_events": 3},
    "resets in streams": {"reset_after_events": 3},
    "refused connections": {"refuse": True},
    "unhealthy": {"unhealthy": True},
    "frozen metrics": {"metrics": "frozen"},
    "broken metrics": {"metrics": "broken"},
    "slow metrics": {"metrics_delay_s": 3.0},
}
HURTS: Final = {
    "errors": {"status"},
    "unavailable": {"status"},
    "hang": {"status", "timeout"},
    "silent streams": {"stream-error", "reset", "truncated", "timeout"},
    "resets in streams": {"status", "stream-error", "reset", "truncated"},
}
"""The errors that clients of a sick server may see; with the other faults: none."""


@dataclass(slots=True)
class Event:
    """Something that was done. Times are `perf_counter`'s."""

    kind: str
    began: float
    ended: float = 0.0
    endpoint: str = ""
    """The server that it was done to; empty: to the gateway."""
    lost: int = 0
    """Requests that failed of it."""

    def excuses(self, result: Result) -> bool:
        """Whether `result` may have failed of this."""
        ended = result.started_at + result.duration_s
        if self.kind in ("kill a worker", "kill a model server"):
            under_way = result.started_at - NEAR_S <= self.began <= ended + NEAR_S
            return under_way and (not self.endpoint or result.endpoint == self.endpoint)
        overlaps = result.started_at <= self.ended and ended >= self.began
        # Of the gateway's own answers only the message says at which server a try ended.
        theirs = result.endpoint == self.endpoint or f'"{self.endpoint} took' in result.detail
        return overlaps and theirs and result.error in HURTS.get(self.kind, ())


@dataclass(slots=True)
class Trouble:
    """Makes trouble on a deployment; the same seed makes the same."""

    up: Deployment
    rng: Random
    events: list[Event] = field(default_factory=list)
    now: str = ""
    """What is going on."""

    def kinds(self) -> dict[str, Callable[[], None]]:
        """Return all that can be done, by name."""
        sick = {name: lambda name=name: self.sicken(name) for name in SERVER_FAULTS}
        return {
            **sick,
            "kill a worker": self.kill_worker,
            "kill a model server": self.kill_server,
            "kill the control process": self.kill_control,
            "move weights": self.move_weights,
            "scale down and up": self.scale,
            "slow readers": self.slow_readers,
            "half requests": self.half_requests,
            "clients that leave": self.leavers,
        }

    def sicken(self, name: str) -> None:
        """Give one server a fault for a spell."""
        address = self.rng.choice(self.addresses())
        with self._going_on(name, address):
            _admin(address, "POST", SERVER_FAULTS[name])
            try:
                time.sleep(SPELL_S)
            finally:
                with suppress(OSError):  # Tidegate may have replaced it
                    _admin(address, "DELETE")

    def kill_worker(self) -> None:
        """Kill the youngest worker: the oldest shows its memory over the whole soak."""
        workers = sorted(self.up.children("worker"), key=psutil.Process.create_time)
        with self._going_on("kill a worker"):
            workers[-1].kill()
            wait_until(lambda: len(self.up.children("worker")) == len(workers), 30, "a worker")

    def kill_server(self) -> None:
        """Kill a model server; Tidegate starts another."""
        before = self.addresses()
        victim = self.rng.choice(self.up.children("model-server"))
        port = victim.cmdline()[victim.cmdline().index("--port") + 1]
        with self._going_on("kill a model server", f"127.0.0.1:{port}"):
            victim.kill()
            wait_until(lambda: len(self.addresses()) == len(before), 60, "another server")

    def kill_control(self) -> None:
        """Kill the API and all controllers; workers go on."""
        with self._going_on("kill the control process"):
            self.up.kill("control")
            wait_until(lambda: not self.up.kubectl.run("get", "httproute").code, 60, "the API")

    def move_weights(self) -> None:
        """Move the weights ten times by kubectl, to their middle at last."""
        with self._going_on("move weights"):
            for weight in (*(self.rng.randint(0, 100) for _ in range(9)), 50):
                operations = [
                    {"op": "replace", "path": f"/spec/rules/0/backendRefs/{n}/weight", "value": w}
                    for n, w in ((0, 100 - weight), (1, weight))
                ]
                self.up.kubectl(
                    "patch", "httproute", "routes-to-llm", "--type=json", "-p",
                    json.dumps(operations),
                )  # fmt: skip

    def scale(self) -> None:
        """Take one server of a pool away, and bring one back."""
        with self._going_on("scale down and up"):
            before = len(self.addresses())
            self.up.kubectl("scale", "modelserver", "llm", "--replicas=1")
            wait_until(lambda: len(self.addresses()) == before - 1, 60, "one server less")
            self.up.kubectl("scale", "modelserver", "llm", "--replicas=2")
            wait_until(lambda: len(self.addresses()) == before, 60, "the server")

    def slow_readers(self) -> None:
        """Have 50 clients ask for long answers and read a byte now and then."""
        self._hold("slow readers", _request(3000), 50, reads=True)

    def half_requests(self) -> None:
        """Have 50 clients send half a request and nothing more."""
        self._hold("half requests", _request(10)[:60], 50, reads=False)

    def leavers(self) -> None:
        """Have 200 clients begin a stream and leave."""
        with self._going_on("clients that leave"):
            for _ in range(200):
                with socket.create_connection(("127.0.0.1", self.up.port), 10) as client:
                    client.sendall(_request(500))
                    client.recv(100)

    def addresses(self) -> list[str]:
        """Return the ready endpoints' addresses, in order."""
        ran = self.up.kubectl.run("get", "modelserver", "-o", "json")
        items = json.loads(ran.out)["items"] if not ran.code else []
        return sorted(
            endpoint["address"]
            for item in items
            for endpoint in item.get("status", {}).get("endpoints", ())
            if endpoint["state"] == "Ready"
        )

    def _hold(self, name: str, data: bytes, count: int, *, reads: bool) -> None:
        with self._going_on(name), ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", self.up.port), 10))
                for _ in range(count)
            ]
            for client in clients:
                client.sendall(data)
            for _ in range(int(SPELL_S)):
                time.sleep(1)
                if reads:
                    for client in clients:
                        client.recv(1)

    @contextmanager
    def _going_on(self, kind: str, endpoint: str = "") -> Iterator[None]:
        event = Event(kind, time.perf_counter(), endpoint=endpoint)
        self.events.append(event)
        event.ended = float("inf")
        self.now = kind
        try:
            yield
        finally:
            event.ended = time.perf_counter()
            self.now = ""


def _request(tokens: int) -> bytes:
    body = json.dumps(
        {
            "model": MODEL,
            "stream": True,
            "max_tokens": tokens,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": "Tell me all."}],
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _admin(address: str, method: str, faults: dict[str, object] | None = None) -> None:
    data = json.dumps(faults).encode() if faults else None
    with urlopen(Request(f"http://{address}/admin/faults", data, method=method), timeout=10):
        pass
