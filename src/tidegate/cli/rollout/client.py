"""Requests of one command to the API: read rollouts, follow one, write what people want.

Intents are written as JSON patches of single fields of the spec: so they stay what they are
when another is written, and the fields that a manifest has stay the manifest's.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tidegate.api.errors import GoneError, NotFoundError, TidegateError, UnavailableError
from tidegate.api.meta import Key
from tidegate.api.rollout import InferenceRollout
from tidegate.store.client import HttpStore

MANAGER: Final = "tidegate-cli"
RETRY_S: Final = 1.0
"""Between two tries to reach an API that went away while it was followed."""
OURS: Final = Path("~/.tidegate/kubeconfig")
THEIRS: Final = Path("~/.kube/config")


class NoKubeconfigError(TidegateError):
    """There is nothing that says where the API is."""

    reason = "NoKubeconfig"


@dataclass(frozen=True, slots=True)
class Access:
    """Which API, and which namespace of it; None where the command line doesn't say it."""

    kubeconfig: Path | None = None
    namespace: str | None = None

    @property
    def path(self) -> Path:
        """The kubeconfig, found as kubectl finds it, and then where `tidegate up` puts it.

        Raises:
            NoKubeconfigError: There is none.

        """
        if self.kubeconfig is not None:
            return self.kubeconfig
        named = [Path(one) for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
        places = named or [THEIRS.expanduser(), OURS.expanduser()]
        for place in places:
            if place.exists():
                return place
        looked = " and ".join(map(str, places))
        raise NoKubeconfigError(
            f"found no kubeconfig at {looked}: start `tidegate up`, or name one (--kubeconfig)"
        )

    def own_namespace(self) -> str:
        """Return the namespace: as given, else that of the kubeconfig's context."""
        if self.namespace is not None:
            return self.namespace
        try:
            config = yaml.safe_load(self.path.read_text())
            current = config["current-context"]
            contexts = {one["name"]: one["context"] for one in config["contexts"]}
            return str(contexts[current].get("namespace") or "default")
        except (NoKubeconfigError, OSError, yaml.YAMLError, KeyError, TypeError):
            return "default"  # what is wrong with the kubeconfig is said where it is needed


class Client:
    """The rollouts of one namespace."""

    def __init__(self, store: HttpStore, namespace: str) -> None:
        self.store = store
        self.namespace = namespace

    def key(self, name: str) -> Key:
        """Return a rollout's key."""
        return Key(self.namespace, name)

    async def get(self, name: str) -> InferenceRollout:
        """Return one rollout. Raises NotFoundError, which says what there is."""
        try:
            return await self.store.get(InferenceRollout, self.key(name))
        except NotFoundError as error:
            raise await self._missing(name) from error

    async def _missing(self, name: str) -> NotFoundError:
        there = ", ".join(each.metadata.name for each in await self.all())
        what = f"there are: {there}" if there else "`tidegate rollout start` makes one"
        return NotFoundError(f"no rollout {name} in namespace {self.namespace}; {what}")

    async def all(self, *, everywhere: bool = False) -> list[InferenceRollout]:
        """Return the rollouts of the namespace, or all, by name."""
        found, _ = await self.store.list(InferenceRollout, broken=lambda *_: None)
        mine = [one for one in found if everywhere or one.metadata.namespace == self.namespace]
        return sorted(mine, key=lambda one: one.key)

    async def follow(
        self, name: str, on_silence: Callable[[str], None] = lambda _: None
    ) -> AsyncGenerator[InferenceRollout | None, None]:
        """Yield a rollout as it is and after each change; None at the end, when it is deleted.

        Args:
            name: Which.
            on_silence: Told why the API can't be asked; it is tried again until it can.

        Raises:
            NotFoundError: There is none at the beginning.

        """
        last = await self.get(name)
        yield last
        while True:
            try:
                found, version = await self.store.list(InferenceRollout, broken=lambda *_: None)
                there = next((one for one in found if one.key == self.key(name)), None)
                if there is None:
                    yield None
                    return
                if there.metadata.resource_version != last.metadata.resource_version:
                    last = there
                    yield last
                async with aclosing(self._changes(name, version)) as changes:
                    async for change in changes:
                        if change is None:
                            yield None
                            return
                        last = change
                        yield last
            except GoneError:
                continue
            except UnavailableError as error:
                on_silence(str(error))
                await pause(RETRY_S)

    async def _changes(
        self, name: str, version: str
    ) -> AsyncGenerator[InferenceRollout | None, None]:
        """Yield a rollout after each change; None when it is deleted."""
        watch = self.store.watch(InferenceRollout, version, broken=lambda *_: None)
        async with aclosing(watch) as changes:
            async for change in changes:
                if change.key != self.key(name) or change.type == "BOOKMARK":
                    continue
                if change.type == "DELETED":
                    yield None
                elif change.object is not None:
                    yield change.object

    async def intend(self, name: str, **fields: Any) -> InferenceRollout:
        """Set fields of the spec; None takes one out."""
        there = await self.get(name)
        known: dict[str, Any] = {
            name: getattr(there.spec, name) for name in ("paused", "promote", "abort", "undo")
        }
        operations = [
            {"op": "add", "path": f"/spec/{field}", "value": value}
            for field, value in fields.items()
            if known[field] != value
        ]
        if not operations:
            return there
        return await self.store.edit(InferenceRollout, self.key(name), operations, manager=MANAGER)

    async def apply(
        self, name: str, fields: Mapping[str, Any], *, force: bool = False
    ) -> InferenceRollout:
        """Apply a rollout on the server's side. Raises ConflictError, InvalidError."""
        return await self.store.apply(
            InferenceRollout, self.key(name), fields, manager=MANAGER, force=force
        )

    async def delete(self, name: str) -> None:
        """Delete a rollout and wait until it is gone. Raises NotFoundError."""
        await self.store.delete(InferenceRollout, self.key(name))
        with suppress(NotFoundError):
            async with aclosing(self.follow(name)) as states:
                async for one in states:
                    if one is None:
                        return

    async def list(self, kind: Any) -> Sequence[Any]:
        """Return all readable objects of a kind in the namespace; none where it isn't served."""
        try:
            found, _ = await self.store.list(kind, broken=lambda *_: None)
        except NotFoundError:
            return []
        return [one for one in found if one.metadata.namespace == self.namespace]


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Client]:
    """Yield a client of the API that `access` names."""
    path = access.path
    store = HttpStore.from_kubeconfig(path)
    try:
        yield Client(store, access.own_namespace())
    except UnavailableError as error:
        raise UnavailableError(
            f"{error} (named by {path}); is it running? `tidegate up` starts one"
        ) from error
    finally:
        await store.close()


async def pause(seconds: float) -> None:
    """Wait."""
    wake = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, wake.set)
    await wake.wait()
