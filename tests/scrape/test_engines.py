"""What engines' metrics say, by their own names, old and new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.state import Adapters, Sample
from tidegate.scrape.engines import ANY, ENGINES, MAX_COUNT, engine_named, read_sample

VLLM = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 5.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
"""
VLLM_OLD = VLLM.replace(b"kv_cache_usage", b"gpu_cache_usage")
SGLANG = b"""sglang:num_running_reqs{model_name="m"} 5.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.25
"""
TRTLLM = b"""trtllm_num_requests_running{model_name="m"} 5.0
trtllm_num_requests_waiting{model_name="m"} 2.0
trtllm_kv_cache_utilization{model_name="m"} 0.25
"""
TRITON = b"""nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 512
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.25
"""
SEEN = Sample(waiting=2, running=5, kv_usage=0.25)


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("vllm", VLLM),
        ("vllm", VLLM_OLD),
        ("sglang", SGLANG),
        ("trtllm", TRTLLM),
        ("triton", TRITON),
    ],
)
def test_each_engine_is_read_by_its_names(engine, text):
    assert read_sample(text, ENGINES[engine]) == SEEN
    assert read_sample(text, engine_named("")) == SEEN


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("vllm", VLLM + b'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'),
        ("sglang", SGLANG + b'sglang:cache_config_info{page_size="16",num_pages="100"} 1.0\n'),
        (
            "trtllm",
            TRTLLM + b"trtllm_kv_cache_max_blocks 100\ntrtllm_kv_cache_tokens_per_block 16\n",
        ),
        (
            "triton",
            TRITON
            + b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 100\n'
            + b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 16\n',
        ),
    ],
)
def test_each_engine_says_how_much_its_cache_holds(engine, text):
    assert read_sample(text, ENGINES[engine]).capacity == 1600


def test_a_cache_whose_size_nobody_can_read_has_none():
    for size in ("", "many", "9" * 40):
        info = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{size}"}} 1.0\n'
        assert read_sample(VLLM + info.encode(), ENGINES["vllm"]).capacity == 0


def test_adapters_in_the_accelerators_memory_are_told_from_the_others():
    text = VLLM + b"".join(
        b'vllm:lora_adapter_loaded{adapter_name="%b",level="%b"} %d\n' % one
        for one in ((b"a", b"GPU", 1), (b"b", b"CPU", 1), (b"c", b"gpu", 0))
    )
    assert read_sample(text, ENGINES["vllm"]).resident == {"a"}
    assert read_sample(VLLM, ENGINES["vllm"]).resident is None


def test_an_engine_is_not_read_by_anothers_names():
    assert read_sample(SGLANG, ENGINES["vllm"]) is None


def test_text_without_known_metrics_is_no_sample():
    assert read_sample(b"process_cpu_seconds_total 3\n", ANY) is None
    assert read_sample(b"<html>hello</html>", ANY) is None


def test_data_parallel_engines_are_added_and_the_fullest_cache_counts():
    second = VLLM.replace(b'engine="0"', b'engine="1"').replace(b"0.25", b"0.75")
    assert read_sample(VLLM + second, ENGINES["vllm"]) == Sample(4, 10, 0.75)


def test_the_newer_name_counts_where_both_are_exposed():
    both = VLLM + b"vllm:gpu_cache_usage_perc 0.99\n"
    assert read_sample(both, ENGINES["vllm"]) == SEEN


@pytest.mark.parametrize("value", [b"NaN", b"-3", b"+Inf", b"-Inf", b"many"])
def test_impossible_values_count_as_missing(value):
    text = VLLM.replace(b" 2.0", b" " + value)
    assert read_sample(text, ENGINES["vllm"]) == Sample(0, 5, 0.25)


def test_absurd_values_are_bounded():
    text = VLLM.replace(b" 2.0", b" 1e300").replace(b" 0.25", b" 17")
    assert read_sample(text, ENGINES["vllm"]) == Sample(MAX_COUNT, 5, 1.0)


def lora(running, waiting, value, limit="2"):
    return (
        f'vllm:lora_requests_info{{max_lora="{limit}",running_lora_adapters="{running}",'
        f'waiting_lora_adapters="{waiting}"}} {value}\n'
    ).encode()


def test_of_the_adapter_series_the_newest_is_true():
    text = VLLM + lora("a", "", 1.7e9) + lora("b,c", "d", 1.8e9) + lora("e", "", 1.6e9)
    sample = read_sample(text, ENGINES["vllm"])
    assert sample.adapters == Adapters(2, frozenset("bc"), frozenset("d"))


def test_adapter_labels_may_be_empty_or_broken():
    for limit, running in (("", ""), ("x", " , ,"), ("9" * 40, ""), ("\u0663x", "")):
        sample = read_sample(VLLM + lora(running, "", 1.0, limit), ENGINES["vllm"])
        assert sample.adapters == Adapters(0)
    assert read_sample(VLLM + lora("a", "", "NaN"), ENGINES["vllm"]).adapters is None


@given(st.lists(st.sampled_from([VLLM, SGLANG, lora("a", "b", 1), b"{", b'"', b"\\", b"\xff"])))
def test_no_mixture_raises(pieces):
    sample = read_sample(b"".join(pieces), ANY)
    assert sample is None or 0 <= sample.kv_usage <= 1
