"""Pickers: from scores to a choice. The table is the list of those that a profile can name."""

from collections.abc import Mapping
from typing import Final

from tidegate.picker.pickers.draws import PowerOfTwoPicker, RandomPicker, WeightedRandomPicker
from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.plugin import Plugin

PICKERS: Final[Mapping[str, type[Plugin]]] = {
    "max-score-picker": MaxScorePicker,
    "random-picker": RandomPicker,
    "weighted-random-picker": WeightedRandomPicker,
    "power-of-two-picker": PowerOfTwoPicker,
}
