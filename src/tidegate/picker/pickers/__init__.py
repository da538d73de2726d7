"""Pickers: from scores to an order. The table is the list of those that a profile can name."""

from collections.abc import Mapping
from typing import Final

from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.plugins import Picker

PICKERS: Final[Mapping[str, type[Picker]]] = {
    "max-score-picker": MaxScorePicker,
}
