"""`tidegate demo`: updates of simulated servers under live traffic, shown while they happen.

By itself: three updates (`acts`) are started on a gateway of their own (`gateway`) while load
runs through it (`play`), and drawn (`picture`). By hand: the weights of the node example's route
are moved through the Kubernetes API (`rollout`), each move is timed from patch to effect
(`probe`), and every phase's share is held against its weight (`phases`, `screen`).
"""

from tidegate.cli.demo.command import demo

__all__ = ["demo"]
