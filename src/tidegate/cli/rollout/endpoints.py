"""The endpoints of a rollout's two sides, and how busy each is, as they say it themselves.

An endpoint that can't be reached from here is shown without its load: that says nothing about
whether the gateway reaches it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tidegate.api.errors import UnavailableError
from tidegate.api.inference import (
    InferenceModel,
    InferenceModelRewrite,
    InferencePool,
    LegacyInferenceModelRewrite,
    LegacyInferencePool,
)
from tidegate.api.tidegate import EndpointStatus, ModelServer
from tidegate.cli.rollout.client import Client
from tidegate.rollout.plan import Plan
from tidegate.rollout.strategies import adapter
from tidegate.rollout.strategies.weights import Problem
from tidegate.scrape.engines import engine_named, read_sample
from tidegate.scrape.http import Answer
from tidegate.scrape.http import Client as Connection

ASK_S: Final = 2.0
"""How long an endpoint may take to answer."""


@dataclass(frozen=True, slots=True)
class Busy:
    """One endpoint and its load."""

    pool: str
    address: str
    state: str
    running: int | None = None
    """Requests; None where it can't be asked from here."""
    waiting: int = 0
    kv_usage: float = 0.0


async def holders(client: Client) -> list[adapter.Holder]:
    """Return what may have an Adapter rollout's weights."""
    kinds = (InferenceModelRewrite, LegacyInferenceModelRewrite, InferenceModel)
    return [each for kind in kinds for each in await client.list(kind)]


async def pool_names(client: Client, plan: Plan) -> tuple[str, str]:
    """Return the pools of both sides: of an Adapter, one that both are on ('' if unknown)."""
    if plan.type != "Adapter":
        return plan.stable, plan.canary
    place = adapter.find(plan, client.namespace, await holders(client))
    name = "" if isinstance(place, Problem) else place.holder.spec.pool_ref.name
    return name, name


async def pools(client: Client) -> dict[str, Any]:
    """Return the pools by name; those of the new group win."""
    found = [*await client.list(LegacyInferencePool), *await client.list(InferencePool)]
    return {pool.metadata.name: pool for pool in found}


def endpoints_of(pool: Any, servers: Iterable[ModelServer]) -> list[tuple[EndpointStatus, str]]:
    """Return the endpoints that a pool selects, each with the engine that it runs."""
    selector = pool.spec.selector
    labels: Mapping[str, str] = selector if isinstance(selector, dict) else selector.match_labels
    return [
        (each, server.spec.engine)
        for server in servers
        if labels.items() <= server.metadata.labels.items()
        for each in server.status.endpoints
    ]


async def look(client: Client, plan: Plan) -> tuple[Busy, ...]:
    """Return the endpoints of both sides, each with what it says of its load."""
    known, servers = await pools(client), await client.list(ModelServer)
    names = dict.fromkeys(name for name in await pool_names(client, plan) if name in known)
    asked = [
        _busy(name, each, engine)
        for name in names
        for each, engine in endpoints_of(known[name], servers)
    ]
    return tuple(await asyncio.gather(*asked))


async def _busy(pool: str, endpoint: EndpointStatus, engine_name: str) -> Busy:
    engine = engine_named(engine_name)
    answer = await ask(endpoint.address, engine.path) if endpoint.state == "Ready" else None
    sample = read_sample(answer.body, engine) if answer and answer.status == 200 else None
    if sample is None:
        return Busy(pool, endpoint.address, endpoint.state)
    return Busy(
        pool, endpoint.address, endpoint.state, sample.running, sample.waiting, sample.kv_usage
    )


async def ask(address: str, path: str) -> Answer | None:
    """Return the answer to a GET; None where the endpoint can't be reached from here."""
    connection = Connection(address)
    try:
        with suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(ASK_S):
                return await connection.get(path)
    finally:
        connection.close()
    return None
