"""What an InferenceRollout must fulfil beyond its shape.

As in `rules`: each function takes one model's value and yields what is wrong, with paths
relative to it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from tidegate.api.errors import Described, FieldError
from tidegate.api.meta import Model
from tidegate.api.rollout import (
    PAIRED,
    QUANTILES,
    RATES,
    AnalysisMetric,
    InferenceRolloutSpec,
    RolloutStep,
)
from tidegate.api.structure import Rule

Errors = Iterator[FieldError]

_KINDS: Final = ("setWeight", "pause", "warm", "shadow", "analyze")


def check_step(step: RolloutStep) -> Errors:
    """One thing at a time."""
    values = (step.set_weight, step.pause, step.warm, step.shadow, step.analyze)
    given = [name for name, value in zip(_KINDS, values, strict=True) if value is not None]
    if len(given) != 1:
        found = Described(" and ".join(given)) if given else None
        yield FieldError("", found, "exactly one of setWeight, pause, warm, shadow and analyze")


def check_metric(metric: AnalysisMetric) -> Errors:
    """A known metric, or one with a source."""
    known = (*RATES, *QUANTILES)
    sources = [source for source in (metric.prometheus, metric.webhook) if source is not None]
    if len(sources) > 1:
        yield FieldError(".webhook", Described("both"), "either prometheus or webhook")
    if sources:
        if metric.name in (*known, *PAIRED):
            yield FieldError(".name", metric.name, "another name than the known metrics have")
        if metric.gross is not None:
            words = "none, as it isn't counted by the gateway"
            yield FieldError(".gross", metric.gross, words, "FieldValueForbidden")
    elif metric.name not in known:
        words = f"a source (prometheus or webhook), or one of {', '.join(known)}"
        yield FieldError(".name", metric.name, words)
    elif metric.budget is not None and metric.name in QUANTILES:
        words = "none: only rates have budgets"
        yield FieldError(".budget", metric.budget, words, "FieldValueForbidden")


def check_rollout(spec: InferenceRolloutSpec) -> Errors:
    """Two sides, one way, and a target that fits the type."""
    if spec.stable == spec.canary:
        yield FieldError(".canary", spec.canary, "another name than stable has")
    if spec.preset is not None and spec.steps:
        words = "none, as there are steps (a preset stands in their place)"
        yield FieldError(".preset", spec.preset, words, "FieldValueForbidden")
    yield from _ascending(spec)
    yield from _target(spec)
    yield from _adapter_only(spec)
    yield from _once(spec)


def _once(spec: InferenceRolloutSpec) -> Errors:
    """Yield metrics that are named twice."""
    names = [metric.name for metric in spec.analysis.metrics]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield FieldError(f".analysis.metrics[{index}].name", name, "each metric once")


def _ascending(spec: InferenceRolloutSpec) -> Errors:
    """Yield weights that don't rise: on the way forward nobody is sent back."""
    before = 0
    for index, step in enumerate(spec.steps):
        if step.set_weight is None:
            continue
        if step.set_weight <= before:
            words = f"a weight above {before}" if before < 100 else "no weight after 100"
            yield FieldError(f".steps[{index}].setWeight", step.set_weight, words)
        before = max(before, step.set_weight)


def _target(spec: InferenceRolloutSpec) -> Errors:
    if spec.target is None or spec.target.kind is None:
        return
    kind = spec.target.kind
    if spec.type == "Adapter" and kind == "HTTPRoute":
        words = "InferenceModelRewrite or InferenceModel, as type is Adapter"
        yield FieldError(".target.kind", kind, words)
    if spec.type != "Adapter" and kind != "HTTPRoute":
        yield FieldError(".target.kind", kind, f"HTTPRoute, as type is {spec.type}")
    if kind == "InferenceModel" and spec.target.rule is not None:
        words = "none: an InferenceModel has no rules"
        yield FieldError(".target.rule", spec.target.rule, words, "FieldValueForbidden")


def _adapter_only(spec: InferenceRolloutSpec) -> Errors:
    files = spec.adapters
    if spec.type != "Adapter":
        for name, value in (("canaryPath", files.canary_path), ("stablePath", files.stable_path)):
            if value is not None:
                words = f"none, as type is {spec.type} (only Adapter loads adapters)"
                yield FieldError(f".adapters.{name}", value, words, "FieldValueForbidden")
        if files.unload:
            words = f"false, as type is {spec.type} (only Adapter unloads adapters)"
            yield FieldError(".adapters.unload", True, words, "FieldValueForbidden")
    elif spec.on_completion == "ScaleDown":
        words = "Keep, as type is Adapter (both adapters are on the same servers)"
        yield FieldError(".onCompletion", spec.on_completion, words, "FieldValueForbidden")


ROLLOUT_RULES: Final[Mapping[type[Model], Rule]] = {
    AnalysisMetric: check_metric,
    RolloutStep: check_step,
    InferenceRolloutSpec: check_rollout,
}
"""The rule of each model of a rollout that has one."""
