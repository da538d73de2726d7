"""One address of a ModelServer that somebody else runs: watched, never touched."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from tidegate.api.tidegate import EndpointStatus, HealthCheck
from tidegate.controllers import health
from tidegate.controllers.loop import pause


class Probe:
    """Keeps `endpoint` true while `run` runs."""

    def __init__(
        self,
        endpoint: EndpointStatus,
        check: HealthCheck,
        on_change: Callable[[], None],
    ) -> None:
        """Make a probe.

        Args:
            endpoint: What the world was told last; a server that was ready stays so until it
                has failed often enough.
            check: How the server is asked.
            on_change: Called when `endpoint` is another.

        """
        self.endpoint = endpoint
        self.check = check
        self._on_change = on_change
        self._failures = 0

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        never = asyncio.Event()
        while True:
            trouble = await health.problem(
                self.endpoint.address, self.check.path, self.check.timeout_seconds
            )
            self._tell(self._judged(trouble))
            await pause(self.check.period_seconds, never)

    def _judged(self, trouble: str) -> EndpointStatus:
        if not trouble:
            self._failures = 0
            return replace(self.endpoint, state="Ready", message="")
        self._failures += 1
        if self._failures < self.check.failure_threshold and self.endpoint.state != "Unhealthy":
            return self.endpoint
        return replace(self.endpoint, state="Unhealthy", message=trouble)

    def _tell(self, told: EndpointStatus) -> None:
        if told != self.endpoint:
            self.endpoint = told
            self._on_change()
