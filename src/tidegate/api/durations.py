"""Durations as Gateway API writes them (GEP-2257): `1h`, `1m30s`, `500ms`."""

import re
from typing import Final

from tidegate.api.errors import FieldError

_FORM: Final = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}\Z", re.ASCII)
_PART: Final = re.compile(r"([0-9]+)(h|ms|m|s)", re.ASCII)
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: str) -> float:
    """Return the seconds that `text` stands for.

    Raises:
        FieldError: `text` is not a duration; its path is empty.

    """
    if not _FORM.match(text):
        raise FieldError("", text, 'a duration such as "30s", "1m30s" or "500ms"')
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
