"""From an `EndpointPickerConfig` to a scheduler.

The format is the one that llm-d's and GIE's endpoint pickers read (`llm-d.ai/v1alpha1`, before
`inference.networking.x-k8s.io/v1alpha1`): plugins by type, name and parameters, and profiles of
references to them. Types that mean the same here have the same names and parameters. It is read
strictly: what we don't know is refused with its place, never passed over in silence.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final, TypeVar

import msgspec
import yaml

from tidegate.api.errors import FieldError
from tidegate.picker.candidates import Filter
from tidegate.picker.filters import FILTERS
from tidegate.picker.filters.healthy import HealthyFilter
from tidegate.picker.filters.model import ModelFilter
from tidegate.picker.filters.prefix import PrefixCacheAffinityFilter
from tidegate.picker.flow.settings import FlowSettings, parse_flow
from tidegate.picker.latency import LatencySettings
from tidegate.picker.pickers import PICKERS
from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.prefix import PrefixSettings
from tidegate.picker.roles import AlwaysDecider, DisaggProfileHandler, PrefixBasedDecider
from tidegate.picker.schedule import Profile, Roles, Weighted
from tidegate.picker.scorers import SCORERS
from tidegate.picker.scorers.load import LeastLoadScorer
from tidegate.picker.scorers.no_hit_lru import NoHitLruScorer
from tidegate.picker.scorers.predicted_latency import PredictedLatencyScorer
from tidegate.picker.scorers.tokens import TokenLoadScorer

KIND: Final = "EndpointPickerConfig"
VERSIONS: Final = ("llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1")
SCORER_GROUP: Final = "tidegate.scorers"
"""Entry points of other packages: a plugin's type is the entry's name, its struct the value."""

PRODUCER: Final = "approx-prefix-cache-producer"
DECIDERS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "prefix-based-pd-decider": PrefixBasedDecider,
    "always-disagg-pd-decider": AlwaysDecider,
}
HANDLERS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "disagg-profile-handler": DisaggProfileHandler,
    "pd-profile-handler": DisaggProfileHandler,
}
NOT_NEEDED: Final = frozenset(
    {
        "single-profile-handler", "disagg-headers-handler", "prefill-header-handler",
        "token-producer", "tokenizer", "inflight-load-producer", "session-id-producer",
        "metrics-data-source", "core-metrics-extractor", "models-data-source", "openai-parser",
        "anthropic-parser", "vllmhttp-parser", "passthrough-parser",
    }
)  # fmt: skip
"""Upstream's plugins for what is always done here; they and their parameters have no effect."""
FLOW_CONTROL: Final = frozenset(
    {
        "utilization-detector", "concurrency-detector", "fcfs-ordering-policy",
        "edf-ordering-policy", "slo-deadline-ordering-policy", "round-robin-fairness-policy",
        "global-strict-fairness-policy", "static-usage-limit-policy",
    }
)  # fmt: skip
"""Plugins that `flowControl` refers to; `picker.config` only keeps them."""

_P = TypeVar("_P", bound=msgspec.Struct)


