"""May the canary have a first request? Each check gives a sentence and how to mend it.

What blocks keeps the weight at 0. A finding can be waived by its check's name, except where
there is nothing that could be moved.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from msgspec.structs import replace

from tidegate.api.rollout import FindingStatus
from tidegate.rollout.facts import AdapterFacts, EndpointFacts, Facts, PoolFacts
from tidegate.rollout.plan import Plan

Severity = Literal["Block", "Warn", "Info"]
Findings = Iterator[FindingStatus]

_HUB_CACHE: Final = re.compile(r"/models--[^/]+?--([^/]+)/snapshots/")
"""Where huggingface_hub keeps a model."""
NEVER_WAIVED: Final = frozenset(("StablePool", "CanaryPool", "StableServes"))


def preflight(facts: Facts) -> tuple[FindingStatus, ...]:
    """Return all that is to be said before the canary gets its first request.

    None of severity Block that isn't waived: it may start.
    """
    checks = _ADAPTER if facts.plan.type == "Adapter" else _POOLS
    found = [finding for check in checks for finding in check(facts)]
    return tuple(_waived(facts.plan, each) for each in found)


def _waived(plan: Plan, finding: FindingStatus) -> FindingStatus:
    waived = finding.severity == "Block" and finding.name in plan.waivers
    return replace(finding, waived=waived and finding.name not in NEVER_WAIVED)


def _finding(name: str, severity: Severity, message: str, mend: str = "") -> FindingStatus:
    return FindingStatus(name=name, severity=severity, message=message, mend=mend)


def _exist(facts: Facts) -> Findings:
    for name, pool in (("StablePool", facts.stable), ("CanaryPool", facts.canary)):
        if not pool.exists:
            message = f"There is no InferencePool {pool.name}."
            yield _finding(name, "Block", message, "Create it, or name another one.")


def _serves(facts: Facts) -> Findings:
    if facts.stable_weight == 0:
        message = (
            f"The stable {facts.plan.stable} has weight 0: it serves nothing that could be moved."
        )
        yield _finding("StableServes", "Block", message, "Are stable and canary mixed up?")


def _accepted(facts: Facts) -> Findings:
    for pool in (facts.stable, facts.canary):
        if pool.exists and pool.accepted is False:
            message = f"The InferencePool {pool.name} is not accepted by its Gateway."
            mend = f"See `kubectl describe inferencepool {pool.name}`."
            yield _finding("PoolAccepted", "Block", message, mend)


def _ready(facts: Facts) -> Findings:
    pool = facts.canary
    if pool.exists and not pool.endpoints:
        message = f"No endpoint of {pool.name} is ready."
        yield _finding("ReadyEndpoints", "Block", message, "Wait for them, or look at their logs.")
    for each in pool.endpoints:
        if each.problem:
            message = f"The endpoint {each.address} of {pool.name} can't be asked: {each.problem}."
            yield _finding("ReadyEndpoints", "Block", message, "Mend it or take it out.")


def _models(facts: Facts) -> Findings:
    """Yield names that the stable serves and an endpoint of the canary doesn't.

    Another base model has another name of its own: only names that clients ask for, and
    aliases, must be on both sides.
    """
    needed = _served(facts.stable)
    own = {each.models[0] for each in facts.stable.endpoints if each.models}
    asked = facts.traffic.models
    for name, where in _lacking(needed, facts.canary, lambda each: each.models):
        optional = facts.plan.type == "BaseModel" and name not in (asked or frozenset())
        optional = optional and (asked is not None or name in own)
        if optional and name in own:
            message = f"The model {name} stays with {facts.stable.name}; nobody asks for it."
            yield _finding("ModelsServed", "Info", message)
            continue
        message = f"The model {name} is served by {facts.stable.name}, but not by {where}."
        mend = f"Serve it there too, say as an alias (vLLM: --served-model-name … {name})."
        yield _finding("ModelsServed", "Warn" if optional else "Block", message, mend)


def _served(pool: PoolFacts) -> list[str]:
    return _distinct(name for each in pool.endpoints for name in each.models or ())


def _adapters(facts: Facts) -> Findings:
    needed = _distinct(name for each in facts.stable.endpoints for name in sorted(each.adapters))
    for name, where in _lacking(needed, facts.canary, lambda each: each.adapters):
        message = f"The adapter {name} is served by {facts.stable.name}, but not by {where}."
        yield _finding("AdaptersServed", "Block", message, "Load it there before the rollout.")


def _lacking(
    names: Iterable[str],
    pool: PoolFacts,
    served: Callable[[EndpointFacts], Iterable[str] | None],
) -> Iterator[tuple[str, str]]:
    """Yield each name with the endpoints of `pool` that don't serve it, in words."""
    known = [(each, set(names_)) for each in pool.endpoints if (names_ := served(each)) is not None]
    for name in names:
        lacking = [each.address for each, there in known if name not in there]
        if lacking and len(lacking) == len(pool.endpoints):
            yield name, f"any endpoint of {pool.name}"
        elif lacking:
            yield name, f"{', '.join(lacking)} of {pool.name}"


