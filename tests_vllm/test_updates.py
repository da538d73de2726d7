"""Updates of nodes, base model and adapter on real vLLM: no request fails."""

from tests_vllm import scenarios
from tests_vllm.place import Place


def test_a_second_pool_with_other_flags_takes_over(place: Place):
    scenarios.node_update(place)


def test_a_base_model_that_lacks_what_clients_use_is_refused_until_it_is_mended(place: Place):
    scenarios.base_model_update(place)


def test_an_adapter_is_loaded_split_completed_and_undone(place: Place):
    scenarios.adapter_update(place)
