"""How often endpoints are looked at: one budget for all of them.

While the set is small every endpoint is looked at every `interval_s`. In a large one idle
endpoints wait longer, so that watching costs little when nothing happens, and in a huge one
busy endpoints do too.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

BUSY_RATE: Final = 500.0
"""Scrapes a second over all endpoints, at most: with 50 KB each some 8 % of a core."""
IDLE_RATE: Final = 100.0
"""The same for endpoints without work."""
IDLE_MAX_S: Final = 2.0
"""Longest pause because of `IDLE_RATE`."""
FAILING_MAX_S: Final = 1.0
NO_METRICS_S: Final = 5.0
UNKNOWN_METRICS_S: Final = 1.0
"""After an answer without any metric that we know: some appear with the first request."""
MODELS_S: Final = 5.0
"""Between two looks at an endpoint's models."""


@dataclass(slots=True)
class Pace:
    """Pauses in seconds; `endpoints` is how many there are now."""

    rng: Random
    interval_s: float
    timeout_s: float
    endpoints: int = 0

    def start(self) -> float:
        """Return when to look first: anywhere in an interval, so that looks don't come at once."""
        return self.rng.uniform(0.0, self.interval_s)

    def busy(self) -> float:
        """Return the pause of an endpoint that has work."""
        return max(self.interval_s, self.endpoints / BUSY_RATE)

    def idle(self) -> float:
        """Return the pause of an endpoint that has none."""
        return max(self.busy(), min(IDLE_MAX_S, self.endpoints / IDLE_RATE))

    def failing(self, failures: int) -> float:
        """Return the pause after so many failures in a row (1 is the first)."""
        return max(self.busy(), min(FAILING_MAX_S, self.interval_s * 2.0 ** min(failures - 1, 8)))

    def spread(self, pause: float) -> float:
        """Return `pause` a little shorter or longer."""
        return pause * self.rng.uniform(0.9, 1.1)
