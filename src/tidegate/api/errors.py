"""The one error tree.

Every error that a person or a client can meet is one of these. Each class has a stable
CamelCase `reason`, used alike in conditions, HTTP bodies, logs and metrics.

    TidegateError                 the root
    ├─ FieldError                 one field of a manifest or a config is wrong
    ├─ InvalidError               a whole object is refused: a list of FieldErrors
    ├─ NotFoundError              no such object                       404
    ├─ AlreadyExistsError         create of a name that is taken       409
    ├─ ConflictError              a stale version, or a field that somebody else owns   409
    ├─ GoneError                  a watch version older than the log   410
    ├─ UnsupportedError           a media type or verb that we don't speak  415/405
    └─ UnavailableError           the store or a server can't be reached  503
"""

from collections.abc import Sequence


class TidegateError(Exception):
    """The root of our errors."""

    reason = "Error"


class FieldError(TidegateError):
    """One field is wrong: where, what was found, what is expected."""

    reason = "Invalid"

    def __init__(self, path: str, found: object, expected: str) -> None:
        self.path = path
        self.found = found
        self.expected = expected
        super().__init__(f"{path}: found {found!r}, expected {expected}")


class InvalidError(TidegateError):
    """An object is refused; nothing of it was stored."""

    reason = "Invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in errors))


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
