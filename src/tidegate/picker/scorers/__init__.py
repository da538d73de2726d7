"""Scorers: how good an endpoint is. The table is the list of those that a profile can name."""

from collections.abc import Mapping
from typing import Final

from tidegate.picker.plugins import Scorer
from tidegate.picker.scorers.load import LeastLoadScorer

SCORERS: Final[Mapping[str, type[Scorer]]] = {
    "least-load-scorer": LeastLoadScorer,
}
