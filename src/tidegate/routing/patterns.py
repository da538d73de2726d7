"""Regular expressions of routes, compiled once for all tables.

Gateway API leaves the dialect to the implementation; ours is Python's `re`, and a pattern
must match the whole value. One that doesn't compile is None, never an exception.
"""

import re
import warnings
from functools import lru_cache


@lru_cache(maxsize=4096)
def text_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the pattern for paths and query parameters, or None if it is not valid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set" concerns its writer, not us
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return None


@lru_cache(maxsize=4096)
def bytes_pattern(pattern: str) -> re.Pattern[bytes] | None:
    """Return the pattern for header values, or None if it is not valid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern.encode())
    except (re.error, OverflowError, RecursionError, UnicodeEncodeError):
        return None
