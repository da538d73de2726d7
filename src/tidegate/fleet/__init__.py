"""What if: the real scheduler and flow control against a simulated fleet, in virtual time.

A workload (`workload`) is servers, traffic and what goes wrong. A contestant (`contestant`) is a
way to pick: a scheduler by its `EndpointPickerConfig`, or one of the balancers that everybody
has (`balancers`). `run` brings the two together on the simulator's event heap, `outcome` sums
up, `page` shows several contestants side by side. Nothing sleeps, dials or reads a clock: with
the same seed a run is the same run.
"""