def _lengths(facts: Facts) -> Findings:
    old, new = _shortest(facts.stable), _shortest(facts.canary)
    if new is None:
        return
    longest, pool = facts.traffic.longest, facts.canary.name
    if longest is not None and longest > new:
        message = f"Requests needed up to {longest} tokens, {pool} takes {new}."
        mend = "Raise its limit (vLLM: --max-model-len)."
        yield _finding("ContextLength", "Block", message, mend)
    elif old is not None and new < old:
        message = f"{pool} takes {new} tokens, {facts.stable.name} takes {old}."
        severity: Severity = "Block" if longest is None else "Warn"
        mend = "Raise its limit (vLLM: --max-model-len) if you have requests that long."
        yield _finding("ContextLength", severity, message, mend)


def _shortest(pool: PoolFacts) -> int | None:
    lengths = [each.max_model_len for each in pool.endpoints if each.max_model_len is not None]
    return min(lengths, default=None)


def _contract(facts: Facts) -> Findings:
    """Yield differences of tokenizer and chat template: expected of another base, not of nodes."""
    severity: Severity = "Warn" if facts.plan.type == "BaseModel" else "Block"
    for name, what, old, new in (
        ("Tokenizer", "tokenizes", *_hashes(facts, lambda each: each.tokenizer)),
        ("ChatTemplate", "renders chats", *_hashes(facts, lambda each: each.chat_template)),
    ):
        if old and new and old != new:
            message = f"{facts.canary.name} {what} otherwise than {facts.stable.name}."
            mend = "Serve the same revision of the model, or make it a rollout of type BaseModel."
            yield _finding(name, severity, message, "" if severity == "Warn" else mend)


def _hashes(facts: Facts, of: Callable[[EndpointFacts], str | None]) -> tuple[set[str], set[str]]:
    """Return the known hashes of the stable's endpoints and of the canary's."""
    old = {value for each in facts.stable.endpoints if (value := of(each)) is not None}
    new = {value for each in facts.canary.endpoints if (value := of(each)) is not None}
    return old, new


def _features(facts: Facts) -> Findings:
    probed = _distinct(name for each in facts.stable.endpoints for name in sorted(each.features))
    for name in probed:
        if not all(each.features.get(name, True) for each in facts.stable.endpoints):
            continue
        bad = [e.address for e in facts.canary.endpoints if e.features.get(name) is False]
        if bad:
            used = name in facts.traffic.features
            message = f"The feature {name} works at {facts.stable.name}, not at {', '.join(bad)}."
            mend = "Requests use it: switch it on there." if used else ""
            yield _finding("Features", "Block" if used else "Warn", message, mend)


