"""Did the data plane honour the weights? A test that may be looked at all the time.

The canary's sessions are compared with its share by likelihood ratios against larger (and
smaller) shares. Each is a non-negative supermartingale while the true share is within the
tolerance, so their mean exceeds 1/alpha with probability at most alpha, however often it is
looked at (Ville's inequality; Ramdas, Grünwald, Vovk, Shafer 2023, "Game-theoretic statistics
and safe anytime-valid inference", section 2).
"""

import math
from typing import Final

TOLERANCE: Final = 0.02
"""Shares that differ by less are as good as equal; near 0 and 1 it is less."""
ALPHA: Final = 0.001
"""The chance to blame a data plane that does what it should, per epoch."""
_FRACTIONS: Final = (0.999, *(2.0**-power for power in range(1, 11)))


def is_off(canary: int, total: int, share: float) -> bool:
    """Whether `canary` of `total` sessions is another share than `share` (in [0, 1])."""
    below = math.log(2 / ALPHA)
    tolerance = min(TOLERANCE, max(0.005, share / 2), max(0.005, (1 - share) / 2))
    high = _evidence(canary, total, min(1.0, share + tolerance))
    low = _evidence(total - canary, total, min(1.0, 1 - share + tolerance))
    return max(high, low) > below


def _evidence(count: int, total: int, edge: float) -> float:
    """Return the log of the evidence that `count` of `total` comes from more than `edge`."""
    if edge >= 1:
        return 0.0
    others = total - count
    logs = [
        count * math.log(more / edge) + others * math.log((1 - more) / (1 - edge))
        for more in (edge + (1 - edge) * fraction for fraction in _FRACTIONS)
    ]
    top = max(logs)
    return top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))
