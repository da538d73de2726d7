"""How a rollout's plan is judged: its spec in the judge's terms."""

import math
from typing import Final

from msgspec import structs

from tidegate.api.rollout import AnalysisMetric
from tidegate.judge.ledger import Claim, claim_of
from tidegate.judge.metrics import BRISK, Change, Settings, adjusted
from tidegate.judge.pairs import SHADOW, Paired
from tidegate.judge.role import Role
from tidegate.rollout.plan import Plan

SHORT_S: Final = 60.0
"""Steps that are shorter are a demo's."""
OWN_MARGIN: Final = 0.2
"""Of metrics of people's own that don't say one."""
_DIFFERS: Final = Paired(name="differs", label="answers that differ, in pairs", margin=0.1)


def settings_of(plan: Plan) -> Settings:
    """Return how a plan's canary is judged; short steps are a demo's."""
    brisk = is_brisk(plan)
    settings = BRISK if brisk else Settings()
    own = [each for each in plan.metrics if each.prometheus or each.webhook]
    changes = {each.name: _change(each) for each in plan.metrics if each not in own}
    # Another base model may well say other things: people look, the rollout goes on.
    differs = _DIFFERS if plan.type == "Node" else structs.replace(_DIFFERS, role="informative")
    shadow = [_loose(each) if brisk else each for each in (*SHADOW, differs)]
    return structs.replace(
        settings,
        metrics=adjusted(settings.metrics, changes),
        paired=(*shadow, *(value_of(each) for each in own)),
        # The reducer keeps `maxDuration`: its clock stands still while the rollout does.
        max_duration_s=math.inf,
    )


def is_brisk(plan: Plan) -> bool:
    """Whether a plan is a demo's."""
    durations = [each.duration_s for each in plan.steps if each.kind in ("Analyze", "Shadow")]
    return min((each for each in durations if each), default=300.0) < SHORT_S


def _loose(paired: Paired) -> Paired:
    """Return what a demo can show with some tens of pairs."""
    if paired.factor != 1:
        return structs.replace(paired, factor=max(paired.factor, 2.0))
    return structs.replace(paired, margin=max(paired.margin, 0.1))


def _change(metric: AnalysisMetric) -> Change:
    return Change(
        margin=metric.margin, gross=metric.gross, budget=metric.budget, role=_role(metric)
    )


def _role(metric: AnalysisMetric) -> Role | None:
    match metric.role:
        case "Required":
            return "required"
        case "Informative":
            return "informative"
        case None:
            return None


def value_of(metric: AnalysisMetric) -> Paired:
    """Return how a metric of people's own is compared."""
    times = 1 + (OWN_MARGIN if metric.margin is None else metric.margin)
    less = metric.worse == "Lower"
    return Paired(
        name=metric.name,
        label=metric.name,
        of="values",
        factor=1 / times if less else times,
        bound=metric.budget,
        less_is_worse=less,
        role=_role(metric) or "required",
    )


def claim_at(plan: Plan, weight: int) -> Claim:
    """Return what must be shown at a weight (percent) of a plan."""
    weights = [each.weight for each in plan.steps if each.kind == "SetWeight"]
    return claim_of(weight, weights) if weight else "watch"
