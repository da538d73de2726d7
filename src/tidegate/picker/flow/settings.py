"""How much may wait, for how long, and when a server counts as full: `flowControl`.

Field names are those of upstream's `EndpointPickerConfig` where the meaning is the same. It is
read strictly; what only orders the queues of other products differently is refused, for here
priorities are strict and tenants always fair.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from tidegate.api.durations import parse_duration
from tidegate.api.errors import FieldError

NEGATIVE_LIMIT: Final = 0.85
ZERO_LIMIT: Final = 0.95


class _Strict(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    pass


class BandSettings(_Strict, frozen=True):
    """The queue of one priority."""

    priority: int = 0
    max_requests: Annotated[int, Meta(ge=0)] = 5_000
    """Requests that wait at most."""
    max_bytes: Annotated[int, Meta(ge=0)] = 1_000_000_000
    """Bytes of their bodies."""
    usage_limit: Annotated[float, Meta(gt=0, le=1)] | None = None
    """How full the least busy server may be for one of these to go on: the rest is kept for
    higher priorities. By default 0.85 below priority 0, 0.95 at 0, and 1 above."""

    @property
    def limit(self) -> float:
        """The usage limit, the default included."""
        if self.usage_limit is not None:
            return self.usage_limit
        return 1.0 if self.priority > 0 else ZERO_LIMIT if self.priority == 0 else NEGATIVE_LIMIT


class Saturation(_Strict, frozen=True):
    """When a server is full: when any of these is reached."""

    queue_depth_threshold: Annotated[float, Meta(gt=0)] = 5.0
    """Requests that wait at the server."""
    kv_cache_util_threshold: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """Of its KV cache, as it says, or as our own requests' tokens would fill it."""
    prefill_seconds: Annotated[float, Meta(gt=0)] = 1.0
    """Seconds that it needs for the prompts sent to it that have no first token yet, as learnt
    from the answers before; it needs no metrics."""
    prefill_tokens: Annotated[int, Meta(ge=1)] = 32_768
    """The same where nothing is learnt, in tokens."""
    itl_seconds: Annotated[float, Meta(gt=0)] | None = None
    """Expected seconds between two tokens of an answer, as learnt: set it to your objective's,
    and higher priorities keep it whatever the others send. It needs no metrics."""
    max_concurrency: Annotated[int, Meta(ge=1)] | None = None
    """Requests at a server, ours and others'; for servers without metrics."""
    metrics_staleness_threshold: str = "2s"
    """Older numbers of a server are not believed; our own counts remain."""

    @property
    def stale_after_s(self) -> float:
        """The staleness threshold in seconds."""
        return parse_duration(self.metrics_staleness_threshold)


class FlowSettings(_Strict, frozen=True):
    """Queues, their bounds, and saturation."""

    max_requests: Annotated[int, Meta(ge=0)] = 20_000
    """Requests that wait at most, of all priorities together."""
    max_bytes: Annotated[int, Meta(ge=0)] = 1_000_000_000
    """Bytes of their bodies."""
    default_request_ttl: str = msgspec.field(default="60s", name="defaultRequestTTL")
    """How long a request waits at most: a duration; then it is answered 429."""
    default_priority_band: BandSettings = BandSettings()
    """Of priorities from 0 on that have no band of their own."""
    default_negative_priority_band: BandSettings = BandSettings(max_requests=1_000)
    """Of those below 0."""
    priority_bands: tuple[BandSettings, ...] = ()
    saturation_detector: Saturation = Saturation()
    enable_eviction: bool = False
    """Whether running requests below priority 0 are cut when others wait too long."""
    eviction_patience: str = "500ms"
    """How long one from priority 0 on waits before a running one below 0 is cut."""

    @property
    def ttl_s(self) -> float:
        """The time to live in seconds."""
        return parse_duration(self.default_request_ttl)

    @property
    def patience_s(self) -> float:
        """The eviction patience in seconds."""
        return parse_duration(self.eviction_patience)

    def band(self, priority: int) -> BandSettings:
        """Return the settings of a priority's queue."""
        for one in self.priority_bands:
            if one.priority == priority:
                return one
        default = self.default_priority_band
        if priority < 0:
            default = self.default_negative_priority_band
        return msgspec.structs.replace(default, priority=priority)


def parse_flow(value: dict[str, Any] | None, where: str = "flowControl") -> FlowSettings:
    """Return the settings that a config's `flowControl` says; its absence means the defaults.

    Raises:
        FieldError: Where what was found makes no sense, and what is expected.

    """
    try:
        settings = msgspec.convert(value or {}, FlowSettings)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise FieldError(where + path.rstrip("`"), value, message) from error
    _durations(settings, where)
    _unique(settings, where)
    return settings


def _durations(settings: FlowSettings, where: str) -> None:
    detector = settings.saturation_detector
    for path, text in (
        ("defaultRequestTTL", settings.default_request_ttl),
        ("evictionPatience", settings.eviction_patience),
        ("saturationDetector.metricsStalenessThreshold", detector.metrics_staleness_threshold),
    ):
        try:
            parse_duration(text)
        except FieldError as error:
            raise FieldError(f"{where}.{path}", text, error.expected) from error


def _unique(settings: FlowSettings, where: str) -> None:
    seen: set[int] = set()
    for index, one in enumerate(settings.priority_bands):
        if one.priority in seen:
            path = f"{where}.priorityBands[{index}].priority"
            raise FieldError(path, one.priority, "a priority that no other band has")
        seen.add(one.priority)
