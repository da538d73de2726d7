"""The engine in virtual time: nothing here waits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.simulator.engine import Engine
from tidegate.simulator.errors import SettingsError
from tidegate.simulator.jobs import Job, Pace, Progress, Running
from tidegate.simulator.profiles import PROFILES, Profile

DEMO = PROFILES["demo"]

profiles = st.builds(
    Profile,
    step_s=st.sampled_from([0.0, 0.01]),
    sequence_s=st.sampled_from([0.0, 0.001]),
    token_s=st.sampled_from([0.0, 0.0001]),
    weights_s=st.sampled_from([0.0, 0.005]),
    context_token_s=st.sampled_from([0.0, 1e-6]),
    pair_s=st.sampled_from([0.0, 1e-7]),
    max_num_seqs=st.integers(1, 5),
    max_num_batched_tokens=st.integers(5, 64),
    max_model_len=st.just(128),
    blocks=st.integers(8, 24),  # 128 tokens just fit: preemption happens
    block_size=st.just(16),
)
jobs = st.builds(
    Job,
    prompt_tokens=st.integers(1, 64),
    output_tokens=st.integers(1, 64),
    prefix=st.just(()),
)


@st.composite
def jobs_with_prefixes(draw):
    job = draw(jobs)
    family = draw(st.integers(0, 2))
    return replace(job, prefix=tuple((family, n) for n in range(job.prompt_tokens // 16)))


arrivals = st.lists(st.tuples(st.floats(0, 0.5), jobs_with_prefixes()), min_size=1, max_size=12)


def play(engine: Engine, work: list[tuple[float, Job]], watch=lambda: None) -> list[Progress]:
    """Run `work` to its end in virtual time."""
    made: list[Progress] = []
    for at, job in sorted(work, key=lambda one: one[0]):
        while engine.next_at is not None and engine.next_at <= at:
            made += engine.advance(engine.next_at)
            watch()
        engine.submit(job, at)
        watch()
    while engine.next_at is not None:
        made += engine.advance(engine.next_at)
        watch()
    return made


@given(profiles, arrivals)
def test_every_request_gets_exactly_its_tokens(profile, work):
    made = play(Engine(profile), work)
    tokens = {}
    for one in made:
        tokens[one.sequence] = tokens.get(one.sequence, 0) + one.tokens
    assert len(tokens) == len(work)
    assert all(count == sequence.job.output_tokens for sequence, count in tokens.items())


@given(profiles, arrivals)
def test_times_never_go_back(profile, work):
    made = play(Engine(profile), work)
    times = [one.at for one in made]
    assert times == sorted(times)
    for one in made:
        sequence = one.sequence
        assert sequence.arrived_at <= sequence.admitted_at <= sequence.first_token_at <= one.at


@given(profiles, arrivals)
def test_limits_hold_at_all_times(profile, work):
    engine = Engine(profile)

    def watch():
        assert len(engine.running) <= profile.max_num_seqs
        assert 0 <= engine.cache.usage <= 1

    play(engine, work, watch)
    assert not engine.running
    assert not engine.waiting
    assert engine.cache.used == 0


@given(profiles, arrivals)
def test_the_same_work_gives_the_same_times(profile, work):
    first, second = (
        [(one.at, one.tokens) for one in play(Engine(profile), work)] for _ in range(2)
    )
    assert first == second


@given(profiles, arrivals, st.data())
def test_aborting_frees_everything(profile, work, data):
    engine = Engine(profile)
    sequences = [engine.submit(job, 0.0) for _, job in work]
    for sequence in data.draw(st.permutations(sequences)):
        if engine.next_at is not None and data.draw(st.booleans()):
            engine.advance(engine.next_at)
        engine.abort(sequence)
    assert engine.cache.used == 0
    assert engine.next_at is None


def test_a_lone_request_waits_for_its_prefill_and_then_one_step_a_token():
    made = play(Engine(DEMO), [(0.0, Job(80, 3))])
    assert made[0].at == pytest.approx(0.014 + 80 / 16_000)
    assert [one.gap for one in made[1:]] == pytest.approx([0.0141, 0.0141])


def test_a_fuller_batch_decodes_slower():
    def gap(batch: int) -> float:
        return play(Engine(DEMO), [(0.0, Job(1, 50))] * batch)[-1].gap

    assert gap(1) < gap(16) < gap(64)


def test_requests_beyond_the_batch_wait_in_order():
    engine = Engine(replace(DEMO, max_num_seqs=2))
    first, second, third = (engine.submit(Job(10, 5), 0.0) for _ in range(3))
    engine.advance(engine.next_at)
    assert engine.running == [first, second]
    assert list(engine.waiting) == [third]
    play(engine, [])
    assert third.admitted_at >= first.last_token_at


def test_a_known_prefix_is_not_prefilled_again():
    engine = Engine(DEMO)
    job = Job(160, 1, prefix=tuple(range(10)))
    cold, warm = play(engine, [(0.0, job), (1.0, job)])
    assert cold.sequence.cached_tokens == 0
    assert warm.sequence.cached_tokens == 159  # the last token is always computed
    assert warm.at - 1.0 < cold.at
    assert engine.totals.prefix_hits == 159


def test_a_long_prompt_is_prefilled_in_chunks_while_others_decode():
    engine = Engine(replace(DEMO, max_num_batched_tokens=100))
    made = play(engine, [(0.0, Job(10, 20)), (0.02, Job(500, 1))])
    long = next(one for one in made if one.sequence.job.prompt_tokens == 500)
    before = [one for one in made if one.at < long.at and one.sequence is not long.sequence]
    assert len(before) >= 5


def test_a_full_cache_pushes_out_the_youngest_which_finishes_later():
    engine = Engine(replace(DEMO, blocks=10, max_model_len=160))
    old, young = engine.submit(Job(60, 60), 0.0), engine.submit(Job(60, 60), 0.0)
    play(engine, [])
    assert engine.totals.preemptions == 1
    assert old.last_token_at < young.last_token_at
    assert young.generated == 60


def test_pace_slows_first_tokens_and_later_ones_apart():
    def times(pace: Pace) -> tuple[float, float]:
        made = play(Engine(DEMO, pace=pace), [(0.0, Job(80, 2))])
        return made[0].at, made[1].gap

    ttft, itl = times(Pace())
    assert times(Pace(ttft=3)) == pytest.approx((3 * ttft, itl))
    assert times(Pace(itl=3)) == pytest.approx((ttft, 3 * itl))


def test_a_late_caller_does_not_make_the_engine_hurry():
    engine = Engine(DEMO)
    engine.submit(Job(1, 1000), 0.0)
    assert sum(one.tokens for one in engine.advance(10.0)) <= 3


def test_instant_steps_make_all_tokens_in_one_go():
    engine = Engine(PROFILES["instant"])
    engine.submit(Job(100, 500), 1.0)
    made = engine.advance(1.0)
    assert [one.tokens for one in made] == [1, 499]


def test_a_job_that_can_never_fit_is_refused():
    with pytest.raises(SettingsError, match="at most 128 tokens"):
        Engine(replace(DEMO, blocks=8)).submit(Job(100, 100), 0.0)


# The coarse engine, which takes many steps as one, against the fine one.

slow_profiles = profiles.filter(lambda one: not one.instant)


class Course:
    """Runs work through an engine; aborts and looks at given times."""

    def __init__(self, profile, coarse: bool) -> None:
        self.engine = Engine(profile, coarse=coarse)
        self.sequences: list[Running] = []
        self.told: dict[Running, list[tuple[int, float]]] = {}
        self.seen: list[tuple] = []

    def until(self, at: float) -> None:
        while self.engine.next_at is not None and self.engine.next_at <= at:
            for one in self.engine.advance(self.engine.next_at):
                self.told.setdefault(one.sequence, []).append((one.first + one.tokens, one.at))

    def play(self, work, aborts=()) -> None:
        events = [(at, 0, job) for at, job in work] + [(at, 1, n) for at, n in aborts]
        for number, (at, kind, what) in enumerate(sorted(events, key=lambda one: one[:2])):
            # All durations are multiples of 0.1 us: no event may meet a step's end, for there
            # the two would differ by rounding alone.
            at = round(at, 4) + number * 3.7e-9
            self.until(at)
            engine = self.engine
            self.seen.append((len(engine.running), len(engine.waiting), *engine.counted(at)))
            if kind == 0:
                self.sequences.append(engine.submit(what, at))
            elif what < len(self.sequences):
                engine.abort(self.sequences[what], at)
        self.until(float("inf"))


@given(slow_profiles, arrivals, st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 11))))
def test_a_coarse_engine_has_the_times_of_a_fine_one(profile, work, aborts):
    coarse, fine = Course(profile, coarse=True), Course(profile, coarse=False)
    coarse.play(work, aborts)
    fine.play(work, aborts)
    assert coarse.seen == fine.seen
    assert coarse.engine.totals == fine.engine.totals
    assert coarse.engine.cache.used == fine.engine.cache.used == 0
    for one, other in zip(coarse.sequences, fine.sequences, strict=True):
        assert one.aborted == other.aborted
        if one.aborted:
            continue
        first, last = coarse.told[one][0], coarse.told[one][-1]
        assert first == (1, pytest.approx(fine.told[other][0][1]))
        assert last == (one.job.output_tokens, pytest.approx(fine.told[other][-1][1]))


def test_a_coarse_engine_wakes_for_requests_and_not_for_tokens():
    engine = Engine(PROFILES["h100-8b"], coarse=True)
    engine.submit(Job(100, 2000), 0.0)
    wakes = 0
    while engine.next_at is not None:
        engine.advance(engine.next_at)
        wakes += 1
    assert wakes == 2


def test_blocks_are_counted_in_the_midst_of_a_run():
    engine = Engine(PROFILES["demo"], coarse=True)
    engine.submit(Job(1, 1601), 0.0)
    engine.advance(engine.next_at)
    end = engine.next_at
    assert engine.counted(0.02)[0] == 1
    assert engine.counted(end / 2)[0] == pytest.approx(50, abs=2)
    assert engine.cache.used == 1


def test_a_run_ends_before_the_blocks_do():
    profile = replace(PROFILES["demo"], blocks=12, max_model_len=192)
    coarse, fine = Course(profile, coarse=True), Course(profile, coarse=False)
    for one in (coarse, fine):
        one.play([(0.0, Job(20, 100)), (0.0, Job(30, 100))])
    assert coarse.engine.totals.preemptions == fine.engine.totals.preemptions > 0
