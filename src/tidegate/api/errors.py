"""The one error tree.

Every error that a person or a client can meet is one of these. Each class has a stable
CamelCase `reason`, used alike in conditions, HTTP bodies, logs and metrics.

    TidegateError                 the root
    ├─ FieldError                 one field of a manifest or a config is wrong
    ├─ InvalidError               a whole object is refused: a list of FieldErrors     422
    ├─ StrictDecodingError        fields that the kind doesn't have    400
    ├─ BadRequestError            the request itself makes no sense          400
    ├─ ForbiddenError             never allowed, whoever asks                403
    ├─ NotFoundError              no such object                       404
    ├─ AlreadyExistsError         create of a name that is taken       409
    ├─ ConflictError              a stale version, or a field that somebody else owns   409
    ├─ GoneError                  a watch version older than the log   410
    ├─ UnsupportedError           a media type or verb that we don't speak  415/405
    └─ UnavailableError           the store or a server can't be reached  503
"""

import json
from collections.abc import Sequence
from typing import Final, Literal


class TidegateError(Exception):
    """The root of our errors."""

    reason = "Error"


Cause = Literal[
    "FieldValueRequired",
    "FieldValueInvalid",
    "FieldValueNotSupported",
    "FieldValueTypeInvalid",
    "FieldValueDuplicate",
    "FieldValueForbidden",
]
"""Why a field is wrong, in the words of Kubernetes (`apimachinery` `CauseType`)."""

_LABELS: Final[dict[Cause, str]] = {
    "FieldValueRequired": "Required value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueTypeInvalid": "Invalid value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueForbidden": "Forbidden",
}


class Described(str):
    """What was found, told in words because the value itself is too big or too secret."""

    __slots__ = ()


class FieldError(TidegateError):
    """One field is wrong: where, what was found, what is expected."""

    reason = "Invalid"

    def __init__(
        self, path: str, found: object, expected: str, cause: Cause = "FieldValueInvalid"
    ) -> None:
        self.path = _writable(path)
        self.found = found
        self.expected = expected
        self.cause = cause
        super().__init__(f"{self.path}: found {_shown(found)}, expected {expected}")

    @property
    def detail(self) -> str:
        """The error without its path, as Kubernetes words it: `Invalid value: -1: expected …`."""
        label = _LABELS[self.cause]
        if self.cause in ("FieldValueRequired", "FieldValueForbidden"):
            return f"{label}: expected {self.expected}"
        return f"{label}: {_shown(self.found)}: expected {self.expected}"


def _writable(text: str) -> str:
    r"""Return `text` in a form that UTF-8 can write: JSON's `\ud800` can't stay as it is."""
    return text.encode(errors="backslashreplace").decode()


_LONGEST: Final = 120


def _shown(value: object) -> str:
    """Return a value as JSON, cut where it is long; in words where it came in words."""
    if value is None:
        return "nothing"
    if isinstance(value, Described):
        return value
    text = _writable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class InvalidError(TidegateError):
    """An object is refused; nothing of it was stored."""

    reason = "Invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in errors))


class StrictDecodingError(TidegateError):
    """The object has fields that its kind doesn't have; nothing of it was stored.

    `fields` are the paths of the unknown fields.
    """

    reason = "BadRequest"

    def __init__(self, fields: Sequence[str], hints: Sequence[str] = ()) -> None:
        self.fields = tuple(_writable(field) for field in fields)
        texts = hints or [f'unknown field "{field}"' for field in self.fields]
        super().__init__("strict decoding error: " + _writable(", ".join(texts)))


class BadRequestError(TidegateError):
    """The request makes no sense, whatever the object."""

    reason = "BadRequest"


class ForbiddenError(TidegateError):
    """What is asked is never allowed, say deleting the default namespace."""

    reason = "Forbidden"


class NotFoundError(TidegateError):
    """No object of that kind has that name."""

    reason = "NotFound"


class AlreadyExistsError(TidegateError):
    """An object of that kind and name exists."""

    reason = "AlreadyExists"


class ConflictError(TidegateError):
    """The write was based on an old version, or touches fields that others own.

    `owners` holds (manager, field path) pairs when the conflict is about ownership; it is
    empty when the object's version was stale.
    """

    reason = "Conflict"

    def __init__(self, message: str, owners: Sequence[tuple[str, str]] = ()) -> None:
        self.owners = tuple(owners)
        super().__init__(message)


class GoneError(TidegateError):
    """The version is older than the watch log: list again."""

    reason = "Expired"


class UnsupportedError(TidegateError):
    """A media type, subresource or verb that is not spoken here."""

    reason = "UnsupportedMediaType"


class UnavailableError(TidegateError):
    """The other side can't be reached or doesn't answer; a later try may succeed."""

    reason = "ServiceUnavailable"
