"""Rollouts as values: what happened goes into `step`, what is to be done comes out of `due`.

The state is persisted before anything is done, and what is due is worked out anew from the
state and the world each time. So there is nothing to lose in a crash: the next look finds the
rest.
"""
