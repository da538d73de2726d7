"""What clients do to resources: each verb of the API over the engine.

A request about resources comes in with its target worked out of the URL, and goes out as a
response. Everything that can go wrong is raised as one of our errors; who calls turns it into
a Status.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.errors import ConflictError
from tidegate.store import patches
from tidegate.store.bodies import decode_object, media_type, read_body, text_of
from tidegate.store.parameters import (
    WriteOptions,
    is_true,
    selector_of,
    watch_options,
    write_options,
)
from tidegate.store.representation import Representation, in_version, negotiate
from tidegate.store.scale import scale_of, scaling_patch
from tidegate.store.selectors import Selector
from tidegate.store.sent import Object, addressed, read_deletion, read_object, read_patch
from tidegate.store.sqlite import Engine, Written
from tidegate.store.statuses import Subject, not_allowed, success
from tidegate.store.strategic import merge_strategic
from tidegate.store.streams import StreamResponse
from tidegate.store.targets import Target
from tidegate.store.watching import Watch

RETRIES: Final = 10
"""How often a patch is worked out again because somebody else was faster."""


class Verbs:
    """The verbs, over one engine."""

    def __init__(
        self,
        engine: Engine,
        *,
        now: Callable[[], float],
        bookmark_s: float,
        stopping: asyncio.Event,
    ) -> None:
        self._engine = engine
        self._now = now
        self._bookmark_s = bookmark_s
        self._stopping = stopping

    async def answer(self, request: Request, target: Target) -> Response:
        """Do what `request` asks of `target`."""
        match request.method, bool(target.name), target.subresource:
            case "GET", False, _:
                if is_true(request.query_params, "watch"):
                    return self._watch(request, target)
                return await self._list(request, target)
            case "POST", False, _ if not target.spans_namespaces:
                return await self._create(request, target)
            case "DELETE", False, _ if not target.spans_namespaces:
                return await self._delete_collection(request, target)
            case (("GET" | "PUT" | "PATCH"), True, "scale"):
                return await self._scale(request, target)
            case "GET", True, _:
                return await self._get(request, target)
            case "PUT", True, _:
                return await self._replace(request, target)
            case "PATCH", True, _:
                return await self._patch(request, target)
            case "DELETE", True, "":
                return await self._delete(request, target)
            case _:
                raise not_allowed()

    # Reads

    async def _get(self, request: Request, target: Target) -> Response:
        obj = await self._engine.read(target.kind, target.key)
        return _json(_form(request, target).one(obj, self._now()))

    async def _list(self, request: Request, target: Target) -> Response:
        objects, version = await self._select(target, selector_of(request))
        return _json(_form(request, target).many(objects, version, self._now()))

    async def _select(self, target: Target, selector: Selector) -> tuple[list[Object], str]:
        objects, version = await self._engine.read_all(target.kind, target.namespace or None)
        return [obj for obj in objects if selector.matches(obj)], version

    def _watch(self, request: Request, target: Target) -> Response:
        watch = Watch(
            engine=self._engine,
            target=target,
            selector=selector_of(request),
            options=watch_options(request.query_params),
            representation=_form(request, target),
            now=self._now,
            bookmark_s=self._bookmark_s,
        )
        return StreamResponse(watch.lines(), self._stopping)

    # Writes

    async def _create(self, request: Request, target: Target) -> Response:
        options = write_options(request)
        written = await self._engine.create(
            target.kind,
            addressed(await read_object(request, target), target),
            manager=options.manager,
            dry_run=options.dry_run,
            strict=options.strict,
        )
        return self._written(request, target, written)

    async def _replace(self, request: Request, target: Target) -> Response:
        options = write_options(request)
        obj = await read_object(request, target)
        return self._written(request, target, await self._put(target, obj, options))

    async def _put(self, target: Target, obj: Object, options: WriteOptions) -> Written:
        return await self._engine.replace(
            target.kind,
            target.key,
            obj,
            manager=options.manager,
            subresource=_part(target),
            dry_run=options.dry_run,
            strict=options.strict,
        )

    async def _patch(self, request: Request, target: Target) -> Response:
        options = write_options(request)
        patch = await read_patch(request, target, options)
        if patch.type == "strategic":
            written = await self._merge_strategically(target, patch.body, options)
            return self._written(request, target, written)
        written = await self._engine.patch(
            target.kind,
            target.key,
            patch.body,
            patch_type=patch.type,
            manager=options.manager,
            force=bool(options.force),
            subresource=_part(target),
            dry_run=options.dry_run,
            strict=options.strict,
        )
        return self._written(request, target, written)

    async def _merge_strategically(
        self, target: Target, patch: Object, options: WriteOptions
    ) -> Written:
        """Merge into what is there and put that; begin again if somebody else was faster."""
        retries = 0 if text_of(patch, "metadata", "resourceVersion") else RETRIES
        while True:
            old = await self._engine.read(target.kind, target.key)
            try:
                return await self._put(target, merge_strategic(old, patch), options)
            except ConflictError:
                if not retries:
                    raise
                retries -= 1

    def _written(self, request: Request, target: Target, written: Written) -> Response:
        shown = _form(request, target).one(written.object, self._now())
        return _json(shown, 201 if written.created else 200, written.warnings)

    async def _scale(self, request: Request, target: Target) -> Response:
        """Read or write the number of replicas alone."""
        kind, scale = target.kind, target.kind.scale
        if scale is None:
            raise not_allowed()
        obj = await self._engine.read(kind, target.key)
        if request.method == "GET":
            return _json(scale_of(obj, scale))
        options = write_options(request)
        wanted = await _wanted_scale(request, target, options, scale_of(obj, scale))
        written = await self._engine.patch(
            kind,
            target.key,
            scaling_patch(wanted, kind, scale),
            patch_type="merge",
            manager=options.manager,
            dry_run=options.dry_run,
            strict=options.strict,
        )
        return _json(scale_of(written.object, scale), 200, written.warnings)

    # Deletions

    async def _delete(self, request: Request, target: Target) -> Response:
        deletion = await read_deletion(request)
        gone = await self._engine.remove(
            target.kind,
            target.key,
            precondition_uid=deletion.uid,
            precondition_version=deletion.version,
            dry_run=deletion.dry_run,
        )
        if gone["metadata"].get("deletionTimestamp"):
            return _json(in_version(gone, target.kind, target.version))
        subject = Subject(target.kind, target.version, target.name)
        return _json(success({**subject.details(), "uid": gone["metadata"]["uid"]}))

    async def _delete_collection(self, request: Request, target: Target) -> Response:
        dry_run = (await read_deletion(request)).dry_run
        objects, version = await self._select(target, selector_of(request))
        for obj in objects:
            key = target.key._replace(name=obj["metadata"]["name"])
            uid = obj["metadata"]["uid"]
            await self._engine.remove(target.kind, key, precondition_uid=uid, dry_run=dry_run)
        shown = Representation(target.kind, target.version)
        return _json(shown.many(objects, version, self._now()))


def _form(request: Request, target: Target) -> Representation:
    accept = request.headers.get("accept", "")
    return negotiate(target.kind, target.version, accept, request.query_params)


def _part(target: Target) -> Literal["", "status"]:
    return "status" if target.subresource == "status" else ""


async def _wanted_scale(
    request: Request, target: Target, options: WriteOptions, scale: Object
) -> Any:
    """Return the Scale as the request wants it to be."""
    if request.method == "PUT":
        return decode_object(await read_body(request), media_type(request))
    patch = await read_patch(request, target, options)
    if patch.type == "json":
        return patches.apply_json(scale, patch.body)
    # A version that the client doesn't name is no precondition.
    unversioned = {**scale, "metadata": {"name": scale["metadata"]["name"]}}
    return patches.merge(unversioned, patch.body)


def _json(content: Object, code: int = 200, warnings: tuple[str, ...] = ()) -> Response:
    response = Response(msgspec.json.encode(content), code, media_type="application/json")
    for warning in warnings:
        response.headers.append("Warning", _warning(warning))
    return response


def _warning(text: str) -> str:
    """Return the value of a Warning header (RFC 7234, 5.5): 299, no agent, a quoted text."""
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'
