"""InferenceRollout (`tidegate.dev/v1alpha1`): a move of traffic that runs itself.

People write the spec: what moves, how fast, and their intents (pause, promote, abort, undo).
The rollout controller alone writes the status; all that it needs to resume is there.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tidegate.api.meta import Model, Name, Resource
from tidegate.api.scalars import Conditions, Duration
from tidegate.api.tidegate import GROUP

__all__ = ["GROUP", "InferenceRollout"]

RolloutType = Literal["Node", "BaseModel", "Adapter"]
Preset = Literal["canary", "linear", "blueGreen", "shadowThenCanary"]
Phase = Literal[
    "Pending",
    "Preflight",
    "Warming",
    "Progressing",
    "Paused",
    "Baking",
    "Draining",
    "Completed",
    "Aborting",
    "Aborted",
    "RollingBack",
    "RolledBack",
]
"""Where a rollout is. Completed, Aborted and RolledBack are ends."""

Check = Literal[
    "PoolAccepted",
    "ReadyEndpoints",
    "ModelsServed",
    "AdaptersServed",
    "ContextLength",
    "Tokenizer",
    "ChatTemplate",
    "Features",
    "AdapterBase",
    "AdapterRank",
    "AdapterModules",
    "Capacity",
    "WeightResolution",
]
"""A preflight check that may be waived. That pools and the target exist is never waived."""

Gate = Literal["BeforeStart", "BeforeIncrease", "BeforePromotion", "After"]

Percent = Annotated[int, Meta(ge=0, le=100)]
Side = Annotated[str, Meta(min_length=1, max_length=256)]
Url = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^https?://[!-~]+$",
        extra={"expected": 'a URL such as "https://example.com/gate"'},
    ),
]


class TargetReference(Model, frozen=True, kw_only=True):
    """Whose weights move: an HTTPRoute's rule, or the targets of a model rewrite."""

    kind: Literal["HTTPRoute", "InferenceModelRewrite", "InferenceModel"] | None = None
    """By default HTTPRoute, or InferenceModelRewrite where the rollout's type is Adapter."""
    name: Name
    """The object's name, in the rollout's namespace."""
    rule: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    """The rule's name or, where it has none, its index from "0". Needed only where several
    rules have both sides. An InferenceModel has no rules."""


class PauseStep(Model, frozen=True, kw_only=True):
    """Wait: for a time, or without one until somebody promotes."""

    duration: Duration | None = None
    """How long; without it, until `promote` changes."""


class WarmStep(Model, frozen=True, kw_only=True):
    """Fill the canary's prefix caches before it is judged, with copies of real requests."""

    hit_rate: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """Warm enough: this fraction of the stable's prefix hit rate."""
    percent: Annotated[int, Meta(ge=1, le=100)] = 10
    """At most this share of the requests is copied, at the lowest priority."""
    timeout: Duration = "10m"
    """The rollout goes on after this time, warm or not."""


class ShadowStep(Model, frozen=True, kw_only=True):
    """Copy requests to the canary and compare the answers; clients never wait for it."""

    percent: Annotated[int, Meta(ge=1, le=100)] = 10
    """The share of the requests that is copied."""
    duration: Duration | None = None
    """The least time to compare; by default that of `analysis`."""


class AnalyzeStep(Model, frozen=True, kw_only=True):
    """Stay at this weight until the canary is found to be as good as the stable."""

    duration: Duration | None = None
    """The least time to look; by default that of `analysis`."""


class RolloutStep(Model, frozen=True, kw_only=True):
    """Exactly one of these."""

    set_weight: Percent | None = None
    """The canary's share, in percent; more than the step before has."""
    pause: PauseStep | None = None
    warm: WarmStep | None = None
    shadow: ShadowStep | None = None
    analyze: AnalyzeStep | None = None


RATES: Final = (
    "errors", "client_errors", "abandoned", "broken", "empty", "invalid", "refused", "truncated",
)  # fmt: skip
"""Shares of requests that are compared without being asked for."""
QUANTILES: Final = (
    "ttft_p50", "ttft_p95", "itl_p50", "itl_p95", "per_token_p95", "longer", "shorter",
)  # fmt: skip
"""And quantiles of times and lengths."""
PAIRED: Final = ("failed", "ttft", "itl", "differs")
"""Names that comparisons of shadowed requests have, besides those above."""


