"""Pass over endpoints that are unhealthy or ejected, unless that leaves nobody.

"Panic": when no endpoint is well, all are kept. Then the evidence says more about the path
to the servers (or about their metrics) than about any one of them, and a request sent may
succeed where a request refused can't.
"""

from typing import ClassVar

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Flags


class HealthyFilter(Plugin, frozen=True):
    """Drops endpoints that are unhealthy or ejected; keeps all if that is everybody."""

    reason: ClassVar[str] = ""

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return the usable ones, or None if all are, or none is."""
        pool, now = candidates.pool, candidates.request.now
        if pool.unwell_until <= now:
            return None
        well: Flags = pool.usable_from[candidates.at] <= now
        return well if well.any() else None
