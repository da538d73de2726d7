"""Filters: who must not serve. The table is the list of those that a profile can name."""

from collections.abc import Mapping
from typing import Final

from tidegate.picker.filters.healthy import HealthyFilter
from tidegate.picker.filters.labels import (
    ByLabelFilter,
    DecodeFilter,
    LabelSelectorFilter,
    PrefillFilter,
)
from tidegate.picker.filters.model import ModelFilter
from tidegate.picker.filters.prefix import PrefixCacheAffinityFilter
from tidegate.picker.plugin import Plugin

FILTERS: Final[Mapping[str, type[Plugin]]] = {
    "healthy-filter": HealthyFilter,
    "model-filter": ModelFilter,
    "label-selector-filter": LabelSelectorFilter,
    "by-label-selector": LabelSelectorFilter,
    "by-label": ByLabelFilter,
    "decode-filter": DecodeFilter,
    "prefill-filter": PrefillFilter,
    "prefix-cache-affinity-filter": PrefixCacheAffinityFilter,
}
