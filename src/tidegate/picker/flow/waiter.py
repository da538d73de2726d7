"""A request that waits, and how its waiting ends.

Invariant: the outcome is set exactly once, and never changes after that.
"""

from typing import Any, Literal

Outcome = Literal["", "dispatched", "rejected", "evicted", "expired", "withdrawn"]
"""'' while it waits; withdrawn: its client left."""


class Waiter:
    """One request before its dispatch."""

    __slots__ = (
        "arrived_at", "cost", "deadline", "number", "outcome", "owner", "priority", "size", "tenant"
    )  # fmt: skip

    def __init__(
        self,
        *,
        priority: int,
        tenant: bytes,
        cost: float,
        size: int,
        arrived_at: float,
        deadline: float,
        owner: Any = None,
    ) -> None:
        self.priority = priority
        """Higher goes first."""
        self.tenant = tenant
        """Among those of one priority, tenants share fairly."""
        self.cost = max(1.0, cost)
        """What it takes of its tenant's share: tokens of prompt and answer."""
        self.size = size
        """Bytes that it holds."""
        self.arrived_at = arrived_at
        self.deadline = deadline
        """When it has waited too long."""
        self.owner = owner
        """Whatever the caller wants to find here again."""
        self.number = 0
        """In the order of arrival."""
        self.outcome: Outcome = ""
