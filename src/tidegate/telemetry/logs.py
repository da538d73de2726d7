"""Log set-up: one event a line, fields beside it, to stderr; credentials never.

Other libraries' logs come out in the same form. Redaction looks at the names of fields and at
what values look like; it is the last line of defence, not a licence to log secrets.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"authorization|api[-_]?key|secret|passw|credential|cookie|bearer|private[-_]?key"
    r"|(^|[-_.])token$",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]+"
    r"|\bsk-[\w-]{8,}"
    r"|(?<=://)[^/@\s]+(?=@)"
    r"|-----BEGIN [^-]*PRIVATE KEY-----.*",
    re.IGNORECASE | re.DOTALL,
)

_CHATTY: Final = ("httpx", "httpx2", "httpcore", "httpcore2", "uvicorn.access", "asyncio")
"""Loggers that tell of every request at `info`: only their warnings are of use."""


def configure(log_format: Literal["json", "console"] = "console", level: str = "info") -> None:
    """Send this process's logs to stderr from now on.

    Args:
        log_format: One JSON object a line, or lines for people.
        level: debug, info, warning, error or critical; less is not logged.

    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(log_format),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace credentials in `event`, at any depth. A structlog processor."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: object, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _redacted(key, inner) for key, inner in value.items()}
    # Numbers stay: `tokens` and the like count things.
    if isinstance(value, str | bytes | list | tuple) and _SECRET_NAME.search(str(name)):
        return REDACTED
    if isinstance(value, list | tuple):
        return [_redacted("", inner) for inner in value]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return without_secrets(value)
    return value


def without_secrets(text: str) -> str:
    """Return `text` with what looks like a credential replaced."""
    return _SECRET_VALUE.sub(_kept_scheme, text)


def _kept_scheme(match: re.Match[str]) -> str:
    return (match["scheme"] or "") + REDACTED


def _renderer(log_format: Literal["json", "console"]) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(default=str)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
