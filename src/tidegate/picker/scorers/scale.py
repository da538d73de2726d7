"""The scale that several of upstream's scorers share: the least of the candidates is best."""

import numpy as np

from tidegate.picker.vectors import Vector


def least_is_best(values: Vector) -> Vector:
    """Return (most - value) / (most - least) for each; 1 if all are equal."""
    most, least = float(values.max()), float(values.min())
    if most == least:
        return np.ones(len(values))
    scores: Vector = (most - values) / (most - least)
    return scores
