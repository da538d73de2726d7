"""Who is let in: an ASGI guard before everything else.

Another user of the machine and a web page in a browser can both reach 127.0.0.1; neither has
the token. A browser is also recognised by its `Origin` and, where a name was made to point
here (DNS rebinding), by its `Host`.
"""

import secrets
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tidegate.store.credentials import HOSTS
from tidegate.store.statuses import failure

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/healthz"})
"""Say nothing but that the server lives."""


class Guard:
    """Lets requests with the token through and answers the others itself."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: Sequence[str] = ()) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset((*HOSTS, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] == "http" and (refusal := self._refuse(scope)):
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if host not in self._hosts:
            return _refusal(403, "Forbidden", f'this server is not "{host}"')
        if "origin" in headers:
            return _refusal(403, "Forbidden", "requests from web pages are not served")
        if scope["path"] in OPEN_PATHS or self._knows(headers.get("authorization", "")):
            return None
        return _refusal(401, "Unauthorized", "Unauthorized")

    def _knows(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        # Compared in constant time: how long it takes must not tell how much was right.
        matches = secrets.compare_digest(token.strip().encode(), self._token)
        return matches and scheme.lower() == "bearer"


def _host(header: str) -> str:
    """Return the host of a Host header without its port: `[::1]:7443` is `::1`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _refusal(code: int, reason: str, message: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else None
    return JSONResponse(failure(code, reason, message), code, headers=headers)
