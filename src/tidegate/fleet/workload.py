"""A workload file: servers, traffic, troubles, and what counts as good.

    duration: 60s
    servers:
      - {count: 8, profile: h100-8b}
    traffic:
      - {name: chat, rate: 20, turns: 5, system: {count: 10, tokens: 1500}}

It is read strictly: a field that isn't known is refused with its place.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from tidegate.api.durations import parse_duration
from tidegate.api.errors import FieldError, TidegateError
from tidegate.simulator.profiles import PROFILES

Positive = Annotated[float, Meta(gt=0)]
Tokens = Annotated[int, Meta(ge=1, le=1_000_000)]
Count = Annotated[int, Meta(ge=1)]


class WorkloadError(TidegateError):
    """A workload file can't be read."""

    reason = "InvalidWorkload"


class _Strict(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    pass


class Servers(_Strict, frozen=True):
    """Equal servers."""

    count: Count = 1
    profile: str = "h100-8b"
    """As `tidegate simulate --profile` has them."""
    pace: Positive = 1.0
    """They take so many times as long for everything."""
    max_loras: Count = 4
    """Adapters in one batch, and slots on the GPU."""
    joins: str = "0s"
    """When they come, with empty caches."""


class Trouble(_Strict, frozen=True):
    """Something that happens to a server."""

    at: str
    server: Annotated[int, Meta(ge=0)]
    """Its number, from 0, in the order of `servers`."""
    what: Literal["slow", "down", "up", "deaf"]
    """slow: it takes `factor` times as long. down: it crashes; its requests are lost. up: it is
    well again. deaf: its metrics stay what they are."""
    factor: Positive = 4.0


class Shared(_Strict, frozen=True):
    """Beginnings that many prompts share."""

    count: Count = 1
    """How many different ones."""
    tokens: Tokens = 1000
    skew: Annotated[float, Meta(ge=0, le=5)] = 1.0
    """The n-th is asked for in proportion to 1 / n^skew; 0 is evenly."""


class Names(_Strict, frozen=True):
    """Adapters, or tenants."""

    count: Count = 1
    skew: Annotated[float, Meta(ge=0, le=5)] = 1.0
    """As of `Shared`."""


class Burst(_Strict, frozen=True):
    """The last `length` of every `every` has `factor` times the rate."""

    factor: Positive = 5.0
    every: str = "10s"
    length: str = "1s"


class Traffic(_Strict, frozen=True):
    """Conversations of one kind. Lengths are means; they are exponential, but for `spread: 0`."""

    name: str
    rate: Positive | None = None
    """Conversations that start each second, at random (Poisson)."""
    trace: str | None = None
    """Instead of a rate: a file of recorded requests, as for `tidegate load`."""
    speed: Positive = 1.0
    """A trace is played so many times as fast."""
    starts: str = "0s"
    burst: Burst | None = None
    system: Shared | None = None
    turns: Count = 1
    think: str = "5s"
    """Mean time between an answer and the next turn."""
    user: Tokens = 200
    """Tokens of a user's message."""
    answer: Tokens = 150
    """Tokens of an answer."""
    spread: Literal[0, 1] = 1
    adapters: Names | None = None
    priority: int = 0
    tenants: Names = Names()


class Objective(_Strict, frozen=True):
    """What a good answer is."""

    ttft: str = "1s"
    """Its first token comes within this."""
    itl: str = "50ms"
    """The mean time between its tokens is at most this."""


class Workload(_Strict, frozen=True):
    """The whole file."""

    duration: str = "60s"
    """For so long conversations start."""
    warmup: str = "5s"
    """Requests that come before this don't count."""
    requests: Count | None = None
    """At most so many requests."""
    seed: int = 1
    objective: Objective = Objective()
    servers: Annotated[tuple[Servers, ...], Meta(min_length=1)] = (Servers(count=8),)
    troubles: tuple[Trouble, ...] = ()
    traffic: Annotated[tuple[Traffic, ...], Meta(min_length=1)] = (Traffic(name="all", rate=10.0),)
    folder: Path = Path()
    """Where traces are looked for: that of the file."""

    @property
    def size(self) -> int:
        """How many servers there are in the end."""
        return sum(one.count for one in self.servers)


def seconds(text: str) -> float:
    """Return a duration that was checked already, in seconds."""
    return parse_duration(text)


def read(path: Path) -> Workload:
    """Return the workload of a file. Raises WorkloadError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: {error}") from error
    try:
        return msgspec.structs.replace(parse(text), folder=path.parent)
    except FieldError as error:
        raise WorkloadError(f"{path}: {error}") from error


def parse(text: str) -> Workload:
    """Return the workload that a YAML document describes. Raises FieldError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FieldError("", text[:80], f"a YAML document ({error})") from error
    try:
        workload = msgspec.convert(document, Workload)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise FieldError(place.rstrip("`").lstrip(".") or "the file", document, message) from error
    _check(workload)
    return workload


def _check(workload: Workload) -> None:
    for path, text in _durations(workload):
        try:
            parse_duration(text)
        except FieldError as error:
            raise FieldError(path, text, error.expected) from error
    for n, servers in enumerate(workload.servers):
        if servers.profile not in PROFILES:
            expected = f"one of {', '.join(PROFILES)}"
            raise FieldError(f"servers[{n}].profile", servers.profile, expected)
    for n, trouble in enumerate(workload.troubles):
        if trouble.server >= workload.size:
            expected = f"a number below {workload.size}"
            raise FieldError(f"troubles[{n}].server", trouble.server, expected)
    names = [one.name for one in workload.traffic]
    for n, traffic in enumerate(workload.traffic):
        if (traffic.rate is None) == (traffic.trace is None):
            raise FieldError(f"traffic[{n}]", traffic.rate, "either a rate or a trace")
        if names.index(traffic.name) != n:
            raise FieldError(f"traffic[{n}].name", traffic.name, "a name of its own")


def _durations(workload: Workload) -> list[tuple[str, str]]:
    found = [("duration", workload.duration), ("warmup", workload.warmup)]
    found += [
        ("objective.ttft", workload.objective.ttft),
        ("objective.itl", workload.objective.itl),
    ]
    found += [(f"servers[{n}].joins", one.joins) for n, one in enumerate(workload.servers)]
    found += [(f"troubles[{n}].at", one.at) for n, one in enumerate(workload.troubles)]
    for n, one in enumerate(workload.traffic):
        found += [(f"traffic[{n}].think", one.think), (f"traffic[{n}].starts", one.starts)]
        if one.burst is not None:
            found.append((f"traffic[{n}].burst.every", one.burst.every))
            found.append((f"traffic[{n}].burst.length", one.burst.length))
    return found
