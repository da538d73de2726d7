"""What preflight says of two sides."""

from dataclasses import replace

import pytest

from tidegate.api.rollout import FindingStatus
from tidegate.rollout.facts import AdapterFacts, EndpointFacts, Facts, PoolFacts, TrafficFacts
from tidegate.rollout.plan import plan_of
from tidegate.rollout.preflight import preflight
from tidegate.testing.rollouts import admitted


def endpoint(address: str = "a:1", **changes: object) -> EndpointFacts:
    plain = EndpointFacts(
        address=address,
        models=("base", "chat"),
        adapters=frozenset({"food"}),
        max_model_len=8192,
        tokenizer="t1",
        chat_template="c1",
        features={"tools": True},
        max_lora_rank=16,
    )
    return replace(plain, **changes)


def facts(kind: str = "Node", canary: object = None, **changes: object) -> Facts:
    spec = {"type": kind, "stable": "llm", "canary": "llm-new", "waivers": ["Tokenizer"]}
    endpoints = canary if isinstance(canary, tuple) else (canary or endpoint("b:1"),)
    pool = PoolFacts(name="llm-new", accepted=True, endpoints=endpoints)
    plain = Facts(
        plan=plan_of(admitted(spec)),
        stable=PoolFacts(name="llm", accepted=True, endpoints=(endpoint(),)),
        canary=canary if isinstance(canary, PoolFacts) else pool,
        stable_weight=100,
        first_weight=5,
    )
    return replace(plain, **changes)


def names(found: tuple[FindingStatus, ...]) -> list[tuple[str, str]]:
    return [(each.name, each.severity) for each in found]


def test_two_equal_sides_pass_in_silence():
    assert preflight(facts()) == ()
    assert preflight(facts("BaseModel")) == ()


@pytest.mark.parametrize(
    ("given", "name", "severity", "words"),
    [
        (facts(canary=PoolFacts(name="llm-new", exists=False)), "CanaryPool", "Block", "Create"),
        (
            facts(canary=PoolFacts(name="llm-new", accepted=False, endpoints=(endpoint("b:1"),))),
            "PoolAccepted",
            "Block",
            "not accepted",
        ),
        (facts(stable_weight=0), "StableServes", "Block", "mixed up"),
        (facts(canary=()), "ReadyEndpoints", "Block", "No endpoint of llm-new"),
        (facts(canary=endpoint("b:1", problem="it refused")), "ReadyEndpoints", "Block", "it ref"),
        (facts(canary=endpoint("b:1", models=("base",))), "ModelsServed", "Block", "chat"),
        (facts(canary=endpoint("b:1", adapters=frozenset())), "AdaptersServed", "Block", "food"),
        (facts(canary=endpoint("b:1", max_model_len=4096)), "ContextLength", "Block", "4096"),
        (facts(canary=endpoint("b:1", chat_template="c2")), "ChatTemplate", "Block", "renders"),
        (facts(canary=endpoint("b:1", features={"tools": False})), "Features", "Warn", "tools"),
        (facts(cap=3), "Capacity", "Block", "3 %"),
        (facts(cap=40, cap_message="it is small"), "Capacity", "Warn", "it is small"),
        (facts(coarse=True), "WeightResolution", "Block", "100"),
        (
            facts("BaseModel", endpoint("b:1", chat_template="c2")),
            "ChatTemplate",
            "Warn",
            "renders",
        ),
    ],
)
def test_each_difference_is_found_and_can_be_mended(given, name, severity, words):
    found = preflight(given)
    assert names(found) == [(name, severity)]
    assert words in f"{found[0].message} {found[0].mend}"


def test_only_some_endpoints_of_the_canary_are_named():
    canary = (endpoint("b:1"), endpoint("b:2", models=("base",)))
    (found,) = preflight(facts(canary=canary))
    assert "not by b:2 of llm-new" in found.message


