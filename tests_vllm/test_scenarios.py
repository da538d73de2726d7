"""Real vLLM servers updated, killed, stopped and broken, under load.

In updates no request fails; in failures only what a dead server had in its hands.
"""

from tests_vllm import failures, scenarios
from tests_vllm.place import Place


def test_a_second_pool_with_other_flags_takes_over(place: Place):
    scenarios.node_update(place)


def test_a_base_model_that_lacks_what_clients_use_is_refused_until_it_is_mended(place: Place):
    scenarios.base_model_update(place)


def test_an_adapter_is_loaded_split_completed_and_undone(place: Place):
    scenarios.adapter_update(place)


def test_a_killed_server_breaks_its_own_streams_only_and_comes_back(place: Place):
    failures.killed(place)


def test_a_stopped_server_finishes_what_it_has(place: Place):
    failures.stopped(place)


def test_a_server_that_never_becomes_ready_says_why_and_gets_no_request(place: Place):
    failures.never_ready(place)
