"""Copies of a request that was just sent: for mirrors, and for a rollout's canary."""

import msgspec

from tidegate.gateway import shadow
from tidegate.gateway.checks import asked_of
from tidegate.gateway.mirror import mirror
from tidegate.gateway.payload import request_payload
from tidegate.gateway.plane import Live, Plane
from tidegate.gateway.request import Incoming
from tidegate.gateway.shadow import Twin
from tidegate.judge.record import Record
from tidegate.routing.table import Arm, Mirror, Rule


class Sent(msgspec.Struct, frozen=True):
    """What was sent, and what led to it."""

    request: Incoming
    payload: bytes
    rule: Rule
    arm: Arm
    prefix: str
    session: bytes | None
    draw: int
    """Its place in the split."""
    record: Record


def copy(plane: Plane, live: Live, sent: Sent) -> Twin | None:
    """Send the copies that the rule and the arm want; return the one to compare, if any."""
    found = None
    for each in (*sent.rule.filters.mirrors, *sent.arm.filters.mirrors):
        if not each.purpose:
            mirror(plane, live, each, sent.payload, sent.request.method == "HEAD")
        elif shadow.wants(plane, live, each, sent.draw, sent.request):
            found = _to_canary(plane, live, each, sent) or found
    return found


def _to_canary(plane: Plane, live: Live, to: Mirror, sent: Sent) -> Twin | None:
    """Send a copy to a rollout's canary: a short one to warm it, or one to compare."""
    payload, comparing = sent.payload, to.purpose == "Shadow"
    if not comparing:
        short = shadow.shortened(sent.request)
        payload = request_payload(short, plane, sent.rule, sent.arm, sent.prefix)
    same = comparing and shadow.repeatable(sent.request.body)
    asked = asked_of(sent.request.body) if comparing else None
    twin = Twin(plane, sent.record, asked, same=same)
    sending = twin.send(live, to, payload, sent.session)
    return twin if sending and comparing else None
