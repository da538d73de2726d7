"""Which path of the embedded API is answered by whom, and errors as Status objects."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tidegate.api.errors import TidegateError
from tidegate.store import discovery, openapi
from tidegate.store.access import OPEN_PATHS
from tidegate.store.bodies import decode_object, media_type, read_body
from tidegate.store.reviews import REVIEWS, review
from tidegate.store.statuses import (
    Status,
    Subject,
    describe,
    failure,
    not_allowed,
    not_found,
)
from tidegate.store.targets import parse_target
from tidegate.store.verbs import Verbs

log: Final = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Response]]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
YEAR_S: Final = 365 * 86400


def application(verbs: Verbs) -> Starlette:
    """Return the API over `verbs`; who may use it is not its business."""

    async def resources(request: Request) -> Response:
        target = parse_target(request.url.path)
        if target is None:
            raise not_found()
        request.state.subject = Subject(target.kind, target.version, target.name)
        return await verbs.answer(request, target)

    routes = [*_about_itself(), *_reviews(), ("/{path:path}", resources)]
    return Starlette(
        routes=[Route(path, _answered(handler), methods=METHODS) for path, handler in routes]
    )


def _answered(handler: Handler) -> Handler:
    """Return `handler` with every error turned into a Status."""

    async def answer(request: Request) -> Response:
        subject = Subject()
        try:
            return await handler(request)
        except TidegateError as error:
            return _refusal(describe(error, getattr(request.state, "subject", subject)))
        except Exception:  # the client gets an answer, the log the rest
            log.exception("request failed", method=request.method, path=request.url.path)
            return _refusal(failure(500, "InternalError", "Internal error occurred: see the log"))

    return answer


def _refusal(status: Status) -> Response:
    response = _json(status, status["code"])
    if status["code"] == 503:
        response.headers["Retry-After"] = "1"
    return response


def _json(content: Any, code: int = 200) -> Response:
    return Response(msgspec.json.encode(content), code, media_type="application/json")


def _about_itself() -> list[tuple[str, Handler]]:
    return [
        *((path, _get(lambda _: PlainTextResponse("ok"))) for path in sorted(OPEN_PATHS)),
        ("/version", _get(lambda _: _json(discovery.server_version()))),
        ("/api", _get(_core)),
        ("/apis", _get(_groups)),
        ("/api/{version}", _get(_resource_list)),
        ("/apis/{group}", _get(lambda request: _found(_group(request)))),
        ("/apis/{group}/{version}", _get(_resource_list)),
        ("/openapi/v2", _get(_openapi_v2)),
        ("/openapi/v3", _get(lambda _: _json(openapi.index()))),
        ("/openapi/v3/{path:path}", _get(_openapi)),
    ]


def _get(answer: Callable[[Request], Response]) -> Handler:
    async def handler(request: Request) -> Response:
        if request.method != "GET":
            raise not_allowed()
        return answer(request)

    return handler


def _core(request: Request) -> Response:
    return _discovered(request, core=True) or _json(discovery.core_versions())


def _groups(request: Request) -> Response:
    return _discovered(request, core=False) or _json(discovery.group_list())


def _discovered(request: Request, *, core: bool) -> Response | None:
    """Return everything in one document to a client that takes it."""
    wanted = {choice.strip() for choice in request.headers.get("accept", "").split(",")}
    if discovery.AGGREGATED not in wanted:
        return None
    content = msgspec.json.encode(discovery.aggregated(core=core))
    return Response(content, media_type=discovery.AGGREGATED, headers={"Vary": "Accept"})


def _group(request: Request) -> dict[str, Any] | None:
    return discovery.group_document(request.path_params["group"])


def _resource_list(request: Request) -> Response:
    params = request.path_params
    return _found(discovery.resource_list(params.get("group", ""), params["version"]))


def _found(content: Any) -> Response:
    if content is None:
        raise not_found()
    return _json(content)


def _openapi_v2(request: Request) -> Response:
    if "protobuf" not in request.headers.get("accept", ""):
        raise not_found()
    return Response(openapi.V2, media_type=openapi.V2_MEDIA)


def _openapi(request: Request) -> Response:
    """Return a document; asked for by its hash it can be kept, as other content has another."""
    path = request.path_params["path"]
    content = openapi.document(path)
    if content is None:
        raise not_found()
    response = Response(content, media_type="application/json", headers={"Vary": "Accept"})
    if request.query_params.get("hash") == openapi.digest(path):
        response.headers["Cache-Control"] = f"public, immutable, max-age={YEAR_S}"
    return response


def _reviews() -> list[tuple[str, Handler]]:
    async def handler(request: Request) -> Response:
        if request.method != "POST":
            raise not_allowed()
        asked = decode_object(await read_body(request), media_type(request))
        return _json(review(request.url.path, asked), 201)

    return [(path, handler) for path in REVIEWS]
