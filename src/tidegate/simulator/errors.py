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
        self.bare = False
        """Whether the web framework says it, in a body that isn't vLLM's."""
        super().__init__(message)


def bad_request(message: str, param: str | None = None) -> RequestError:
    """Return the refusal of a request whose values can't be served."""
    return RequestError(HTTPStatus.BAD_REQUEST, "BadRequestError", message, param)


def invalid(problem: str, *places: str) -> RequestError:
    """Return the refusal of a body that is not what the API describes.

    Args:
        problem: What is wrong there.
        places: Where, such as `body.max_tokens`.

    """
    count = "1 validation error" if len(places) == 1 else f"{len(places)} validation errors"
    lines = [f"  {{'loc': '{place}', 'msg': {problem!r}}}" for place in places]
    message = "\n".join([f"{count}:", *lines])
    return RequestError(HTTPStatus.BAD_REQUEST, HTTPStatus.BAD_REQUEST.phrase, message, places[0])


def bare(status: HTTPStatus, message: str) -> RequestError:
    """Return what the web framework refuses before vLLM is asked."""
    error = RequestError(status, status.phrase, message)
    error.bare = True
    return error


def not_found(message: str, param: str | None = None) -> RequestError:
    """Return the refusal of a model or adapter that isn't served."""
    return RequestError(HTTPStatus.NOT_FOUND, "NotFoundError", message, param)
