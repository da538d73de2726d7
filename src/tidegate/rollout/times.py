"""Times as Kubernetes writes them."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(at: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC, to the second."""
    return (_EPOCH + timedelta(seconds=int(at))).strftime("%Y-%m-%dT%H:%M:%SZ")
