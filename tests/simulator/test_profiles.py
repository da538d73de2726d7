"""Profiles against what others measured; study/simulator.py shows many more."""

import pytest

from tidegate.simulator.fleet import Fleet
from tidegate.simulator.hardware import A100_40, H100, LLAMA_8B, LLAMA_70B, Deployment
from tidegate.simulator.jobs import Job
from tidegate.simulator.profiles import DEPLOYMENTS, PROFILES, of
from tidegate.simulator.settings import Settings

NIM = of(Deployment(H100, LLAMA_70B, gpus=2, weight_bytes=1, kv_bytes=1))


def alone(profile, prompt: int, output: int):
    fleet = Fleet([profile])
    request = fleet.submit(0, Job(prompt, output))
    fleet.run()
    return request


@pytest.mark.parametrize(
    ("profile", "prompt", "output", "ttft_ms", "itl_ms"),
    [
        (NIM, 500, 2000, 47.77, 18.91),  # NVIDIA NIM 1.8.0
        (NIM, 5000, 500, 406.77, 18.58),
        (of(Deployment(A100_40, LLAMA_8B)), 1024, 128, None, 1000 / 75),  # vLLM 0.23
        (PROFILES["h100-8b"], 128, 128, None, 6.48),  # vLLM 0.21
    ],
)
def test_one_stream_is_as_fast_as_others_measured(profile, prompt, output, ttft_ms, itl_ms):
    request = alone(profile, prompt, output)
    assert request.itl_s * 1e3 == pytest.approx(itl_ms, rel=0.05)
    if ttft_ms is not None:
        assert request.ttft_s * 1e3 == pytest.approx(ttft_ms, rel=0.08)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_can_be_served(name):
    profile = PROFILES[name]
    Settings(profile=profile)
    assert alone(profile, 100, 10).outcome == "done"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_small_batches_are_bound_by_memory_and_large_ones_by_compute(name):
    profile = PROFILES[name]

    def step(batch: int) -> float:
        return profile.decode_s(batch, 100 * batch)

    assert step(8) < 1.1 * step(1)
    assert step(1024) > 2 * step(64)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_long_prompts_cost_more_than_their_share(name):
    profile = PROFILES[name]
    short, long = (alone(profile, tokens, 1).ttft_s for tokens in (2000, 8000))
    assert 4 * short < long < 8 * short


def test_a_scaled_profile_has_all_its_times_scaled():
    one, twice = PROFILES["h100-8b"], PROFILES["h100-8b"].scaled(2)
    assert alone(twice, 500, 50).ended_at == pytest.approx(2 * alone(one, 500, 50).ended_at)
    assert twice.blocks == one.blocks
