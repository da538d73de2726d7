"""The API as `tidegate up` itself needs it: is it ready, and apply this object.

Plain and blocking, on the standard library: it is used a few times at the start, where a
client library would take longer to import than the work takes.
"""

import base64
import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import yaml

from tidegate.api.errors import (
    ConflictError,
    NotFoundError,
    TidegateError,
    UnavailableError,
)
from tidegate.api.meta import Key
from tidegate.api.scheme import Kind
from tidegate.api.versions import kind_of

TIMEOUT_S: Final = 30.0
WARNING: Final = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
"""RFC 7234, section 5.5: code, agent, quoted text."""


class RefusedError(TidegateError):
    """The API refused a request, in its own words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An object as it is now, and what the API warns of."""

    object: Mapping[str, Any]
    warnings: tuple[str, ...]


class Rest:
    """Requests to the API that a kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._kept: tuple[http.client.HTTPSConnection, str] | None = None
        """A connection and the token for it."""

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Use one connection for all that is asked within: a new one costs more than to ask.

        Raises:
            UnavailableError: The kubeconfig can't be read.

        """
        try:
            made, token = self._connect(), self._token()
        except OSError as error:
            raise UnavailableError(f"the API can't be reached: {error}") from error
        with closing(made):
            self._kept = made, token
            try:
                yield
            finally:
                self._kept = None

    def is_ready(self) -> bool:
        """Return whether the API takes requests."""
        try:
            status, _, _ = self._exchange("GET", "/readyz", None)
        except UnavailableError:
            return False
        return status == 200

    def apply(
        self,
        obj: Mapping[str, Any],
        key: Key,
        *,
        manager: str,
        force: bool = False,
        dry_run: bool = False,
    ) -> Answer:
        """Apply an object on the server's side.

        Raises:
            ConflictError: Somebody else owns a field that would change.
            NotFoundError: Its namespace doesn't exist.
            RefusedError: The object isn't as it should be, or the like.
            UnavailableError: The API can't be reached.

        """
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry_run else {}
        path = f"{_path(obj, key)}?{urlencode(query)}"
        status, headers, body = self._exchange("PATCH", path, json.dumps(obj, default=str))
        if status >= 300:
            raise _error(status, body)
        return Answer(body, _warnings(headers))

    def all(self, kind: Kind) -> list[dict[str, Any]]:
        """Return all objects of a kind. Raises UnavailableError."""
        root = "apis" if kind.group else "api"
        _, _, found = self._exchange("GET", f"/{root}/{kind.api_version()}/{kind.plural}", None)
        items: list[dict[str, Any]] = found.get("items", [])
        return items

    def _exchange(
        self, method: str, path: str, body: str | None
    ) -> tuple[int, http.client.HTTPMessage, dict[str, Any]]:
        if self._kept is None:
            with self.kept():
                return self._exchange(method, path, body)
        connection, token = self._kept
        headers = {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, _object(answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"the API can't be reached: {error}") from error

    def _connect(self) -> http.client.HTTPSConnection:
        cluster = self._read("clusters", "cluster")
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        server = urlsplit(cluster["server"])
        return http.client.HTTPSConnection(
            server.hostname or "",
            server.port,
            timeout=TIMEOUT_S,
            context=ssl.create_default_context(cadata=authority),
        )

    def _token(self) -> str:
        return str(self._read("users", "user")["token"])

    def _read(self, section: str, field: str) -> dict[str, Any]:
        """Return our entry of the kubeconfig; read each time, since the API may write it anew."""
        config = yaml.safe_load(self._kubeconfig.read_bytes())
        entry: dict[str, Any] = next(e for e in config[section] if e["name"] == "tidegate")[field]
        return entry


def _path(obj: Mapping[str, Any], key: Key) -> str:
    kind = kind_of(obj)
    group_version = str(obj["apiVersion"])
    root = f"/apis/{group_version}" if kind.group else f"/api/{group_version}"
    place = f"/namespaces/{quote(key.namespace)}" if kind.namespaced else ""
    return f"{root}{place}/{kind.plural}/{quote(key.name)}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _warnings(headers: http.client.HTTPMessage) -> tuple[str, ...]:
    texts = (
        match[1] for line in headers.get_all("Warning", []) for match in WARNING.finditer(line)
    )
    return tuple(re.sub(r"\\(.)", r"\1", text) for text in texts)


def _error(status: int, body: Mapping[str, Any]) -> TidegateError:
    message = str(body.get("message") or f"the API answered {status}")
    match status:
        case 404:
            return NotFoundError(message)
        case 409:
            return ConflictError(message)
        case _:
            return RefusedError(message)
