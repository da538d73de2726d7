"""Calls to the world outside: webhooks at gates, notices, and the servers' adapters.

Each is bounded in time and size; a webhook is tried a few times and then given up. Bodies are
JSON. A gate's hook gets the rollout as it is and opens the gate with any 2xx; a notice is
what Slack and its kind understand: `{"text": …}`.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import httpx2
import msgspec

from tidegate.api.durations import parse_duration
from tidegate.api.rollout import HistoryEntry, Hook, InferenceRollout
from tidegate.controllers.jobs import JobError
from tidegate.controllers.loop import back_off, pause
from tidegate.rollout.events import GateAnswered

NOTICE_TIMEOUT_S: Final = 10.0
NOTICE_RETRIES: Final = 3
LOAD_TIMEOUT_S: Final = 300.0
"""An adapter may come from far away."""
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
MOST_TEXT: Final = 300
"""Characters of an answer that people are shown."""
ENDS: Final = frozenset(("Completed", "Aborted", "RolledBack"))


class Calls:
    """All calls of the controller, over one client."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def gate(self, gate: str, rollout: InferenceRollout) -> GateAnswered:
        """Ask all hooks of a gate (`BeforeIncrease/2`); one that says no closes it."""
        kind = gate.partition("/")[0]
        body = {"gate": kind, **_about(rollout)}
        for hook in rollout.spec.hooks:
            if hook.gate != kind:
                continue
            refusal = await self._hook(hook, body)
            if refusal:
                return GateAnswered(gate, opened=False, message=f"{_shown(hook.url)}: {refusal}")
        return GateAnswered(gate, opened=True)

    async def tell(self, entry: HistoryEntry, name: str, rollout: InferenceRollout) -> None:
        """Tell of a change: notices, and `After` hooks at the end. Failures are given up."""
        spec = rollout.spec
        text = {"text": f"{rollout.key} {entry.phase}: {entry.message}", "id": name}
        urls = [each.url for each in spec.notify if entry.phase in (each.phases or (entry.phase,))]
        works = [self._post(url, text, NOTICE_TIMEOUT_S, NOTICE_RETRIES) for url in urls]
        if entry.phase in ENDS:
            body = {"gate": "After", "id": name, **_about(rollout)}
            works += [self._hook(hook, body) for hook in spec.hooks if hook.gate == "After"]
        await asyncio.gather(*works)

    async def load(self, endpoint: str, adapter: str, path: str) -> None:
        """Load an adapter at one endpoint.

        Raises:
            JobError: It can't be loaded (yet).

        """
        body = {"lora_name": adapter, "lora_path": path}
        await self._adapter(endpoint, "load_lora_adapter", body, fine=("already",))

    async def unload(self, endpoint: str, adapter: str) -> None:
        """Unload an adapter at one endpoint.

        Raises:
            JobError: It can't be unloaded (yet).

        """
        fine = ("not found", "cannot be found", "not loaded")
        await self._adapter(endpoint, "unload_lora_adapter", {"lora_name": adapter}, fine=fine)

    async def _adapter(
        self, endpoint: str, verb: str, body: Mapping[str, str], *, fine: Iterable[str]
    ) -> None:
        status, text = await self._send(f"http://{endpoint}/v1/{verb}", body, LOAD_TIMEOUT_S)
        done = status == 200 or any(words in text.lower() for words in fine)
        if not done:
            raise JobError(f"{endpoint}: {verb} {body['lora_name']}: {status or ''} {text}".strip())

    async def _hook(self, hook: Hook, body: object) -> str:
        return await self._post(hook.url, body, parse_duration(hook.timeout), hook.retries)

    async def _post(self, url: str, body: object, timeout_s: float, retries: int) -> str:
        """Post until it is answered with 2xx or a clear no; return why not, or ''."""
        refusal = ""
        for attempt in range(retries + 1):
            if attempt:
                wait_s = back_off(attempt, FIRST_WAIT_S, LONGEST_WAIT_S)
                await pause(wait_s, asyncio.Event())
            status, text = await self._send(url, body, timeout_s)
            if 200 <= status < 300:
                return ""
            refusal = f"answered {status} {text}".strip() if status else text
            if 400 <= status < 500 and status != 429:
                break
        return refusal

    async def _send(self, url: str, body: object, timeout_s: float) -> tuple[int, str]:
        """Return status and text; 0 and the reason if there is no answer."""
        if self._client is None:
            self._client = httpx2.AsyncClient(follow_redirects=False)
        content = msgspec.json.encode(body)
        headers = {"content-type": "application/json"}
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.post(
                    url, content=content, headers=headers, timeout=timeout_s
                )
        except TimeoutError:
            return 0, f"no answer within {timeout_s:g} s"
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            return 0, str(error) or type(error).__name__
        return answer.status_code, answer.text[:MOST_TEXT]


def _about(rollout: InferenceRollout) -> dict[str, Any]:
    """Return what a hook is told of a rollout."""
    status = rollout.status
    return {
        "rollout": rollout.metadata.name,
        "namespace": rollout.metadata.namespace,
        "uid": rollout.metadata.uid,
        "type": rollout.spec.type,
        "stable": rollout.spec.stable,
        "canary": rollout.spec.canary,
        "phase": status.phase,
        "step": status.step,
        "message": status.message,
        "weights": msgspec.to_builtins(status.weights),
    }


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it: its path's end and its query."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"
