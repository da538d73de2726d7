"""Filters: who must not serve. The table is the list of those that a profile can name."""

from collections.abc import Mapping
from typing import Final

from tidegate.picker.filters.healthy import HealthyFilter
from tidegate.picker.plugins import Filter

FILTERS: Final[Mapping[str, type[Filter]]] = {
    "healthy-filter": HealthyFilter,
}
