"""Which arm of a split a session goes to.

Arms own fixed, ordered intervals of their total weight; a session's hash is one point on it.
Raising an arm's weight moves nobody out of it, and between two arms exactly the difference
moves. Weight 0 owns nothing, so it never gets a request, sticky or not.
"""

from hashlib import blake2b

from tidegate.routing.table import Arm, Rule


def point(salt: bytes, session: bytes) -> int:
    """Return the session's place in [0, 2**64) for the split that owns `salt` (≤ 64 bytes)."""
    return int.from_bytes(blake2b(session, key=salt, digest_size=8).digest(), "big")


def choose_arm(rule: Rule, point: int) -> Arm | None:
    """Return the arm whose interval holds `point`, or None when all weights are 0.

    The sum runs in integers: no share is lost to rounding, and the order of the arms alone
    decides who moves when a weight changes.
    """
    ticket = point * rule.total >> 64
    for arm in rule.arms:
        if ticket < arm.weight:
            return arm
        ticket -= arm.weight
    return None
