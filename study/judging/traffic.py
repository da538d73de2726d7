"""Synthetic traffic with everything that misleads judges, as blocks.

Sessions arrive at random and send a few requests each; a session has its own pace and its own
prompt lengths. Both arms share the hour's load; each arm has queues of its own. What a request
would meet on either arm is drawn before its arm is known, so an equal canary is equal.

Blocks tell at once how requests ended, but that clients gave up only when they do.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from tidegate.judge.block import Block, Place
from tidegate.judge.histogram import FIRST_BIN, PER_DOUBLING, bin_of

BEFORE_S = 1200.0
"""Stable traffic before the rollout: blocks are always folded."""


@dataclass(frozen=True)
class Harm:
    """What is wrong with the canary."""

    ttft: float = 1.0
    tail: float = 1.0
    """TTFT of its slowest tenth."""
    itl: float = 1.0
    errors: float = 0.0
    """Share of requests that fail, besides the base rate."""


@dataclass(frozen=True)
class World:
    """A kind of traffic."""

    name: str = "independent"
    rate: float = 4.0
    hours: float = 2.0
    sigma: float = 0.6
    """Log-sd of TTFT among alike requests."""
    heavy: bool = False
    """Pareto tails instead of log-normal ones."""
    per_session: float = 1.0
    """Requests of a session, on average."""
    session_gap_s: float = 40.0
    session_sigma: float = 0.0
    """Log-sd between sessions."""
    wave: float = 0.0
    """Amplitude of a two-hour wave of load (in TTFT and in rate)."""
    ramp: float = 1.0
    """TTFT at the end, times that of the beginning."""
    burst: float = 0.0
    """Share of the time that an arm is in a burst of its own (mean length 30 s)."""
    burst_times: float = 8.0
    shock: float = 0.0
    """Log-sd of an arm's own slow wandering (memory 2 minutes)."""
    base_errors: float = 0.002
    missing: float = 0.0
    """Share of blocks that get lost."""
    restart: bool = False
    """Every ten minutes one of two workers loses half a minute."""
    impatient: float = 0.0
    """Share of the clients that leave after `patience_s` without a first byte."""
    patience_s: float = 5.0
    span_s: float = 10.0
    """Of a block."""
    harm: Harm = field(default_factory=Harm)

    def with_harm(self, **harm: float) -> "World":
        return replace(self, harm=Harm(**harm))


HISTOGRAMS = ("ttft", "itl", "per_token", "output")
WIDTH = 4096
STRATA = np.array([1, 3, 5, 7, 9, 13])
STRATUM_SHARE = np.array([0.25, 0.15, 0.25, 0.1, 0.15, 0.1])
STRATUM_TTFT = np.array([0.15, 0.1, 0.3, 0.12, 0.8, 2.2])


