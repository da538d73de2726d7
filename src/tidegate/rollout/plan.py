"""What a rollout will do: its spec with presets spelled out and durations in seconds.

A plan is kept with the state, so a rollout that is under way never depends on a spec that
changed meanwhile: the change arrives as an event.
"""

import math
from typing import Final, Literal

from tidegate.api.durations import parse_duration
from tidegate.api.meta import Model
from tidegate.api.rollout import (
    AdapterFiles,
    AnalysisMetric,
    Check,
    Gate,
    InferenceRolloutSpec,
    Preset,
    RolloutStep,
    RolloutType,
    TargetReference,
)

StepKind = Literal["SetWeight", "Pause", "Warm", "Shadow", "Analyze"]


class PlanStep(Model, frozen=True, kw_only=True):
    """One step. A field that doesn't concern its `kind` is at its default."""

    kind: StepKind
    weight: int = 0
    """Of SetWeight: the canary's share in percent."""
    duration_s: float | None = None
    """The least time, or of Warm the most; None is until somebody promotes."""
    percent: int = 0
    """Of Warm and Shadow: the share of the requests that is copied."""
    hit_rate: float = 0.0
    """Of Warm: the fraction of the stable's hit rate that is warm enough."""

    def __str__(self) -> str:
        match self.kind:
            case "SetWeight":
                return f"setWeight {self.weight}"
            case "Pause" if self.duration_s is None:
                return "pause until promoted"
            case "Warm" | "Shadow":
                return f"{self.kind.lower()} {self.percent} %"
            case _:
                return f"{self.kind.lower()} {brief(self.duration_s or 0)}"


class Plan(Model, frozen=True, kw_only=True):
    """What moves, how, and what bounds it."""

    type: RolloutType = "Node"
    stable: str = ""
    canary: str = ""
    target: TargetReference | None = None
    steps: tuple[PlanStep, ...] = ()
    """The last is SetWeight 100, or follows it."""
    min_requests: int = 20
    advance_when: Literal["Shown", "NotWorse"] = "Shown"
    metrics: tuple[AnalysisMetric, ...] = ()
    by_traffic: bool = False
    """The steps are a preset's: weights that the traffic is too thin for are left out."""
    bake_s: float = 600.0
    drain_s: float = 300.0
    max_duration_s: float = 86400.0
    on_failure: Literal["RollBack", "Hold"] = "RollBack"
    waivers: tuple[Check, ...] = ()
    adapters: AdapterFiles = AdapterFiles()
    gates: tuple[Gate, ...] = ()
    """Those at which somebody must be asked."""
    scale_down: bool = False

    @property
    def sides(self) -> tuple[object, ...]:
        """What moves; another value is another rollout."""
        return (self.type, self.target, self.stable, self.canary)


def plan_of(spec: InferenceRolloutSpec) -> Plan:
    """Return what `spec` (admitted: of right shape and meaning) asks for."""
    return Plan(
        type=spec.type,
        stable=spec.stable,
        canary=spec.canary,
        target=spec.target,
        steps=_complete(_steps(spec), parse_duration(spec.analysis.duration)),
        min_requests=spec.analysis.min_requests,
        advance_when=spec.analysis.advance_when,
        metrics=spec.analysis.metrics,
        by_traffic=not spec.steps,
        bake_s=parse_duration(spec.bake),
        drain_s=parse_duration(spec.drain),
        max_duration_s=parse_duration(spec.max_duration),
        on_failure=spec.on_failure,
        waivers=spec.waivers,
        adapters=spec.adapters,
        gates=tuple(dict.fromkeys(hook.gate for hook in spec.hooks if hook.gate != "After")),
        scale_down=spec.on_completion == "ScaleDown",
    )


_WARM: Final = PlanStep(kind="Warm", duration_s=600.0, percent=10, hit_rate=0.8)
_CANARY: Final = (5, 10, 25, 50, 100)
_LINEAR: Final = tuple(range(10, 101, 10))


