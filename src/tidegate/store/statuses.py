"""What the API answers when something is wrong: `Status` objects, worded as an API server does.

kubectl prints these texts and decides by `reason`; other clients decide by `code`. Every error
of ours becomes one here, and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidegate.api.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    StrictDecodingError,
    TidegateError,
    UnavailableError,
    UnsupportedError,
)
from tidegate.api.scheme import Kind

Status = dict[str, Any]


class RequestError(TidegateError):
    """A request that has its answer whatever the stored objects are: a code, a reason."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is about, for the `details` of a Status."""

    kind: Kind | None = None
    version: str = ""
    name: str = ""

    def details(self, *, as_kind: bool = False) -> dict[str, Any]:
        """Return name, group and kind; the resource's plural, or its kind where `as_kind`."""
        found: dict[str, Any] = {"name": self.name} if self.name else {}
        if self.kind:
            if self.kind.group:
                found["group"] = self.kind.group
            found["kind"] = self.kind.kind if as_kind else self.kind.plural
        return found


def not_found() -> RequestError:
    """Return the error for a path that doesn't exist."""
    return RequestError(404, "NotFound", "the server could not find the requested resource")


def not_allowed() -> RequestError:
    """Return the error for a method that a path doesn't have."""
    return RequestError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    )


def failure(
    code: int, reason: str, message: str, details: Mapping[str, Any] | None = None
) -> Status:
    """Return a Status for what went wrong."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        **({"details": dict(details)} if details else {}),
        "code": code,
    }


def success(details: Mapping[str, Any]) -> Status:
    """Return the Status of a deletion that is done."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": dict(details),
    }


def describe(error: TidegateError, subject: Subject) -> Status:
    """Return the Status for `error`, met by a request about `subject`."""
    match error:
        case RequestError():
            return failure(error.code, error.reason, str(error), subject.details())
        case InvalidError():
            return _invalid(error, subject)
        case FieldError():
            return _invalid(InvalidError([error]), subject)
        case ConflictError():
            return _conflict(error, subject)
        case StrictDecodingError():
            return failure(400, error.reason, _undecodable(error, subject))
        case BadRequestError():
            return failure(400, error.reason, str(error))
        case UnavailableError():
            return failure(503, error.reason, str(error), {"retryAfterSeconds": 1})
        case _ if type(error) in _CODES:
            return failure(_CODES[type(error)], error.reason, str(error), subject.details())
        case _:
            return failure(500, "InternalError", f"Internal error occurred: {error}")


_CODES: Final[Mapping[type[TidegateError], int]] = {
    ForbiddenError: 403,
    NotFoundError: 404,
    AlreadyExistsError: 409,
    GoneError: 410,
    UnsupportedError: 415,
}


def _invalid(error: InvalidError, subject: Subject) -> Status:
    """Word field errors as `validation.NewInvalid` does: kubectl lists the causes."""
    causes = [{"reason": e.cause, "message": e.detail, "field": e.path} for e in error.errors]
    texts = [f"{cause['field']}: {cause['message']}" for cause in causes]
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    message = f'{subject.kind or "object"} "{subject.name}" is invalid: {joined}'
    return failure(422, "Invalid", message, {**subject.details(as_kind=True), "causes": causes})


def _undecodable(error: StrictDecodingError, subject: Subject) -> str:
    kind = subject.kind.kind if subject.kind else "object"
    return f'{kind} in version "{subject.version}" cannot be handled as a {kind}: {error}'


def _conflict(error: ConflictError, subject: Subject) -> Status:
    if not error.owners:
        return failure(409, "Conflict", str(error), subject.details())
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{manager}"',
            "field": path,
        }
        for manager, path in error.owners
    ]
    return failure(409, "Conflict", str(error), {"causes": causes})
