"""Whether a request costs more where there is more to choose from: 10 and 1,000 of each."""

from dataclasses import dataclass
from typing import Final

from bench.measure import Bench, Say
from bench.ours import manifests, serve
from bench.processes import Cpus
from bench.setup import Place, Running

FEW: Final = 10
MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class Size:
    """One gateway to measure."""

    name: str
    routes: int
    endpoints: int


SIZES: Final = (
    Size("10 routes", FEW, 2),
    Size("1,000 routes", MANY, 2),
    Size("10 endpoints", 1, FEW),
    Size("1,000 endpoints", 1, MANY),
)


def start(size: Size, place: Place, cpus: Cpus) -> Running:
    """Start our gateway with that many; nine of ten endpoints are in the big pool."""
    ports = place.backends[: size.endpoints]
    few = max(1, len(ports) // 10)
    objects = manifests(routes=size.routes, big=ports[few:], small=ports[:few])
    name = f"growth-{size.routes}-{size.endpoints}"
    return serve(place, name, place.free_port(), cpus, objects)


def measure(
    bench: Bench, running: dict[Size, Running], rounds: int, say: Say
) -> dict[str, list[float]]:
    """Return CPU µs per request by size, one a round, in turns."""
    found: dict[str, list[float]] = {size.name: [] for size in running}
    for number in range(rounds):
        order = list(running.items())
        for size, each in order if number % 2 else reversed(order):
            cost = bench.cpu_per_request(each, models=size.routes)
            found[size.name].append(cost)
            say(f"  {size.name:28}{cost:>17.1f} µs/request")
    return found
