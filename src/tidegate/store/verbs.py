"""What clients do to resources: each verb of the API over the engine.

A request about resources comes in with its target worked out of the URL, and goes out as a
response. Everything that can go wrong is raised as one of our errors; who calls turns it into
a Status.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.errors import BadRequestError, FieldError, InvalidError
from tidegate.store import patches
from tidegate.store.bodies import (
    YAML,
    decode_json,
    decode_object,
    decode_yaml,
    media_type,
    read_body,
    text_of,
    unsupported,
)
from tidegate.store.parameters import (
    WriteOptions,
    is_dry,
    is_true,
    selector_of,
    watch_options,
    write_options,
)
from tidegate.store.representation import Representation, in_version, negotiate
from tidegate.store.scale import scale_of, scaling_patch
from tidegate.store.selectors import Selector
from tidegate.store.sqlite import Engine, PatchType, Written
from tidegate.store.statuses import Subject, not_allowed, success
from tidegate.store.streams import StreamResponse
from tidegate.store.targets import Target
from tidegate.store.watching import Watch

Object = dict[str, Any]

PATCH_TYPES: Final[dict[str, PatchType]] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/apply-patch+yaml": "apply",
}
"""Strategic merge patches are for built-in kinds; those of custom resources have none."""


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
        sent = decode_object(await read_body(request), media_type(request))
        name = text_of(sent, "metadata", "name")
        request.state.subject = Subject(target.kind, target.version, name)
        obj = _addressed(_checked(sent, target), target)
        written = await self._engine.create(
            target.kind,
            obj,
            manager=options.manager,
            dry_run=options.dry_run,
            strict=options.strict,
        )
        return self._written(request, target, written)

    async def _replace(self, request: Request, target: Target) -> Response:
        options = write_options(request)
        sent = decode_object(await read_body(request), media_type(request))
        written = await self._engine.replace(
            target.kind,
            target.key,
            _checked(sent, target),
            manager=options.manager,
            subresource=_part(target),
            dry_run=options.dry_run,
            strict=options.strict,
        )
        return self._written(request, target, written)

    async def _patch(self, request: Request, target: Target) -> Response:
        options = write_options(request)
        patch_type = _patch_type(request, options)
        body = _decode_patch(await read_body(request), patch_type)
        if patch_type == "apply":
            body = _checked(body, target)
        elif patch_type == "merge":
            _check_merge(body, target)
        written = await self._engine.patch(
            target.kind,
            target.key,
            body,
            patch_type=patch_type,
            manager=options.manager,
            force=bool(options.force),
            subresource=_part(target),
            dry_run=options.dry_run,
            strict=options.strict,
        )
        return self._written(request, target, written)

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
        wanted = await _wanted_scale(request, options, scale_of(obj, scale))
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
        options = await _delete_options(request)
        gone = await self._engine.remove(
            target.kind,
            target.key,
            precondition_uid=text_of(options, "preconditions", "uid") or None,
            precondition_version=text_of(options, "preconditions", "resourceVersion") or None,
            dry_run=_is_dry_deletion(request, options),
        )
        if gone["metadata"].get("deletionTimestamp"):
            return _json(in_version(gone, target.kind, target.version))
        subject = Subject(target.kind, target.version, target.name)
        return _json(success({**subject.details(), "uid": gone["metadata"]["uid"]}))

    async def _delete_collection(self, request: Request, target: Target) -> Response:
        dry_run = _is_dry_deletion(request, await _delete_options(request))
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


def _part(target: Target) -> Any:
    return target.subresource


def _checked(obj: Object, target: Target) -> Object:
    """Return `obj` if it is of the kind and version that the URL names.

    Raises:
        BadRequestError: It isn't.

    """
    if not text_of(obj, "kind"):
        raise BadRequestError("Object 'Kind' is missing in the body")
    if text_of(obj, "kind") != target.kind.kind:
        raise BadRequestError(
            f"the kind in the data ({obj['kind']}) does not match"
            f" the expected kind ({target.kind.kind})"
        )
    if text_of(obj, "apiVersion") != target.api_version:
        raise BadRequestError(
            f"the API version in the data ({text_of(obj, 'apiVersion')}) does not match"
            f" the expected API version ({target.api_version})"
        )
    return obj


def _addressed(obj: Object, target: Target) -> Object:
    """Return `obj` in the namespace of the URL."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        expected = "an object with name or generateName"
        raise InvalidError([FieldError("metadata", metadata, expected, "FieldValueRequired")])
    named = text_of(obj, "metadata", "namespace")
    if named not in ("", target.namespace):
        raise BadRequestError(
            "the namespace of the provided object does not match"
            f" the namespace sent on the request: found {named}, expected {target.namespace}"
        )
    rest = {name: value for name, value in metadata.items() if name != "namespace"}
    place = {"namespace": target.namespace} if target.namespace else {}
    return {**obj, "metadata": {**rest, **place}}


def _patch_type(request: Request, options: WriteOptions) -> PatchType:
    media = media_type(request)
    if media not in PATCH_TYPES:
        raise unsupported(media, tuple(PATCH_TYPES))
    patch_type = PATCH_TYPES[media]
    if patch_type == "apply":
        if not request.query_params.get("fieldManager"):
            raise InvalidError(
                [FieldError("fieldManager", None, "a name for an apply", "FieldValueRequired")]
            )
    elif options.force:
        raise InvalidError(
            [FieldError("force", True, "nothing but for an apply", "FieldValueForbidden")]
        )
    return patch_type


def _decode_patch(body: bytes, patch_type: PatchType) -> Any:
    if patch_type == "apply":
        return decode_object(body, YAML)
    patch = decode_json(body)
    if patch_type == "merge" and not isinstance(patch, dict):
        raise BadRequestError("a merge patch must be an object")
    return patch


def _check_merge(patch: Object, target: Target) -> None:
    """Refuse a merge patch that would make something else of the object, or unname it."""
    _checked({"kind": target.kind.kind, "apiVersion": target.api_version, **patch}, target)
    if not isinstance(patch.get("metadata", {}), dict):
        raise BadRequestError("the metadata in a merge patch must be an object")


async def _wanted_scale(request: Request, options: WriteOptions, scale: Object) -> Any:
    body = await read_body(request)
    if request.method == "PUT":
        return decode_object(body, media_type(request))
    patch_type = _patch_type(request, options)
    patch = _decode_patch(body, patch_type)
    if patch_type == "json":
        return patches.apply_json(scale, patch)
    # A version that the client doesn't name is no precondition.
    unversioned = {**scale, "metadata": {"name": scale["metadata"]["name"]}}
    return patches.merge(unversioned, patch)


async def _delete_options(request: Request) -> Object:
    """Return the DeleteOptions in the body; nothing of them is obligatory."""
    body = await read_body(request)
    if not body.strip():
        return {}
    options = decode_yaml(body) if media_type(request) == YAML else decode_json(body)
    if not isinstance(options, dict):
        raise BadRequestError("the body of a deletion must be DeleteOptions")
    return options


def _is_dry_deletion(request: Request, options: Object) -> bool:
    asked = options.get("dryRun") or []
    if not isinstance(asked, list):
        raise InvalidError([FieldError("dryRun", asked, "a list")])
    return is_dry([*request.query_params.getlist("dryRun"), *map(str, asked)])


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
