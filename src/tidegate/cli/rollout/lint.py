"""What would keep a rollout from starting, and what its author may not have meant.

Advice comes from the spec alone. Findings are those of preflight, with what can be known from
here: the API's objects, and the model lists of the endpoints that answer. The controller knows
more (capacity, tokenizers, real requests) and checks again before it moves anything.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from tidegate.api.durations import parse_duration
from tidegate.api.gateway import HTTPRoute
from tidegate.api.rollout import FindingStatus, InferenceRolloutSpec
from tidegate.api.tidegate import ModelServer
from tidegate.cli.rollout.client import Client
from tidegate.cli.rollout.endpoints import ask, endpoints_of, holders, pool_names, pools
from tidegate.cli.rollout.progress import total_s
from tidegate.rollout.facts import EndpointFacts, Facts, PoolFacts
from tidegate.rollout.plan import Plan, brief, plan_of
from tidegate.rollout.preflight import preflight
from tidegate.rollout.strategies import adapter, node
from tidegate.rollout.strategies.weights import Found, Problem
from tidegate.scrape.models import parse_models

SHORT_S: Final = 60.0
"""An analysis that is shorter sees little of what real traffic is like."""
LARGE: Final = 50
"""A first share, in percent, that is more than a try."""


def advice(spec: InferenceRolloutSpec) -> Iterator[FindingStatus]:
    """Yield what the author of `spec` may not have meant; nothing of it blocks."""
    plan = plan_of(spec)
    first = next(step.weight for step in plan.steps if step.kind == "SetWeight")
    if first > LARGE and spec.preset != "blueGreen":
        yield _warn("FirstWeight", f"The canary begins with {first} % of the traffic.",
                    "Begin with 5 or 10 %.")  # fmt: skip
    if parse_duration(spec.analysis.duration) < SHORT_S:
        yield _warn("ShortAnalysis", f"Each weight is looked at for {spec.analysis.duration} only.",
                    "Production takes 5m or more.")  # fmt: skip
    if plan.bake_s == 0:
        yield _warn("NoBake", "There is no bake: the stable's traffic can't come back at once.",
                    "Say bake: 10m.")  # fmt: skip
    needed_s = total_s(plan.steps)
    if needed_s > plan.max_duration_s:
        yield _warn("MaxDuration", f"The steps take {brief(needed_s)}, more than maxDuration.",
                    "Raise maxDuration.")  # fmt: skip
    for index, step in enumerate(plan.steps, 1):
        if step.kind == "Pause" and step.duration_s is None:
            yield _info("WaitsForPeople", f"Step {index} waits until somebody promotes.")


def _warn(name: str, message: str, mend: str) -> FindingStatus:
    return FindingStatus(name=name, severity="Warn", message=message, mend=mend)


def _info(name: str, message: str) -> FindingStatus:
    return FindingStatus(name=name, severity="Info", message=message)


async def findings(client: Client, spec: InferenceRolloutSpec) -> Sequence[FindingStatus]:
    """Return what preflight says to what can be known from here."""
    plan = plan_of(spec)
    target = await _target(client, plan)
    if isinstance(target, Problem):
        missing = FindingStatus(name="Target", severity="Block", message=_sentence(target.sentence))
        if plan.type == "Adapter":
            return [missing]
        return [missing, *preflight(await _facts(client, plan, None))]
    found = preflight(await _facts(client, plan, target))
    return [_loaded_by_us(plan, each) for each in found]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _loaded_by_us(plan: Plan, finding: FindingStatus) -> FindingStatus:
    """Return a missing canary adapter as no hindrance where the rollout loads it."""
    ours = finding.name == "AdaptersServed" and f"adapter {plan.canary} is" in finding.message
    if plan.type == "Adapter" and plan.adapters.canary_path and ours:
        message = f"{finding.message} The rollout loads it from {plan.adapters.canary_path}."
        return replace(finding, severity="Info", message=message, mend="")
    return finding


async def _target(client: Client, plan: Plan) -> Found | Problem:
    if plan.type != "Adapter":
        return node.read(plan, client.namespace, await client.list(HTTPRoute))
    return adapter.read(plan, client.namespace, await holders(client))


async def _facts(client: Client, plan: Plan, target: Found | None) -> Facts:
    servers, by_name = await client.list(ModelServer), await pools(client)
    stable, canary = [
        await _pool(name, by_name, servers) for name in await pool_names(client, plan)
    ]
    return Facts(
        plan=plan,
        stable=stable,
        canary=canary,
        stable_weight=target.stable if target is not None else None,
        coarse=target is not None and target.coarse and plan.type != "Adapter",
        first_weight=next(step.weight for step in plan.steps if step.kind == "SetWeight"),
    )


async def _pool(name: str, pools: Mapping[str, Any], servers: Iterable[ModelServer]) -> PoolFacts:
    pool = pools.get(name)
    if pool is None:
        return PoolFacts(name=name, exists=False)
    addresses = [each.address for each, _ in endpoints_of(pool, servers) if each.state == "Ready"]
    endpoints = await asyncio.gather(*(_endpoint(address) for address in addresses))
    return PoolFacts(name=name, accepted=_accepted(pool), endpoints=tuple(endpoints))


def _accepted(pool: Any) -> bool | None:
    """Return whether a Gateway takes the pool; None where none has said anything."""
    said = [
        condition.status
        for parent in getattr(pool.status, "parents", ())
        for condition in parent.conditions
        if condition.type == "Accepted"
    ]
    return "True" in said if said else None


async def _endpoint(address: str) -> EndpointFacts:
    """Return what an endpoint says that it serves; nothing where it can't be reached from here."""
    answer = await ask(address, "/v1/models")
    models = parse_models(answer.body) if answer and answer.status == 200 else None
    if models is None:
        return EndpointFacts(address=address)
    lengths = [one.max_model_len for one in models if one.max_model_len is not None]
    return EndpointFacts(
        address=address,
        models=tuple(one.id for one in models if one.parent is None),
        adapters=frozenset(one.id for one in models if one.parent is not None),
        max_model_len=min(lengths, default=None),
    )
