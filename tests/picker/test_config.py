"""An EndpointPickerConfig: upstream's own files are understood, and mistakes have a place."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from tidegate.api.errors import FieldError
from tidegate.picker.config import (
    NOT_NEEDED,
    compile_config,
    default_scheduler,
    parse_config,
    simple_scheduler,
)
from tidegate.picker.filters import FILTERS
from tidegate.picker.filters.healthy import HealthyFilter
from tidegate.picker.filters.model import ModelFilter
from tidegate.picker.pickers import PICKERS
from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.prefix import PrefixSettings
from tidegate.picker.reference import plugins_page
from tidegate.picker.scorers import SCORERS

UPSTREAM = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
featureGates: [prepareDataPlugins]
plugins:
- type: single-profile-handler
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
  name: prefixes
  parameters: {blockSizeTokens: 16, lruCapacityPerServer: 41000, autoTune: false}
- type: metrics-data-source
  parameters: {scheme: http}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2.5}
  - {pluginRef: prefixes, weight: 3}
  - {pluginRef: max-score-picker}
"""
ROLES = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: disagg-profile-handler
  parameters: {deciders: {prefill: prefix-based-pd-decider}}
- type: prefix-based-pd-decider
  parameters: {nonCachedTokens: 16}
- type: disagg-headers-handler
- type: prefill-filter
- type: decode-filter
- type: queue-scorer
- type: prefix-cache-scorer
- type: max-score-picker
schedulingProfiles:
- name: prefill
  plugins: [{pluginRef: prefill-filter}, {pluginRef: queue-scorer}, {pluginRef: max-score-picker}]
- name: decode
  plugins: [{pluginRef: decode-filter}, {pluginRef: prefix-cache-scorer, weight: 2}]
