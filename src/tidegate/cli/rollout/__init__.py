"""`tidegate rollout`: start, watch, steer and explain rollouts.

A client like kubectl: what people want becomes fields of the spec, what they see is the
status. Nothing here decides anything, and the status is never written.
"""

from tidegate.cli.rollout.commands import rollout

__all__ = ["rollout"]
