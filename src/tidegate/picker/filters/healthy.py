"""Pass over endpoints that are unhealthy or ejected, unless that leaves nobody.

When no endpoint is well, the profile keeps all. Then the evidence says more about the path
to the servers (or about their metrics) than about any one of them, and a request sent may
succeed where a request refused can't.
"""

from collections.abc import Sequence

import msgspec

from tidegate.picker.plugins import Endpoint, Request


class HealthyFilter(msgspec.Struct, frozen=True):
    """`healthy-filter`: drops the unhealthy and the ejected."""

    def filter(self, request: Request, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Return the usable endpoints."""
        now = request.now
        return [e for e in endpoints if e.state.usable_from <= now]