class Traffic:
    """One run's requests, to be dealt to arms as weights say."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world = world
        self.duration = BEFORE_S + world.hours * 3600
        self.at, self.session = self._arrivals(rng)
        n = len(self.at)
        sessions = int(self.session.max(initial=0)) + 1
        self.point = rng.random(sessions)[self.session]
        self.hash = rng.integers(1, 2**63, sessions)[self.session]
        self.kind = rng.choice(len(STRATA), sessions, p=STRATUM_SHARE)[self.session]
        personal = rng.normal(0, world.session_sigma, sessions)[self.session]
        noise = rng.normal(0, world.sigma, n)
        if world.heavy:
            noise = np.log(rng.pareto(2.2, n) + 1) * world.sigma * 2
        load = self._load(self.at)
        self.ttft = np.log(STRATUM_TTFT[self.kind]) + noise + personal + load
        self.slow_tenth = rng.random(n) < 0.1
        self.itl = np.log(0.025) + rng.normal(0, 0.25, n) + 0.3 * load + 0.3 * personal
        self.output = np.maximum(1, rng.lognormal(5, 0.8, n)).astype(int)
        self.luck = rng.random(n)
        bins = int(self.duration / self.world.span_s) + 1
        self.own = {arm: self._own(rng, bins) for arm in ("stable", "canary")}
        self.lost = rng.random((2, bins)) < world.missing
        self.half = rng.random(n) < 0.5
        self.impatient = (rng.random(sessions) < world.impatient)[self.session]
        self.leaving: dict[int, list[Block]] = {}
        """Clients that have yet to give up, by the bucket in which they do."""
        self.codes = {arm: self._codes(arm) for arm in self.own}
        self.edges = np.searchsorted(self.at, np.arange(bins + 1) * self.world.span_s)

    def _arrivals(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        world = self.world
        expected = world.rate * self.duration / world.per_session
        starts = rng.uniform(-600, self.duration, rng.poisson(expected * (1 + 600 / self.duration)))
        if world.wave:
            keep = rng.random(len(starts)) < (
                1 + world.wave * np.sin(starts / 7200 * 2 * np.pi)
            ) / (1 + world.wave)
            starts = starts[keep]
        sizes = rng.geometric(1 / world.per_session, len(starts))
        session = np.repeat(np.arange(len(starts)), sizes)
        gaps = rng.exponential(world.session_gap_s, len(session))
        first = np.cumsum(sizes) - sizes
        gaps[first] = 0
        total = np.cumsum(gaps)
        at = np.repeat(starts, sizes) + total - np.repeat(total[first], sizes)
        inside = (at >= 0) & (at < self.duration)
        order = np.argsort(at[inside], kind="stable")
        return at[inside][order], session[inside][order]

    def _load(self, at: np.ndarray) -> np.ndarray:
        world = self.world
        rising = np.log(world.ramp) * np.clip((at - BEFORE_S) / (self.duration - BEFORE_S), 0, 1)
        return rising + world.wave * np.sin(at / 7200 * 2 * np.pi)

    def _own(self, rng: np.random.Generator, bins: int) -> np.ndarray:
        """Return the arm's own log factor of each bucket, 1 on average."""
        world, own = self.world, np.zeros(bins)
        if world.shock:
            keep = np.exp(-self.world.span_s / 120)
            state = rng.normal()
            for i in range(bins):
                own[i] = world.shock * state
                state = keep * state + np.sqrt(1 - keep**2) * rng.normal()
        if world.burst:
            state = False
            leave = self.world.span_s / 30
            enter = leave * world.burst / (1 - world.burst)
            for i in range(bins):
                state = rng.random() < (1 - leave if state else enter)
                own[i] += np.log(world.burst_times) * state
        return own

    def _codes(self, arm: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what each request would meet on `arm`.

        These are bins of four histograms, whether it fails, and whether its client leaves before.
        """
        world, harm = self.world, self.world.harm
        ttft = self.ttft + self.own[arm][(self.at / self.world.span_s).astype(int)]
        itl, errors = self.itl, world.base_errors
        if arm == "canary":
            ttft = ttft + np.log(harm.ttft) + np.log(harm.tail) * self.slow_tenth
            itl = itl + np.log(harm.itl)
            errors += harm.errors
        made = np.log(self.output)
        per_token = np.log(np.exp(ttft) + self.output * np.exp(itl)) - made
        bins = np.stack([ttft, itl, per_token, made]) * (PER_DOUBLING / np.log(2))
        bins = np.maximum(np.floor(bins).astype(np.int64), FIRST_BIN) - FIRST_BIN
        which = np.arange(4)[:, None] + 4 * self.kind[None, :]
        failed = self.luck < errors
        left = self.impatient & (ttft > np.log(world.patience_s)) & ~failed
        return which * WIDTH + bins, failed, left

    def blocks(self, index: int, weight: float) -> list[Block]:
        """Return bucket `index`'s blocks with `weight` (0..1) for the canary."""
        low, high = self.edges[index], self.edges[index + 1]
        canary = self.point[low:high] < weight
        found = []
        for arm, mask in (("canary", canary), ("stable", ~canary)):
            if self.lost[int(arm == "canary"), index]:
                continue
            if self.world.restart and (index * self.world.span_s) % 600 < 30:
                mask = mask & self.half[low:high]
            where = np.flatnonzero(mask) + low
            if len(where):
                found += self._fold(where, arm, index)
        return found + self.leaving.pop(index, [])

    def _fold(self, where: np.ndarray, arm: str, index: int) -> list[Block]:
        codes, failed, left = self.codes[arm]
        bad, gone = failed[where], left[where]
        made: dict[int, Block] = {}
        for kind, is_bad, is_gone, who, at in zip(
            self.kind[where].tolist(),
            bad.tolist(),
            gone.tolist(),
            self.hash[where].tolist(),
            self.at[where].tolist(),
            strict=True,
        ):
            block = made.get(kind)
            if block is None:
                place = Place(index * self.world.span_s, "", arm, int(STRATA[kind]))
                block = made[kind] = Block(place, self.world.span_s)
            block.requests += 1
            block.sessions.append(who)
            if is_bad:
                block.bad_sessions.append(who)
            if is_gone:
                self._leave(block.place, who, at)
            else:
                block.ended += 1
        values, counts = np.unique(codes[:, where[~bad & ~gone]], return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            which, place = divmod(value, WIDTH)
            kind, histogram = divmod(which, 4)
            getattr(made[kind], HISTOGRAMS[histogram])[place + FIRST_BIN] = count
        for block in made.values():
            block.server_errors = len(block.bad_sessions)
            block.answered = block.completed = block.ended - block.server_errors
            block.sessions = sorted(set(block.sessions))[:64]
            block.bad_sessions = sorted(set(block.bad_sessions))[:64]
        return list(made.values())

    def _leave(self, place: Place, who: int, at: float) -> None:
        """Have the client of a request that began at `at` give up in time."""
        waited = bin_of(self.world.patience_s)
        block = Block(place, self.world.span_s, ended=1, abandoned=1)
        block.left, block.left_sessions = {waited: 1}, {waited: [who]}
        index = int((at + self.world.patience_s) / self.world.span_s)
        self.leaving.setdefault(index, []).append(block)
