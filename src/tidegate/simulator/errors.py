"""What a simulated server refuses, in vLLM's words.

TidegateError
└─ SimulatorError
   ├─ SettingsError     the server can't be started like that
   ├─ RequestError      a request is refused: becomes vLLM's error body
   └─ CrashError        a fault has ended the server
"""

from http import HTTPStatus

from tidegate.api.errors import TidegateError


class SimulatorError(TidegateError):
    """The root of the simulator's errors."""

    reason = "SimulatorError"


class SettingsError(SimulatorError):
    """A setting has a value that it can't have."""

    reason = "InvalidSettings"


class CrashError(SimulatorError):
    """A fault has ended the server; the message is what a real one would have said, '' nothing."""

    reason = "Crashed"


class RequestError(SimulatorError):
    """A request is refused. `type` and `status` are those that vLLM answers with."""

    reason = "RequestRefused"

    def __init__(self, status: int, type_: str, message: str, param: str | None = None) -> None:
        self.status = status
        self.type = type_
        self.message = message
        self.param = param
        super().__init__(message)


def bad_request(message: str, param: str | None = None) -> RequestError:
    """Return the refusal of a request whose values can't be served."""
    return RequestError(HTTPStatus.BAD_REQUEST, "BadRequestError", message, param)


def malformed(message: str) -> RequestError:
    """Return the refusal of a body that is not what the API describes."""
    return RequestError(HTTPStatus.BAD_REQUEST, HTTPStatus.BAD_REQUEST.phrase, message)


def not_found(message: str, param: str | None = None) -> RequestError:
    """Return the refusal of a model or adapter that isn't served."""
    return RequestError(HTTPStatus.NOT_FOUND, "NotFoundError", message, param)
