"""A worker among its siblings: it shares what it knows, and scrapes its part of the endpoints.

Each endpoint is scraped by one worker, and all hear what was seen: looking costs the model
servers the same however many workers there are. A worker that is alone looks at all of them; so
does each for a moment at the start, until the others have been heard.
"""

from collections.abc import Callable, Iterable, Mapping

from tidegate.gateway.mesh import SUFFIX, Mesh
from tidegate.gateway.plane import Live, Plane, Registry
from tidegate.picker.sharing import Sharing, owner
from tidegate.picker.state import Event
from tidegate.scrape.poll import Poller


class Siblings:
    """One worker's sharing, its socket and its scrapes."""

    def __init__(
        self, plane: Plane, registry: Registry, note: Callable[[str, Event], None]
    ) -> None:
        """Prepare; `note` takes what any worker's scrape saw, by address."""
        settings = plane.settings
        self._registry = registry
        self._note = note
        self._engines: Mapping[str, str] = {}
        self.sharing = Sharing(
            settings.worker_id, wake=self._wake, note=note, refresh=self._list_models
        )
        self.mesh = Mesh(
            plane.loop,
            settings.admin_socket.with_suffix(SUFFIX),
            self.sharing,
            clock=plane.clock,
            on_workers=self._share_out,
        )
        self.poller = Poller(self.note, rng=plane.rng)

    def swapped(self, live: Live) -> None:
        """Take the endpoints of a new table."""
        backends = live.table.backends
        self._engines = {each: b.engine.get(each, "") for b in backends for each in b.endpoints}
        self.sharing.set_pools(self._registry.all(), live.pools)
        self._share_out()

    def note(self, address: str, event: Event) -> None:
        """Take what this worker learnt of an endpoint, and tell the others."""
        self._note(address, event)
        self.sharing.scraped(address, event)

    def refresh(self, addresses: Iterable[str]) -> None:
        """Have the models of these endpoints listed soon, by whichever worker scrapes them."""
        asked = list(addresses)
        self._list_models(asked)
        self.sharing.ask_lists(asked)

    def _list_models(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            self.poller.refresh_models(address)

    def _share_out(self) -> None:
        """Scrape those endpoints that are ours among the workers that are there now."""
        workers, name = self.sharing.workers, self.sharing.name
        mine = {
            address: engine
            for address, engine in self._engines.items()
            if owner(address, workers) == name
        }
        self.poller.set_endpoints(mine)

    def _wake(self) -> None:
        self.mesh.wake()