class _Strict(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    pass


class PluginSpec(_Strict, frozen=True):
    """One plugin: its type, the name that profiles refer to, its parameters."""

    type: str
    name: str = ""
    """By default the type."""
    parameters: dict[str, Any] | None = None


class PluginUse(_Strict, frozen=True):
    """A plugin's part in a profile."""

    plugin_ref: str
    weight: float | None = None
    """Of a scorer; 1 by default."""


class ProfileSpec(_Strict, frozen=True):
    """A profile: filters in their order, scorers, and a picker."""

    name: str
    plugins: tuple[PluginUse, ...] = ()


class EndpointPickerConfig(_Strict, frozen=True):
    """How a pool's endpoints are picked."""

    api_version: str = VERSIONS[0]
    kind: str = KIND
    metadata: dict[str, Any] | None = None
    feature_gates: tuple[str, ...] | dict[str, bool] = ()
    """Accepted; nothing here hides behind a gate."""
    plugins: tuple[PluginSpec, ...] = ()
    scheduling_profiles: tuple[ProfileSpec, ...] = ()
    """Without any, all scorers, filters and the picker of `plugins` make one."""
    flow_control: dict[str, Any] | None = None
    """See `picker.flow`."""
    data_layer: dict[str, Any] | None = None
    """Accepted; servers are always scraped."""
    request_handler: dict[str, Any] | None = None
    saturation_detector: dict[str, Any] | None = None
    parser: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Scheduler:
    """All that decides about a pool's requests; a value, compared to see what changed."""

    profile: Profile
    roles: Roles | None = None
    prefix: PrefixSettings | None = None
    """Set where something looks at prefix caches."""
    latency: LatencySettings | None = None
    """Set where something looks at expected latencies."""
    counts_tokens: bool = False
    """Whether requests' tokens are counted."""
    flow: FlowSettings = field(default_factory=FlowSettings)
    """Who waits, and when."""
    spec: EndpointPickerConfig = field(default_factory=EndpointPickerConfig)
    """What it was made of."""

    @property
    def reads_prompts(self) -> bool:
        """Whether requests need `chain` and `prompt`."""
        return self.counts_tokens or self.prefix is not None


def parse_config(text: str) -> Scheduler:
    """Return the scheduler that a YAML document describes.

    Raises:
        FieldError: Where what was found makes no sense, and what is expected.

    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FieldError("", text[:80], f"a YAML document ({error})") from error
    return compile_config(_struct(document, EndpointPickerConfig, ""))


def compile_config(spec: EndpointPickerConfig) -> Scheduler:
    """Return the scheduler that `spec` describes, or raise a FieldError."""
    if spec.kind != KIND:
        raise FieldError("kind", spec.kind, KIND)
    if spec.api_version not in VERSIONS:
        raise FieldError("apiVersion", spec.api_version, " or ".join(VERSIONS))
    plugins = _plugins(spec)
    profiles = dict(_profiles(spec, plugins))
    handler = next((one for one in plugins.values() if isinstance(one, DisaggProfileHandler)), None)
    roles: Roles | None = None
    if handler is None:
        profile = next(iter(profiles.values()))
        if len(profiles) > 1:
            raise FieldError(
                "schedulingProfiles", sorted(profiles), "one profile, or a disagg-profile-handler"
            )
    else:
        profile = _named(profiles, handler.decode_profile)
        roles = _roles(handler, plugins, profiles)
    return _scheduler(profile, roles, plugins, spec)


def default_scheduler() -> Scheduler:
    """Return the scheduler of a pool that configures none.

    Among the endpoints that are well and have the model, the one that is expected to answer
    first: see `predicted-latency-scorer`.
    """
    profile = Profile(
        filters=(HealthyFilter(), ModelFilter()),
        scorers=(Weighted("predicted-latency-scorer", PredictedLatencyScorer()),),
        picker=MaxScorePicker(),
    )
    return _scheduler(profile, None, {}, EndpointPickerConfig())


def simple_scheduler() -> Scheduler:
    """Return the scheduler of backends that are no pools: the least loaded that is well."""
    profile = Profile(
        filters=(HealthyFilter(),),
        scorers=(Weighted("least-load-scorer", LeastLoadScorer()),),
        picker=MaxScorePicker(),
    )
    return _scheduler(profile, None, {}, EndpointPickerConfig())


def _scheduler(
    profile: Profile,
    roles: Roles | None,
    plugins: Mapping[str, msgspec.Struct],
    spec: EndpointPickerConfig,
) -> Scheduler:
    used: list[object] = [*plugins.values(), *(each.scorer for each in profile.scorers)]
    prefix = next((one for one in used if isinstance(one, PrefixSettings)), None)
    latency = next((one for one in used if isinstance(one, LatencySettings)), None)
    looks = (NoHitLruScorer, PrefixCacheAffinityFilter, PredictedLatencyScorer)
    if prefix is None and (roles or any(isinstance(one, looks) for one in used)):
        prefix = PrefixSettings()
    counts = latency is not None or any(isinstance(one, TokenLoadScorer) for one in used)
    return Scheduler(
        profile=profile,
        roles=roles,
        prefix=_base(prefix, PrefixSettings) if prefix is not None else None,
        latency=_base(latency, LatencySettings) if latency is not None else None,
        counts_tokens=counts,
        flow=_flow(spec),
        spec=spec,
    )


def _flow(spec: EndpointPickerConfig) -> FlowSettings:
    """Return the queues' settings; the detector may be a plugin that is referred to."""
    value = dict(spec.flow_control or {})
    detector = value.get("saturationDetector")
    if isinstance(detector, dict) and "pluginRef" in detector:
        name = detector["pluginRef"]
        found = next((p for p in spec.plugins if (p.name or p.type) == name), None)
        if found is None:
            where = "flowControl.saturationDetector.pluginRef"
            raise FieldError(where, name, "the name of one of the plugins")
        value["saturationDetector"] = found.parameters or {}
    return parse_flow(value)


def _base(settings: msgspec.Struct, kind: type[_P]) -> _P:
    """Return the part of a plugin's parameters that its base class has."""
    return kind(**{name: getattr(settings, name) for name in kind.__struct_fields__})


def _types() -> Mapping[str, type[msgspec.Struct]]:
    return {**FILTERS, **SCORERS, **PICKERS, **DECIDERS, **HANDLERS, PRODUCER: PrefixSettings}


def _plugins(spec: EndpointPickerConfig) -> dict[str, msgspec.Struct]:
    """Return the plugins by name; those that have no effect are left out."""
    types = _types()
    found: dict[str, msgspec.Struct] = {}
    for index, each in enumerate(spec.plugins):
        where = f"plugins[{index}]"
        name = each.name or each.type
        if name in found:
            raise FieldError(f"{where}.name", name, "a name that no other plugin has")
        if each.type in NOT_NEEDED or each.type in FLOW_CONTROL:
            continue
        kind = types.get(each.type) or _outsiders().get(each.type)
        if kind is None:
            known = ", ".join(sorted(types))
            raise FieldError(f"{where}.type", each.type, f"one of {known}")
        found[name] = _struct(each.parameters or {}, kind, f"{where}.parameters")
    return found


def _outsiders() -> Mapping[str, type[msgspec.Struct]]:
    return {one.name: one.load() for one in entry_points(group=SCORER_GROUP)}


def _profiles(
    spec: EndpointPickerConfig, plugins: Mapping[str, msgspec.Struct]
) -> Iterator[tuple[str, Profile]]:
    if not spec.scheduling_profiles:
        yield "default", _profile(plugins, {}, "plugins")
    for index, each in enumerate(spec.scheduling_profiles):
        where = f"schedulingProfiles[{index}]"
        chosen: dict[str, msgspec.Struct] = {}
        weights: dict[str, float] = {}
        for place, use in enumerate(each.plugins):
            named = next((p for p in spec.plugins if (p.name or p.type) == use.plugin_ref), None)
            if named is None:
                path = f"{where}.plugins[{place}].pluginRef"
                raise FieldError(path, use.plugin_ref, "the name of one of the plugins")
            if use.plugin_ref in plugins:
                chosen[use.plugin_ref] = plugins[use.plugin_ref]
                weights[use.plugin_ref] = _weight(use, f"{where}.plugins[{place}].weight")
        yield each.name, _profile(chosen, weights, where)


def _weight(use: PluginUse, where: str) -> float:
    weight = 1.0 if use.weight is None else use.weight
    if not 0.0 <= weight <= 1e6:
        raise FieldError(where, use.weight, "a number from 0 to 1000000")
    return weight


def _profile(
    plugins: Mapping[str, msgspec.Struct], weights: Mapping[str, float], where: str
) -> Profile:
    filters: list[Any] = [one for one in plugins.values() if hasattr(one, "filter")]
    pickers: list[Any] = [one for one in plugins.values() if hasattr(one, "pick")]
    if len(pickers) > 1:
        raise FieldError(where, len(pickers), "at most one picker")
    ours = frozenset(SCORERS.values())
    scorers = [
        Weighted(name, one, weights.get(name, 1.0), type(one) in ours)
        for name, one in plugins.items()
        if hasattr(one, "score") and weights.get(name, 1.0)
    ]
    # No config of upstream's has these two: health and residency are not a matter of taste.
    always: list[Filter] = [
        kind() for kind in (HealthyFilter, ModelFilter) if not _has(filters, kind)
    ]
    picker = pickers[0] if pickers else MaxScorePicker()
    return Profile((*always, *filters), tuple(scorers), picker)


def _has(plugins: list[Any], kind: type) -> bool:
    return any(isinstance(one, kind) for one in plugins)


def _roles(
    handler: DisaggProfileHandler,
    plugins: Mapping[str, msgspec.Struct],
    profiles: Mapping[str, Profile],
) -> Roles | None:
    if handler.decider is None:
        return None
    decider = plugins.get(handler.decider)
    if not isinstance(decider, PrefixBasedDecider | AlwaysDecider):
        raise FieldError("plugins", handler.decider, "the name of a decider")
    prefill = _named(profiles, handler.prefill_profile)
    return Roles(prefill, decider, handler.revision_label)


def _named(profiles: Mapping[str, Profile], name: str) -> Profile:
    if name not in profiles:
        raise FieldError("schedulingProfiles", sorted(profiles), f"a profile called {name}")
    return profiles[name]


def _struct(value: object, kind: type[_P], where: str) -> _P:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        place = (where + path.rstrip("`")).lstrip(".")
        raise FieldError(place, value, message) from error
