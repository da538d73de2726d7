"""`tidegate demo`: a rollout by hand, on simulated servers, measured while it happens.

A gateway of its own is started (`gateway`), live load runs through it, the weights of the
example's route are moved through the Kubernetes API (`rollout`), each move is timed from
patch to effect (`probe`), and every phase's share is held against its weight (`phases`).
"""

from tidegate.cli.demo.command import demo

__all__ = ["demo"]
