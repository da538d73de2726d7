"""What clients send: objects, patches and deletions, checked against the URL they go to."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from starlette.requests import Request

from tidegate.api.errors import BadRequestError, FieldError, InvalidError
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
from tidegate.store.parameters import WriteOptions, is_dry
from tidegate.store.statuses import Subject
from tidegate.store.targets import Target

Object = dict[str, Any]
PatchType = Literal["merge", "json", "apply", "strategic"]

PATCH_TYPES: Final[dict[str, PatchType]] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/apply-patch+yaml": "apply",
}
STRATEGIC: Final = "application/strategic-merge-patch+json"
"""For the core group's kinds only, as on every API server: kubectl sends it for these."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch and its type."""

    type: PatchType
    body: Any


@dataclass(frozen=True, slots=True)
class Deletion:
    """How an object is to be deleted."""

    uid: str | None
    """Delete it only if this is its uid."""
    version: str | None
    """Delete it only if this is its resourceVersion."""
    dry_run: bool


async def read_object(request: Request, target: Target) -> Object:
    """Return the object that is sent to `target`; its kind and version are those of the URL.

    Raises:
        BadRequestError: There is none, or it contradicts the URL.
        RequestError: The body is too long (413), or in a media type that isn't spoken (415).

    """
    obj = decode_object(await read_body(request), media_type(request))
    if not target.name:
        # An object that is refused is called by its own name.
        name = text_of(obj, "metadata", "name")
        request.state.subject = Subject(target.kind, target.version, name)
    return _of_kind(obj, target)


def addressed(obj: Object, target: Target) -> Object:
    """Return a new object in the namespace of the URL.

    Raises:
        InvalidError: It has no metadata.
        BadRequestError: It names another namespace.

    """
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


async def read_patch(request: Request, target: Target, options: WriteOptions) -> Patch:
    """Return the patch that is sent to `target`.

    Raises:
        BadRequestError: It is none, or would make something else of the object.
        InvalidError: An apply without a manager, or `force` for anything else.
        RequestError: The body is too long (413), or of a type that isn't spoken (415).

    """
    sort = _patch_type(request, target, options)
    body = await read_body(request)
    if sort == "apply":
        return Patch(sort, _of_kind(decode_object(body, YAML), target))
    patch = decode_json(body)
    if sort != "json":
        _check_merge(patch, target)
    return Patch(sort, patch)


def _patch_type(request: Request, target: Target, options: WriteOptions) -> PatchType:
    media = media_type(request)
    sort = PATCH_TYPES.get(media)
    if sort is None and media == STRATEGIC and not target.kind.group:
        sort = "strategic"
    if sort is None:
        raise unsupported(media, tuple(PATCH_TYPES))
    if sort == "apply" and not request.query_params.get("fieldManager"):
        raise InvalidError(
            [FieldError("fieldManager", None, "a name for an apply", "FieldValueRequired")]
        )
    if sort != "apply" and options.force:
        raise InvalidError(
            [FieldError("force", True, "nothing but for an apply", "FieldValueForbidden")]
        )
    return sort


def _check_merge(patch: Any, target: Target) -> None:
    """Refuse a merge patch that would make something else of the object, or unname it."""
    if not isinstance(patch, dict):
        raise BadRequestError("a merge patch must be an object")
    if target.subresource != "scale":
        _of_kind({"kind": target.kind.kind, "apiVersion": target.api_version, **patch}, target)
    if not isinstance(patch.get("metadata", {}), dict):
        raise BadRequestError("the metadata in a merge patch must be an object")


def _of_kind(obj: Object, target: Target) -> Object:
    """Return `obj` if it is of the kind and version that the URL names."""
    kind, api_version = text_of(obj, "kind"), text_of(obj, "apiVersion")
    if not kind:
        raise BadRequestError("Object 'Kind' is missing in the body")
    if kind != target.kind.kind:
        raise BadRequestError(
            f"the kind in the data ({kind}) does not match the expected kind ({target.kind.kind})"
        )
    if api_version != target.api_version:
        raise BadRequestError(
            f"the API version in the data ({api_version}) does not match"
            f" the expected API version ({target.api_version})"
        )
    return obj


async def read_deletion(request: Request) -> Deletion:
    """Return how to delete, by the query and the DeleteOptions in the body, if there are any.

    Raises:
        BadRequestError: The body is no object.
        InvalidError: `dryRun` is anything but All.

    """
    options = await _delete_options(request)
    asked = options.get("dryRun") or []
    if not isinstance(asked, list):
        raise InvalidError([FieldError("dryRun", asked, "a list")])
    return Deletion(
        uid=text_of(options, "preconditions", "uid") or None,
        version=text_of(options, "preconditions", "resourceVersion") or None,
        dry_run=is_dry([*request.query_params.getlist("dryRun"), *map(str, asked)]),
    )


async def _delete_options(request: Request) -> Object:
    body = await read_body(request)
    if not body.strip():
        return {}
    options = decode_yaml(body) if media_type(request) == YAML else decode_json(body)
    if not isinstance(options, dict):
        raise BadRequestError("the body of a deletion must be DeleteOptions")
    return options