def _capacity(facts: Facts) -> Findings:
    if facts.cap is None or facts.cap >= 100:
        return
    why = f" ({facts.cap_message})" if facts.cap_message else ""
    message = f"{facts.canary.name} can carry {facts.cap} % of today's traffic{why}."
    starts = facts.cap >= facts.first_weight and facts.cap > 0
    mend = "The rollout stops there until it has more." if starts else "Add endpoints to it."
    yield _finding("Capacity", "Warn" if starts else "Block", message, mend)


def _resolution(facts: Facts) -> Findings:
    if facts.coarse:
        message = "The rule has other backends too, and its weights can't say single percents."
        mend = "Multiply all weights of the rule by 100."
        yield _finding("WeightResolution", "Block", message, mend)


def _adapter_ready(facts: Facts) -> Findings:
    for name, where in _lacking(
        (facts.plan.stable, facts.plan.canary), facts.canary, lambda each: each.adapters
    ):
        yield _finding("AdaptersServed", "Block", *_unloaded(facts.plan, name, where))


def _unloaded(plan: Plan, name: str, where: str) -> tuple[str, str]:
    """Return what is to be said of an adapter that isn't there: the message, and the mend."""
    message, path = f"The adapter {name} is not loaded on {where}.", plan.adapters.canary_path
    if name != plan.canary:
        return message, "Load it there: it is to serve what the canary doesn't."
    if path is not None:
        return message, f"It is being loaded from {path}."
    mend = "Load it, or say in spec.adapters.canaryPath where it is, and it is loaded for you."
    return message, mend


def _adapter_config(facts: Facts) -> Findings:
    config = facts.adapter
    if config is None:
        return
    yield from _adapter_base(facts, config)
    ranks = [each.max_lora_rank for each in facts.canary.endpoints]
    most = min((rank for rank in ranks if rank is not None), default=None)
    if config.rank is not None and most is not None and config.rank > most:
        message = (
            f"The adapter {facts.plan.canary} has rank {config.rank}, the servers take {most}."
        )
        yield _finding("AdapterRank", "Block", message, "Raise it (vLLM: --max-lora-rank).")
    odd = sorted(config.modules_to_save)
    if facts.supported_modules is not None:
        odd += sorted(config.target_modules - facts.supported_modules)
    if odd:
        message = f"The servers can't adapt these modules of {facts.plan.canary}: {', '.join(odd)}."
        yield _finding("AdapterModules", "Block", message, "Train it without them.")


def _adapter_base(facts: Facts, config: AdapterFacts) -> Findings:
    base = config.base_model
    if base is None or not facts.base_models:
        return
    if _short(base) not in {_short(name) for name in facts.base_models}:
        served = ", ".join(sorted(facts.base_models))
        message = f"The adapter {facts.plan.canary} is made for {base}, the servers run {served}."
        # A folder may have any name: then nobody knows.
        unsure = any(_is_path(name) for name in (base, *facts.base_models))
        severity: Severity = "Warn" if unsure else "Block"
        yield _finding("AdapterBase", severity, message, "Use one made for that base model.")


def _short(model: str) -> str:
    """Return what a model is called by its hub, its mirrors, and folders that it was copied to."""
    cached = _HUB_CACHE.search(model)
    return (cached[1] if cached else model.rstrip("/").rpartition("/")[2]).lower()


def _is_path(model: str) -> bool:
    return model.startswith(("/", ".", "~"))


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


Run = Callable[[Facts], Findings]

_POOLS: Final[tuple[Run, ...]] = (
    _exist,
    _serves,
    _accepted,
    _ready,
    _models,
    _adapters,
    _lengths,
    _contract,
    _features,
    _capacity,
    _resolution,
)
_ADAPTER: Final[tuple[Run, ...]] = (
    _exist,
    _serves,
    _accepted,
    _ready,
    _adapter_config,
    _adapter_ready,
    _resolution,
)
