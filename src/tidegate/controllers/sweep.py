"""Controllers that look at everything of their kinds at once, whatever changed of it."""

from abc import ABC, abstractmethod
from typing import Final

from tidegate.controllers.loop import Loop, Retry

SETTLE_S: Final = 0.02
"""A burst of changes, such as a folder that is applied, is one look."""


class Sweep(ABC):
    """Looks once at the start, and again after each change."""

    def __init__(self, name: str) -> None:
        """Make it; `name` is what logs call it."""
        self._loop: Loop[str] = Loop(name, self.reconcile, settle_s=SETTLE_S, parallel=1)

    async def run(self) -> None:
        """Reconcile until cancelled. The cache must be complete by now."""
        self._loop.add("")
        await self._loop.run()

    def changed(self) -> None:
        """Say that anything changed that it looks at."""
        self._loop.add("")

    @abstractmethod
    async def reconcile(self, _: str) -> Retry | None:
        """Look at everything, and do what is due; safe to run twice."""
