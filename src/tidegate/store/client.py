"""The store over HTTP: the embedded API or a cluster, told apart by a kubeconfig only.

lightkube speaks the protocol; here its generic resources become our models and its errors
ours. Nothing is retried: whoever follows a watch (`informer`) knows what it has seen.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import httpx2
import msgspec
import yaml
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.core.resource import NamespacedResource
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.types import PatchType

from tidegate.api.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    TidegateError,
    UnavailableError,
    UnsupportedError,
)
from tidegate.api.meta import Key, Resource
from tidegate.api.scheme import by_model
from tidegate.store.interface import Broken, Change
from tidegate.store.typed import typed, typed_change, typed_or_none

R = TypeVar("R", bound=Resource)

REQUEST_TIMEOUT_S: Final = 10.0
"""Longest wait for a connection, or for the next bytes of an answer."""

WATCH_S: Final = 240
"""How long the server is asked to keep one watch; then it is continued with a new one."""

SILENCE_S: Final = WATCH_S + 30.0
"""A watch that is silent for longer has lost its server without noticing."""

ALL_NAMESPACES: Final = "*"


_NO_KUBECONFIG: Final = (
    ConfigError,
    yaml.YAMLError,
    OSError,
    AssertionError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
"""What lightkube raises on a file of another shape."""


class _Client(AsyncClient):
    """lightkube's client, which asks for no bookmarks by itself."""

    def watch_everywhere(self, resource: Any, version: str) -> Any:
        """Yield (type, object), bookmarks too, from all namespaces; continues by itself."""
        namespaced = issubclass(resource, NamespacedResource)
        request = self._client.prepare_request(
            "list",
            res=resource,
            namespace=ALL_NAMESPACES if namespaced else None,
            watch=True,
            params={
                "allowWatchBookmarks": "true",
                "timeoutSeconds": WATCH_S,
                "resourceVersion": version,
            },
        )
        return self._client.watch(request)


class HttpStore:
    """A store behind a Kubernetes API; implements `Store`."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    @classmethod
    def from_kubeconfig(cls, path: Path) -> "HttpStore":
        """Return the store that the current context of a kubeconfig names.

        Raises:
            UnavailableError: The file is missing or isn't a kubeconfig.

        """
        try:
            config = KubeConfig.from_file(path).get()
            client = _Client(
                config=config,
                timeout=httpx2.Timeout(REQUEST_TIMEOUT_S),
                # A proxy from the environment must not see our token.
                trust_env=False,
            )
        except _NO_KUBECONFIG as error:
            raise UnavailableError(f"can't use the kubeconfig {path}: {error}") from error
        return cls(client)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, kind: type[R], key: Key) -> R:
        """Return one object; see `Store.get`."""
        with _our_errors():
            obj = await self._client.get(_resource(kind), key.name, namespace=_namespace(key))
        return typed(kind, obj)

    async def list(self, kind: type[R], *, broken: Broken | None = None) -> tuple[Sequence[R], str]:
        """Return all objects of a kind; see `Store.list`."""
        found: list[R] = []
        head = _head(kind)  # which items of core kinds lack in a cluster's lists
        client = cast("Any", self._client)  # its overloads don't take generic resources
        with _our_errors():
            items = client.list(_resource(kind), **_everywhere(kind))
            async for obj in items:
                resource = typed_or_none(kind, {**head, **obj}, broken)
                if resource is not None:
                    found.append(resource)
            return found, str(items.resourceVersion)

    async def watch(
        self, kind: type[R], version: str, *, broken: Broken | None = None
    ) -> AsyncGenerator[Change[R], None]:
        """Yield what happens after `version`; see `Store.watch`.

        Raises:
            GoneError: `version` is too old: list again.
            UnavailableError: The server went away: watch again from the last version seen.

        """
        events = self._client.watch_everywhere(_resource(kind), version)
        with _our_errors():
            async with aclosing(events) as stream:
                async for type_, obj in _never_silent(stream):
                    if type_ == "BOOKMARK":
                        yield Change("BOOKMARK", None, str(obj["metadata"]["resourceVersion"]))
                    elif type_ in ("ADDED", "MODIFIED", "DELETED"):
                        yield typed_change(kind, cast("Any", type_), obj, broken)

    async def apply(
        self,
        kind: type[R],
        key: Key,
        fields: Mapping[str, Any],
        *,
        manager: str,
        force: bool = False,
    ) -> R:
        """Server-side apply; see `Store.apply`."""
        return await self._apply(kind, _resource(kind), key, fields, manager, force=force)

    async def apply_status(
        self, kind: type[R], key: Key, status: Mapping[str, Any], *, manager: str
    ) -> R:
        """Server-side apply of the status; see `Store.apply_status`."""
        part = _resource(kind).Status
        return await self._apply(kind, part, key, {"status": status}, manager, force=True)

    async def _apply(
        self,
        kind: type[R],
        resource: Any,
        key: Key,
        fields: Mapping[str, Any],
        manager: str,
        *,
        force: bool,
    ) -> R:
        place = {"namespace": key.namespace} if key.namespace else {}
        metadata = {**fields.get("metadata", {}), "name": key.name, **place}
        with _our_errors():
            obj = await self._client.patch(
                resource,
                key.name,
                {**fields, **_head(kind), "metadata": metadata},
                namespace=_namespace(key),
                patch_type=PatchType.APPLY,
                field_manager=manager,
                force=force,
            )
        return typed(kind, obj)

    async def edit(
        self, kind: type[R], key: Key, operations: Sequence[Mapping[str, Any]], *, manager: str
    ) -> R:
        """Change an object by a JSON patch; see `Store.edit`."""
        with _our_errors():
            obj = await self._client.patch(
                _resource(kind),
                key.name,
                [dict(each) for each in operations],
                namespace=_namespace(key),
                patch_type=PatchType.JSON,
                field_manager=manager,
            )
        return typed(kind, obj)

    async def delete(self, kind: type[R], key: Key) -> None:
        """Delete one object; see `Store.delete`."""
        with _our_errors():
            await self._client.delete(_resource(kind), key.name, namespace=_namespace(key))


@cache
def _resource(model: type[Resource]) -> Any:
    """Return lightkube's class for the kind of `model`."""
    kind = by_model(model)
    create = create_namespaced_resource if kind.namespaced else create_global_resource
    return create(kind.group, kind.storage, kind.kind, kind.plural)


