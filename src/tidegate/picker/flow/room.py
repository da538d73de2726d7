"""How full a pool's endpoints are, as far as anybody can know.

An endpoint's usage is the largest of several shares of what it can take: requests that wait
there, its KV cache, the time that its unanswered prompts need. The first two are the server's
own words and count only while they are fresh; the last is counted by us, request by request. So
a scrape that fails, or comes late, or lies, makes the picture coarser and stops nothing:

Invariant: an endpoint at which we and our siblings have nothing under way has usage 0. Whatever
the metrics say, one request goes there, and how that fares is news.
"""

from typing import Final

import numpy as np

from tidegate.picker.flow.control import Look
from tidegate.picker.flow.settings import Saturation
from tidegate.picker.pool import Pool
from tidegate.picker.state import EndpointState
from tidegate.picker.vectors import Slots, Vector

FEW: Final = 12
"""Endpoints up to which numbers are looked at one by one."""
MATERIAL: Final = 2048
"""Prompt tokens below which no time that they are expected to take makes a server full: where
prompts are short, what is slow is something else."""
STEP: Final = 0.125
"""What a request is taken to add to an endpoint's usage until that is looked at again."""


class PoolRoom:
    """The room of one pool."""

    __slots__ = ("_pool", "_settings", "_stale_after_s")

    def __init__(self, pool: Pool, settings: Saturation) -> None:
        self._pool = pool
        self._settings = settings
        self._stale_after_s = settings.stale_after_s

    def use(self, settings: Saturation) -> None:
        """Go by other thresholds."""
        self._settings = settings
        self._stale_after_s = settings.stale_after_s

    def look(self, now: float, limit: float) -> Look:
        """Return the room at `now`; `spare` is counted up to the usage `limit`."""
        pool, most = self._pool, self._settings.max_concurrency
        if not pool.size:
            return Look(0.0, 0)  # nothing to protect: the pick says that nobody is there
        step = STEP if most is None else max(STEP, 1.0 / most)
        if pool.size <= FEW:
            usages = self._usages(now)
            return Look(min(usages), sum(int((limit - u) / step) for u in usages if u < limit))
        usage = self.usage(now)
        spare = np.floor((limit - usage) / step)
        return Look(float(usage.min()), int(spare[spare > 0].sum()))

    def usage(self, now: float) -> Vector:
        """Return the usage of each endpoint that is well; of all, where none is."""
        pool = self._pool
        at = pool.at
        well = pool.usable_from[at] <= now
        if well.any():
            at = pool.narrow(at, well)
        usage = np.maximum(self._told(at, now), self._counted(at))
        usage[pool.requests[at] == 0] = 0.0
        return usage

    def _usages(self, now: float) -> list[float]:
        """Return the same as `usage`, one by one: for a few that takes a tenth of the time."""
        seats = [(n, one.state) for n, one in enumerate(self._pool.endpoints) if one is not None]
        well = [seat for seat in seats if seat[1].usable_from <= now]
        return [self._usage_of(slot, state, now) for slot, state in well or seats]

    def _usage_of(self, slot: int, state: EndpointState, now: float) -> float:
        pool, settings, siblings = self._pool, self._settings, state.siblings
        if not state.in_flight + siblings.in_flight:
            return 0.0
        pending, capacity = state.prefill + siblings.prefill, state.capacity
        told = state.sampled_at is not None and now - state.sampled_at <= self._stale_after_s
        if told:
            cache = state.kv_usage + (pending / capacity if capacity else 0.0)
        else:
            cache = (state.tokens + siblings.tokens) / capacity if capacity else 0.0
        queue = max(0, state.load - state.running) if told and state.waiting else 0
        usage = max(
            cache / settings.kv_cache_util_threshold, queue / settings.queue_depth_threshold
        )
        model = pool.latency
        if model is None:
            usage = max(usage, pending / settings.prefill_tokens)
        else:
            token, itl = model.coefficients[0][1], model.coefficients[1]
            seconds = pending * token * float(model.ttft_factors.expected[slot])
            usage = max(usage, min(seconds / settings.prefill_seconds, pending / MATERIAL))
            if settings.itl_seconds is not None:
                between = (itl[0] + itl[1] * (state.load + 1.0)) * float(
                    model.itl_factors.expected[slot]
                )
                usage = max(usage, between / settings.itl_seconds)
        most = settings.max_concurrency
        return usage if most is None else max(usage, state.load / most)

    def _told(self, at: Slots, now: float) -> Vector:
        """Return what the servers say, with our own requests since then."""
        pool, settings = self._pool, self._settings
        fresh = now - pool.sampled_at[at] <= self._stale_after_s
        capacity = pool.capacity[at]
        known = capacity > 0
        room = np.where(known, capacity, 1.0)
        coming = np.where(known, pool.pending[at] / room, 0.0)
        held = np.where(known, pool.tokens[at] / room, 0.0)
        cache = np.where(fresh, pool.kv_usage[at] + coming, held)
        queue = np.where(fresh, pool.queue[at], 0.0)
        told: Vector = np.maximum(
            cache / settings.kv_cache_util_threshold, queue / settings.queue_depth_threshold
        )
        return told

    def _counted(self, at: Slots) -> Vector:
        """Return what we count ourselves."""
        pool, settings = self._pool, self._settings
        pending = pool.pending[at]
        model = pool.latency
        if model is None:
            counted: Vector = pending / settings.prefill_tokens
        else:
            seconds = model.prefill(pending, model.ttft_factors.expected[at])
            counted = np.minimum(seconds / settings.prefill_seconds, pending / MATERIAL)
            if settings.itl_seconds is not None:
                itl = model.itl(pool.load[at] + 1.0, model.itl_factors.expected[at])
                counted = np.maximum(counted, itl / settings.itl_seconds)
        if settings.max_concurrency is not None:
            counted = np.maximum(counted, pool.load[at] / settings.max_concurrency)
        return counted
