"""Real vLLM servers die, stop and never start: only what they had in their hands may break."""

from tests_vllm import failures
from tests_vllm.place import Place


def test_a_killed_server_breaks_its_own_streams_only_and_comes_back(place: Place):
    failures.killed(place)


def test_a_stopped_server_finishes_what_it_has(place: Place):
    failures.stopped(place)


def test_a_server_that_never_becomes_ready_says_why_and_gets_no_request(place: Place):
    failures.never_ready(place)