def test_another_base_has_another_name_of_its_own():
    canary = endpoint("b:1", models=("base-2", "chat"))
    assert names(preflight(facts(canary=canary))) == [("ModelsServed", "Block")]
    assert names(preflight(facts("BaseModel", canary))) == [("ModelsServed", "Info")]
    asked = TrafficFacts(models=frozenset({"base"}))
    found = preflight(facts("BaseModel", canary, traffic=asked))
    assert names(found) == [("ModelsServed", "Block")]


def test_lengths_are_held_against_real_requests():
    short = endpoint("b:1", max_model_len=4096)
    seen = preflight(facts(canary=short, traffic=TrafficFacts(longest=4097)))
    assert names(seen) == [("ContextLength", "Block")]
    seen = preflight(facts(canary=short, traffic=TrafficFacts(longest=4096)))
    assert names(seen) == [("ContextLength", "Warn")]


def test_a_feature_that_requests_use_blocks():
    canary = endpoint("b:1", features={"tools": False})
    used = TrafficFacts(features=frozenset({"tools"}))
    assert names(preflight(facts(canary=canary, traffic=used))) == [("Features", "Block")]


def test_what_is_unknown_is_not_judged():
    unknown = EndpointFacts(address="b:1", adapters=frozenset({"food"}))
    assert preflight(facts(canary=unknown)) == ()


def test_a_waiver_shows_and_no_longer_blocks():
    (found,) = preflight(facts(canary=endpoint("b:1", tokenizer="t2")))
    assert (found.name, found.severity, found.waived) == ("Tokenizer", "Block", True)


def adapters(config: AdapterFacts | None = None, **changes: object) -> Facts:
    spec = {"type": "Adapter", "stable": "v1", "canary": "v2"}
    pool = PoolFacts(name="llm", endpoints=(endpoint(adapters=frozenset({"v1", "v2"}), **changes),))
    return Facts(
        plan=plan_of(admitted(spec)),
        stable=pool,
        canary=pool,
        adapter=config,
        base_models=frozenset({"base"}),
        supported_modules=frozenset({"q_proj", "v_proj"}),
    )


GOOD = AdapterFacts(base_model="base", rank=16, target_modules=frozenset({"q_proj"}))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (replace(GOOD, base_model="other"), "AdapterBase"),
        (replace(GOOD, rank=64), "AdapterRank"),
        (replace(GOOD, modules_to_save=frozenset({"lm_head"})), "AdapterModules"),
        (replace(GOOD, target_modules=frozenset({"gate"})), "AdapterModules"),
    ],
)
def test_an_adapter_must_fit_its_servers(config: AdapterFacts, name: str):
    assert preflight(adapters(GOOD)) == ()
    assert names(preflight(adapters(config))) == [(name, "Block")]


@pytest.mark.parametrize(
    ("base", "served", "severity"),
    [
        ("meta-llama/Llama-3.1-8B", "/models/Llama-3.1-8B", ""),
        ("unsloth/llama-3.1-8b", "meta-llama/Llama-3.1-8B", ""),
        ("m/8B", "/root/.cache/huggingface/hub/models--m--8B/snapshots/0a1b", ""),
        ("/scratch/me/8B/", "m/8B", ""),
        ("m/8B", "/models/production", "Warn"),
        ("/scratch/me/checkpoint-9", "m/8B", "Warn"),
        ("m/8B", "m/70B", "Block"),
    ],
)
def test_a_base_model_goes_by_several_names(base: str, served: str, severity: str):
    facts = adapters(replace(GOOD, base_model=base))
    found = preflight(replace(facts, base_models=frozenset({served, "chat"})))
    assert [each.severity for each in found] == [severity] * bool(severity)


def test_both_adapters_must_be_loaded():
    found = preflight(replace(adapters(), canary=PoolFacts(name="llm", endpoints=(endpoint(),))))
    assert names(found) == [("AdaptersServed", "Block")] * 2
    assert "canaryPath" in found[1].mend
