"""From a request to a pick: what the picker is asked, and what its refusals mean to a client.

Prompts are hashed only for pools whose scheduler looks at them; for the others a pick costs the
same however long the prompt is. Whom others chose is respected: a subset of the endpoints, or a
list of them, in the headers of GIE's endpoint picker protocol, where they are believed.
"""

from typing import Final, TypeAlias

from msgspec.structs import replace

from tidegate.gateway.request import Incoming
from tidegate.picker.pool import Pool
from tidegate.picker.prompt import prompt_seed, prompt_start
from tidegate.picker.request import Nobody, Pick
from tidegate.picker.request import Request as PickRequest
from tidegate.routing.session import BodyHints
from tidegate.routing.table import Backend

CHOSEN: Final = b"x-gateway-destination-endpoint"
"""Endpoints to try in this order: `host:port`, separated by commas."""
SUBSET: Final = b"x-gateway-destination-endpoint-subset"
"""Endpoints to choose from: `host:port`, separated by commas."""
PREFILLER: Final = b"x-prefiller-host-port"
"""Tells the endpoint that answers who computes the prompt."""
BYTES_PER_TOKEN: Final = 4

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""With lower-case names."""


def ask(
    pool: Pool,
    request: Incoming,
    hints: BodyHints,
    model: str | None,
    session: bytes | None,
    now: float,
) -> PickRequest:
    """Return what the scheduler of `pool` wants to know of a request."""
    asked = PickRequest(now, model, session)
    if not pool.scheduler.reads_prompts or not request.body:
        return asked
    body = request.body
    start = prompt_start(body)
    if pool.blocks is not None:
        asked.chain = pool.blocks.chain(body, prompt_seed(body, model), start)
    asked.prompt = (len(body) - start) // BYTES_PER_TOKEN
    asked.output = hints.max_tokens
    asked.stream = hints.stream
    return asked


def respect(asked: PickRequest, headers: Headers) -> None:
    """Have whom others chose be picked.

    An endpoint picker in front of us names endpoints in the order in which they are to be tried,
    or leaves some to choose from (GIE's endpoint picker protocol, proposal 004).
    """
    asked.order = _addresses(headers, CHOSEN)
    left = _addresses(headers, SUBSET)
    asked.subset = frozenset(left) if left is not None else None


def _addresses(headers: Headers, header: bytes) -> list[str] | None:
    named = [value for name, value in headers if name == header]
    if not named:
        return None
    addresses = b",".join(named).decode("latin-1").split(",")
    return [address.strip() for address in addresses if address.strip()]


def told(request: Incoming, prefill: Pick | None) -> Incoming:
    """Return the request as it tells the endpoint that answers who computes its prompt.

    What a client says of that is dropped: an endpoint would fetch from wherever it names.
    """
    headers = [header for header in request.headers if header[0] != PREFILLER]
    if prefill is not None:
        headers.append((PREFILLER, prefill.endpoint.address.encode("ascii")))
    return replace(request, headers=headers)


def refusal(nobody: Nobody, backend: Backend, model: str | None) -> tuple[int, str, str]:
    """Return status, reason and message for a request that no endpoint may serve."""
    if nobody.reason == "ModelNotFound":
        where = f"{backend.kind} {backend.key}"
        message = f"the model {model!r} does not exist: no endpoint of {where} serves it"
        return 404, nobody.reason, message
    return 503, "NoEndpoints", f"{backend.kind} {backend.key} has no ready endpoint"