class PrometheusQuery(Model, frozen=True, kw_only=True):
    """A number that Prometheus knows of both pools."""

    url: Url
    """Of the server, such as "http://prometheus:9090"."""
    query: Annotated[str, Meta(min_length=1, max_length=4096)]
    """PromQL that gives one number. `$namespace`, `$rollout`, `$arm` (stable or canary), and of
    the arm that is asked about `$pool` and `$side` (as the spec names it: the pool or adapter)
    stand for what they say. A `rate` over no more than `every`: what overlaps counts twice."""


class ValueHook(Model, frozen=True, kw_only=True):
    """Numbers that a webhook knows of both sides (POST, JSON)."""

    url: Url
    """It is told which rollout it is, and answers `{"canary": 0.91, "stable": 0.93}`."""
    timeout: Duration = "10s"


class AnalysisMetric(Model, frozen=True, kw_only=True):
    """One thing that is compared: a known one otherwise than by default, or one of your own."""

    name: Annotated[str, Meta(min_length=1, max_length=63, pattern="^[a-z][a-z0-9_-]*$")]
    """A known one (`errors`, `ttft_p95`, …: docs/judge.md), or with a source a new one."""
    role: Literal["Required", "Informative"] | None = None
    """Informative ones are shown, and never fail or delay a rollout: a dry run."""
    margin: Annotated[float, Meta(ge=0, le=10)] | None = None
    """How much worse the canary may be at the end: 0.2 is 20 %, of a rate 20 points more."""
    gross: Annotated[float, Meta(ge=0, le=10)] | None = None
    """The same at every step; 0 doesn't ask before the last. Not of one's own."""
    budget: float | None = None
    """The most that it may be, whatever the stable's. Of rates, and of one's own."""
    worse: Literal["Higher", "Lower"] = "Higher"
    """Of one's own: which way is worse."""
    every: Duration = "1m"
    """Of one's own: how often it is asked for."""
    prometheus: PrometheusQuery | None = None
    webhook: ValueHook | None = None


class Analysis(Model, frozen=True, kw_only=True):
    """What analyses need where the step doesn't say it."""

    duration: Duration = "5m"
    """The least time at each weight. Under a minute it is a demo: the judge then takes each
    second for another draw, which is quick and only true of steady simulators."""
    min_requests: Annotated[int, Meta(ge=1)] = 20
    """The fewest requests that the canary must have answered; with fewer it waits."""
    advance_when: Literal["Shown", "NotWorse"] = "Shown"
    """When a step is over. Shown: once the judge has seen enough to say that the canary is no
    worse than is allowed. NotWorse: when the time and the requests are over and nothing was
    found; for tests, and for traffic that is too thin to show anything."""
    metrics: Annotated[tuple[AnalysisMetric, ...], Meta(max_length=64)] = ()
    """What is compared otherwise than by default, or besides."""


class AdapterFiles(Model, frozen=True, kw_only=True):
    """Lets the rollout load and unload LoRA adapters on the servers."""

    canary_path: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    """Where the servers find the canary's adapter; without it, it must be loaded already."""
    stable_path: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    """Where they find the stable's: needed to undo once it is unloaded."""
    unload: bool = False
    """Whether the stable's adapter leaves the servers once the rollout is complete."""


class Hook(Model, frozen=True, kw_only=True):
    """A webhook that is asked at a gate (POST, JSON); any 2xx answer opens it."""

    gate: Gate
    """BeforeStart, before each increase, before the step to 100 %, or told after the end."""
    url: Url
    timeout: Duration = "10s"
    retries: Annotated[int, Meta(ge=0, le=10)] = 3


class Notice(Model, frozen=True, kw_only=True):
    """A webhook that is told of each change of phase (Slack-compatible JSON)."""

    url: Url
    phases: Annotated[tuple[Phase, ...], Meta(max_length=12, extra={"list_keys": ()})] = ()
    """Only of these; none means all."""