def _head(model: type[Resource]) -> dict[str, str]:
    kind = by_model(model)
    return {"apiVersion": kind.api_version(), "kind": kind.kind}


def _everywhere(kind: type[Resource]) -> dict[str, str]:
    return {"namespace": ALL_NAMESPACES} if by_model(kind).namespaced else {}


def _namespace(key: Key) -> str | None:
    return key.namespace or None


async def _never_silent(stream: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Yield what `stream` does; raise UnavailableError where it is silent for too long."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                item = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise UnavailableError(f"the watch was silent for {SILENCE_S} s") from error
        yield item


_NO_ANSWER: Final = (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError)
"""What lightkube raises on JSON of another shape, or on none."""


@contextmanager
def _our_errors() -> Iterator[None]:
    """Turn the errors of lightkube and of the connection below it into ours."""
    try:
        yield
    except ApiError as error:
        raise _ours(error) from error
    except httpx2.HTTPStatusError as error:
        # A watch that was refused: lightkube doesn't read what the server says about it.
        code = error.response.status_code
        kind = _BY_CODE.get(code, UnavailableError)
        raise kind(f"the API answered {code} {error.response.reason_phrase}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise UnavailableError(f"can't reach the API: {error or type(error).__name__}") from error
    except _NO_ANSWER as error:
        text = f"the API's answer makes no sense: {type(error).__name__}: {error}"
        raise UnavailableError(text) from error


_BY_REASON: Final[Mapping[str, type[TidegateError]]] = {
    "NotFound": NotFoundError,
    "AlreadyExists": AlreadyExistsError,
    "Conflict": ConflictError,
    "Expired": GoneError,
    "Gone": GoneError,
    "BadRequest": BadRequestError,
    "Forbidden": ForbiddenError,
    "MethodNotAllowed": UnsupportedError,
    "UnsupportedMediaType": UnsupportedError,
    "NotAcceptable": UnsupportedError,
}

_BY_CODE: Final[Mapping[int, type[TidegateError]]] = {
    400: BadRequestError,
    403: ForbiddenError,
    404: NotFoundError,
    405: UnsupportedError,
    409: ConflictError,
    410: GoneError,
    415: UnsupportedError,
}


def _ours(error: ApiError) -> TidegateError:
    """Return the error that a Status means: by its reason, else by its code."""
    status = error.status
    message = status.message or f"the API answered {status.code}"
    causes = (status.details.causes if status.details else None) or []
    if status.reason == "Invalid" or status.code == 422:
        return _invalid(message, causes)
    found = _BY_REASON.get(status.reason or "") or _BY_CODE.get(status.code or 0)
    if found is ConflictError:
        return ConflictError(message, _owners(causes))
    return found(message) if found else UnavailableError(message)


def _invalid(message: str, causes: Sequence[Any]) -> InvalidError:
    errors = [_field_error(cause.field or "", cause.message or "") for cause in causes]
    return InvalidError(errors or [_field_error("", message)])


def _field_error(path: str, message: str) -> FieldError:
    """Return an error that reads as the server worded it."""
    error = FieldError(path, None, message)
    error.args = (f"{path}: {message}" if path else message,)
    return error


def _owners(causes: Sequence[Any]) -> Sequence[tuple[str, str]]:
    """Return who owns what, from causes such as: conflict with "kubectl" using v1."""
    return [
        (_quoted(cause.message or ""), cause.field or "")
        for cause in causes
        if cause.reason == "FieldManagerConflict"
    ]


def _quoted(message: str) -> str:
    return message.split('"')[1] if message.count('"') > 1 else message
