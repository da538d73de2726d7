"""A rollout explained: in sentences, where it is, why, what comes next, and what to type."""

from collections.abc import Iterator
from typing import Final

from tidegate.api.rollout import InferenceRollout
from tidegate.cli.rollout.progress import ENDS, Progress, progress, state_of
from tidegate.rollout.plan import brief
from tidegate.rollout.state import HoldReason, State


def explain(rollout: InferenceRollout, now: float) -> list[str]:
    """Return paragraphs, each a line."""
    state, seen = state_of(rollout), progress(rollout, now)
    return [
        *_what(rollout),
        *_where(rollout, state, seen),
        *_weights(rollout),
        *_evidence(rollout),
        *_findings(rollout),
        *_next(state, seen),
        *_hints(rollout, state),
    ]


def _what(rollout: InferenceRollout) -> Iterator[str]:
    spec, target = rollout.spec, rollout.status.target
    moved = f"the weights of {target}" if target else "weights (which ones isn't known yet)"
    kinds = {
        "Node": "from one pool to another that serves the same model",
        "BaseModel": "from one base model's pool to another's",
        "Adapter": "from one LoRA adapter to another",
    }
    yield (
        f"{rollout.metadata.name} moves {moved} from {spec.stable} to {spec.canary}:"
        f" type {spec.type}, {kinds[spec.type]}."
    )


def _where(rollout: InferenceRollout, state: State, seen: Progress) -> Iterator[str]:
    status = rollout.status
    if not status.history and state.run == 0:
        yield (
            "No controller has looked at it yet. If that doesn't change in a few seconds: is"
            " `tidegate up` running?"
        )
        return
    since = f" since {brief(round(seen.since_s))}" if seen.since_s and seen.since_s >= 1 else ""
    step = f", step {status.step}" if status.step and seen.phase not in ENDS else ""
    stage = f" (in {seen.stage})" if seen.phase != seen.stage else ""
    yield f"It is {seen.phase}{stage}{since}{step}: {status.message}."
    if rollout.metadata.generation > status.observed_generation:
        yield "The controller hasn't seen the last change of the spec yet."


def _weights(rollout: InferenceRollout) -> Iterator[str]:
    weights = rollout.status.weights
    if not rollout.status.target:
        return
    words = f"The canary is to have {weights.desired} %, and {weights.effective} % are set"
    if weights.observed is not None:
        words += f"; the gateway counted {weights.observed:g} %"
    yield f"{words}."
    if weights.effective < weights.desired:
        yield "Less is set than the step asks for because of capacity: it grows as that does."


_WORDS: Final = {
    "fail": "Worse",
    "continue": "Not shown yet",
    "inconclusive": "Can't be told",
    "pass": "Good",
}


def _evidence(rollout: InferenceRollout) -> Iterator[str]:
    """Yield what the judge has found: what the step waits for first, what it doesn't last."""
    order = list(_WORDS)
    found = sorted(rollout.status.evidence, key=lambda one: order.index(one.outcome))
    for each in found:
        if each.asked or each.outcome == "fail":
            yield f"{_WORDS[each.outcome]}: {each.message or each.metric}."
    for each in found:
        if not each.asked and each.outcome != "fail" and each.canary is not None:
            yield f"For information: {each.message or each.metric}."


def _findings(rollout: InferenceRollout) -> Iterator[str]:
    for each in rollout.status.findings:
        waived = " It is waived in the spec." if each.waived else ""
        yield f"Preflight, {each.name}: {each.message} {each.mend}".rstrip() + waived


def _next(state: State, seen: Progress) -> Iterator[str]:
    coming = [line.text for line in (*seen.steps, *seen.after) if line.mark == "next"]
    if seen.phase in ENDS or seen.stage in ("RollingBack", "Aborting"):
        return
    if coming:
        yield f"Next: {', '.join(coming[:3])}{', …' if len(coming) > 3 else ''}."
    if seen.left_s is not None and state.run:
        waits = ", and a step waits for people" if seen.waits else ""
        yield f"It takes about {brief(round(seen.left_s))} more if all goes well{waits}."


_HOLDS: Final[dict[HoldReason, str]] = {
    "Paused": "`tidegate rollout resume {0}` lets it go on",
    "PauseStep": "`tidegate rollout promote {0}` lets it go on",
    "Inconclusive": "`tidegate rollout promote {0}` goes on,"
    " `tidegate rollout abort {0}` goes back",
    "Failed": "`tidegate rollout abort {0}` goes back, `tidegate rollout promote {0}` goes on"
    " in spite of it",
    "MaxDuration": "`tidegate rollout promote {0}` gives it as much time again,"
    " `tidegate rollout abort {0}` goes back",
    "WeightsNotHonoured": "see what else routes this traffic; `tidegate rollout promote {0}`"
    " counts anew",
    "ForeignEdit": "`tidegate rollout promote {0}` sets the weights again,"
    " `tidegate rollout abort {0}` gives everything back",
    "GateClosed": "the webhook said no; `tidegate rollout promote {0}` goes on without it",
    "PreflightFailed": "mend what was found, or waive it by name in spec.waivers",
    "StableDeleting": "`tidegate rollout abort {0}` goes back,"
    " `tidegate rollout promote {0}` goes on without the stable",
    "StableReduced": "bring the stable's endpoints back, or `tidegate rollout promote {0}`",
    "TargetUnusable": "restore the route, or `tidegate rollout abort {0}`",
}


def _hints(rollout: InferenceRollout, state: State) -> Iterator[str]:
    name = rollout.metadata.name
    phase = rollout.status.phase
    if phase == "Completed":
        yield f"To go back all the same: `tidegate rollout undo {name}`."
    elif phase in ENDS:
        yield f"To try again once it is mended: `tidegate rollout start {name} --again …`."
    elif state.held:
        for hold in state.holds:
            yield f"What you can do: {_HOLDS[hold.reason].format(name)}."
    elif any(each.severity == "Block" and not each.waived for each in rollout.status.findings):
        yield f"What you can do: {_HOLDS['PreflightFailed']}."
    elif phase not in ("RollingBack", "Aborting"):
        yield f"To stop it: `tidegate rollout pause {name}`, or `abort` to give everything back."