class InferenceRolloutSpec(Model, frozen=True, kw_only=True):
    """What moves and how. `type`, `stable` and `canary` are enough."""

    type: RolloutType = "Node"
    """Node: the same model on other nodes. BaseModel: another base under the same names.
    Adapter: another LoRA adapter under the same name."""
    stable: Side
    """Who serves today: an InferencePool, or for Adapter the adapter's name on the servers."""
    canary: Side
    """Who shall serve: likewise."""
    target: TargetReference | None = None
    """Whose weights move; by default what has both sides, if there is one only."""
    steps: Annotated[tuple[RolloutStep, ...], Meta(max_length=64)] = ()
    """What to do in turn. A `setWeight` that neither `analyze` nor `pause` follows is
    analysed; at the end stands `setWeight: 100`, written or not."""
    preset: Preset | None = None
    """Steps by name, in place of `steps`; `canary` where neither is given."""
    analysis: Analysis = Analysis()
    bake: Duration = "10m"
    """How long the stable stays whole at 100 %, ready to take everything back."""
    drain: Duration = "5m"
    """How long requests of the stable may take to end after the bake."""
    on_failure: Literal["RollBack", "Hold"] = "RollBack"
    """What a failed analysis does: give everything back, or wait as it is for people."""
    max_duration: Duration = "24h"
    """The rollout waits for people when it isn't at 100 % by then; pauses don't count."""
    waivers: Annotated[tuple[Check, ...], Meta(max_length=32, extra={"list_keys": ()})] = ()
    """Preflight checks whose findings don't block."""
    adapters: AdapterFiles = AdapterFiles()
    hooks: Annotated[tuple[Hook, ...], Meta(max_length=16)] = ()
    notify: Annotated[tuple[Notice, ...], Meta(max_length=16)] = ()
    on_completion: Literal["Keep", "ScaleDown"] = "Keep"
    """Whether the stable pool's ModelServers are scaled to 0 once the rollout is complete."""
    paused: bool = False
    """Stand still. Clocks stop; what protects the traffic goes on."""
    promote: Annotated[str, Meta(max_length=256)] | None = None
    """Any new text lets the rollout take its next step; one that starts with `full` skips all
    steps. Preflight and capacity are never skipped."""
    abort: bool = False
    """Give everything back to the stable at once, whatever it can carry."""
    undo: bool = False
    """Give everything back as fast as the stable can carry it, also after completion."""


class RolloutWeights(Model, frozen=True, kw_only=True):
    """The canary's share in percent: wanted, allowed, counted."""

    desired: Percent
    """What the step asks for."""
    effective: Percent
    """What the canary's (on the way back, the stable's) capacity allows: this is set."""
    observed: float | None = None
    """What the data plane did since then; missing until it has been counted."""


class Evidence(Model, frozen=True, kw_only=True):
    """One thing that was compared."""

    metric: str
    outcome: Literal["pass", "fail", "continue", "inconclusive"]
    message: str = ""
    """The comparison in a sentence with numbers."""
    canary: float | None = None
    stable: float | None = None
    requests: int = 0
    """How many requests of the canary it rests on."""
    asked: bool = True
    """Whether the step waits for it."""


class FindingStatus(Model, frozen=True, kw_only=True):
    """What a preflight check found."""

    name: str
    severity: Literal["Block", "Warn", "Info"]
    message: str
    mend: str = ""
    """What to do about it."""
    waived: bool = False


class HistoryEntry(Model, frozen=True, kw_only=True):
    """One change of phase, step or weight."""

    number: int
    """Counts all changes of the rollout; old ones are dropped, numbers stay."""
    time: str
    """RFC 3339, UTC."""
    phase: Phase
    step: int = 0
    weight: int = 0
    """The effective weight, in percent."""
    desired: int = 0
    """The weight that the step asks for, in percent."""
    reason: str = ""
    """Why, in CamelCase."""
    message: str = ""


class MirrorStatus(Model, frozen=True, kw_only=True):
    """What workers copy to the canary now."""

    percent: Percent = 0
    purpose: Literal["Warm", "Shadow"] = "Shadow"


class InferenceRolloutStatus(Model, frozen=True, kw_only=True):
    """Where the rollout is, and why."""

    observed_generation: int = 0
    phase: Phase = "Pending"
    step: str = ""
    """`3/9`: which step of how many."""
    message: str = ""
    """What it does or waits for, in a sentence."""
    weights: RolloutWeights = RolloutWeights(desired=0, effective=0)
    steps: tuple[str, ...] = ()
    """The steps that it runs, presets spelled out."""
    target: str = ""
    """Whose weights move: `HTTPRoute/name/rule`."""
    joined: Annotated[tuple[str, ...], Meta(max_length=2)] = ()
    """Two pools that count as one for objectives and rewrites: what is bound to either holds
    for both. Otherwise requests that move would lose their priority and their aliases."""
    mirror: MirrorStatus = MirrorStatus()
    evidence: tuple[Evidence, ...] = ()
    """Of the last verdict."""
    findings: tuple[FindingStatus, ...] = ()
    """Of the last preflight."""
    history: tuple[HistoryEntry, ...] = ()
    """The last changes, oldest first."""
    conditions: Conditions = ()
    memory: dict[str, Any] = {}
    """What the controller needs to resume. Not for others."""


class InferenceRollout(Resource, frozen=True, kw_only=True):
    """Moves traffic from a stable to a canary, step by step, as long as all is well."""

    spec: InferenceRolloutSpec
    status: InferenceRolloutStatus = InferenceRolloutStatus()