"""


def plugins(*lines, profiles=""):
    return parse_config("plugins:\n" + "".join(f"- {line}\n" for line in lines) + profiles)


def using(reference):
    profile = f"{{name: d, plugins: [{{pluginRef: {reference}}}]}}"
    return f"plugins: [{{type: queue-scorer}}]\nschedulingProfiles: [{profile}]"


def test_upstreams_config_is_understood():
    scheduler = parse_config(UPSTREAM)
    weights = {each.name: each.weight for each in scheduler.profile.scorers}
    assert weights == {"queue-scorer": 2, "kv-cache-utilization-scorer": 2.5, "prefixes": 3}
    assert scheduler.prefix == PrefixSettings(
        block_size_tokens=16, lru_capacity_per_server=41000, auto_tune=False
    )
    assert scheduler.latency is None
    assert isinstance(scheduler.profile.picker, MaxScorePicker)


def test_health_and_residency_are_filtered_whatever_the_config_says():
    kinds = [type(each) for each in parse_config(UPSTREAM).profile.filters]
    assert kinds == [HealthyFilter, ModelFilter]
    own = plugins("{type: model-filter}", "{type: queue-scorer}").profile.filters
    assert [type(each) for each in own] == [HealthyFilter, ModelFilter]


def test_roles_are_understood():
    scheduler = parse_config(ROLES)
    assert scheduler.roles is not None
    assert scheduler.roles.decider.non_cached_tokens == 16
    assert [each.name for each in scheduler.profile.scorers] == ["prefix-cache-scorer"]
    assert [each.name for each in scheduler.roles.prefill.scorers] == ["queue-scorer"]


def test_a_handler_without_a_decider_never_makes_pairs():
    assert (
        parse_config(ROLES.replace("{deciders: {prefill: prefix-based-pd-decider}}", "{}")).roles
        is None
    )


def test_without_profiles_all_plugins_make_one():
    profile = plugins("{type: queue-scorer}", "{type: random-picker}").profile
    assert [each.name for each in profile.scorers] == ["queue-scorer"]
    assert isinstance(profile.picker, PICKERS["random-picker"])


def test_a_scorer_of_weight_0_costs_nothing():
    uses = "schedulingProfiles:\n- {name: d, plugins: [{pluginRef: queue-scorer, weight: 0}]}\n"
    assert plugins("{type: queue-scorer}", profiles=uses).profile.scorers == ()


@pytest.mark.parametrize("kind", sorted(NOT_NEEDED))
def test_upstreams_plugins_for_what_is_always_done_have_no_effect(kind):
    scheduler = plugins(f"{{type: {kind}, parameters: {{any: thing}}}}", "{type: queue-scorer}")
    assert [each.name for each in scheduler.profile.scorers] == ["queue-scorer"]


@pytest.mark.parametrize("kind", sorted({**FILTERS, **SCORERS, **PICKERS}.keys() - {"by-label"}))
def test_every_plugin_can_be_named(kind):
    scheduler = plugins(f"{{type: {kind}}}")
    used = [*scheduler.profile.filters, *(each.scorer for each in scheduler.profile.scorers)]
    used.append(scheduler.profile.picker)
    assert {**FILTERS, **SCORERS, **PICKERS}[kind] in map(type, used)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("plugins: [{type: queue-scorrer}]", "plugins[0].type"),
        ("plugins: [{type: queue-scorer}, {type: queue-scorer}]", "plugins[1].name"),
        (
            "plugins: [{type: least-load-scorer, parameters: {halfAt: 0}}]",
            "plugins[0].parameters.halfAt",
        ),
        ("plugins: [{type: least-load-scorer, parameters: {half: 1}}]", "plugins[0].parameters"),
        ("plugins: [{type: queue-scorer, weight: 3}]", "plugins[0]"),
        (using("queue"), "schedulingProfiles[0].plugins[0].pluginRef"),
        (using("queue-scorer, weight: -1"), "schedulingProfiles[0].plugins[0].weight"),
        ("plugins: [{type: random-picker}, {type: max-score-picker}]", "plugins"),
        ("schedulingProfiles: [{name: a}, {name: b}]", "schedulingProfiles"),
        ("kind: Pod", "kind"),
        ("apiVersion: v1", "apiVersion"),
        ("plugins: 3", "plugins"),
        ("[]", ""),
        ("{", ""),
        (ROLES.replace("name: decode", "name: dec"), "schedulingProfiles"),
        (ROLES.replace("prefill: prefix-based-pd-decider", "prefill: queue-scorer"), "plugins"),
    ],
)
def test_mistakes_have_a_place(text, where):
    with pytest.raises(FieldError) as caught:
        parse_config(text)
    assert caught.value.path == where


def test_equal_configs_are_equal():
    assert parse_config(UPSTREAM) == parse_config(UPSTREAM)
    assert default_scheduler() == default_scheduler() != simple_scheduler()


def test_only_schedulers_that_look_at_prompts_have_them_hashed():
    assert default_scheduler().reads_prompts
    assert parse_config(UPSTREAM).reads_prompts
    assert not simple_scheduler().reads_prompts
    assert not plugins("{type: queue-scorer}", "{type: session-affinity-scorer}").reads_prompts
    tokens = plugins("{type: token-load-scorer}")
    assert tokens.reads_prompts
    assert tokens.prefix is None


def test_a_config_may_come_as_json():
    scheduler = parse_config(yaml.safe_dump(yaml.safe_load(UPSTREAM), default_flow_style=True))
    assert scheduler == parse_config(UPSTREAM)
    assert compile_config(scheduler.spec) == scheduler


def test_parameters_have_upstreams_spelling():
    text = "{type: prefix-cache-affinity-filter, parameters: {maxTTFTPenaltyMs: 0}}"
    (sticky,) = (f for f in plugins(text).profile.filters if hasattr(f, "affinity_threshold"))
    assert sticky.max_ttft_penalty_ms == 0
    assert plugins("{type: no-hit-lru-scorer, parameters: {lruSize: 2048}}").prefix is not None


@pytest.mark.parametrize("kind", sorted({**FILTERS, **SCORERS, **PICKERS}))
def test_every_plugin_and_parameter_is_in_the_reference(kind):
    page = plugins_page()
    _, _, entry = page.partition(f"### `{kind}`\n")
    entry = entry.partition("\n### ")[0]
    assert len(entry) > 40
    for field in msgspec.structs.fields({**FILTERS, **SCORERS, **PICKERS}[kind]):
        start = f"| `{field.encode_name}`"
        (row,) = (line for line in entry.splitlines() if line.startswith(start))
        assert len(row.split("|")[4].strip()) > 8


def test_the_configs_of_the_documentation_are_understood():
    page = (Path(__file__).parents[2] / "docs/picking.md").read_text()
    found = []
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        for document in yaml.safe_load_all(block.replace("spec: ...", "")):
            texts = document.get("data", {}).values()
            found += [*texts, *([yaml.safe_dump(document)] if "plugins" in document else [])]
    assert len(found) == 2
    assert all(parse_config(text) for text in found)
