"""The two kinds of vectors: numbers and truths, one for each candidate or each slot."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Slots: TypeAlias = slice | NDArray[np.intp]
"""Some of a pool's slots: all of them, or an index vector."""