def preset_steps(preset: Preset, analysis_s: float) -> tuple[PlanStep, ...]:
    """Return the steps that `preset` stands for; analyses come with `_complete`."""
    shadow = PlanStep(kind="Shadow", duration_s=analysis_s, percent=10)
    match preset:
        case "canary":
            return (_WARM, *_weights(_CANARY))
        case "linear":
            return (_WARM, *_weights(_LINEAR))
        case "blueGreen":
            return (_WARM, *_weights((100,)))
        case "shadowThenCanary":
            return (_WARM, shadow, *_weights(_CANARY))


def _weights(weights: tuple[int, ...]) -> tuple[PlanStep, ...]:
    return tuple(PlanStep(kind="SetWeight", weight=weight) for weight in weights)


def _steps(spec: InferenceRolloutSpec) -> tuple[PlanStep, ...]:
    analysis_s = parse_duration(spec.analysis.duration)
    if spec.steps:
        return tuple(_step(step, analysis_s) for step in spec.steps)
    return preset_steps(spec.preset or "canary", analysis_s)


def _step(step: RolloutStep, analysis_s: float) -> PlanStep:
    if step.set_weight is not None:
        return PlanStep(kind="SetWeight", weight=step.set_weight)
    if step.pause is not None:
        return PlanStep(kind="Pause", duration_s=_seconds(step.pause.duration, None))
    if step.warm is not None:
        return PlanStep(
            kind="Warm",
            duration_s=parse_duration(step.warm.timeout),
            percent=step.warm.percent,
            hit_rate=step.warm.hit_rate,
        )
    if step.shadow is not None:
        duration_s = _seconds(step.shadow.duration, analysis_s)
        return PlanStep(kind="Shadow", duration_s=duration_s, percent=step.shadow.percent)
    own = step.analyze.duration if step.analyze is not None else None
    return PlanStep(kind="Analyze", duration_s=_seconds(own, analysis_s))


def _seconds(duration: str | None, otherwise: float | None) -> float | None:
    return otherwise if duration is None else parse_duration(duration)


def _complete(steps: tuple[PlanStep, ...], analysis_s: float) -> tuple[PlanStep, ...]:
    """Return `steps` up to 100 %, each weight followed by something that looks at it."""
    if not any(step.weight == 100 for step in steps):
        steps = (*steps, *_weights((100,)))
    looked_at: list[PlanStep] = []
    for index, step in enumerate(steps):
        looked_at.append(step)
        follower = steps[index + 1].kind if index + 1 < len(steps) else None
        if step.kind == "SetWeight" and follower not in ("Analyze", "Pause"):
            looked_at.append(PlanStep(kind="Analyze", duration_s=analysis_s))
    return tuple(looked_at)


def position(steps: tuple[PlanStep, ...], weight: int) -> int:
    """Return where to go on with `steps` at a canary's share of `weight` percent.

    It is the last step that sets no more than that, so a changed plan never sends more
    traffic than the old one did before it has looked again.
    """
    at = 0
    for index, step in enumerate(steps):
        if step.kind == "SetWeight" and 0 < step.weight <= weight:
            at = index
    return at


FEWEST_A_MINUTE: Final = 6.0
"""Requests of the canary that a preset's weight must bring. A coarse comparison takes about
sixty (docs/judge.md): with fewer it would take over ten minutes to show next to nothing."""
HIGHEST_FLOOR: Final = 25


def floor_of(rate: float) -> int:
    """Return the least weight in percent worth beginning with at `rate` requests a second."""
    if rate <= 0:
        return HIGHEST_FLOOR
    return min(HIGHEST_FLOOR, math.ceil(100 * FEWEST_A_MINUTE / (60 * rate)))


def brief(seconds: float) -> str:
    """Return a time as people say it: `90 s`, `5 min`, `2 h`."""
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
